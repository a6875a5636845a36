package backendtest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// validator finds what a kernel would refuse.
type validator struct {
	*plan.Snapshot
	chains   map[string]*plan.Chain
	shapes   map[string]shape
	counters map[string]bool
	objects  map[string]bool
}

func validate(s *plan.Snapshot) error {
	v := &validator{s, map[string]*plan.Chain{}, map[string]shape{}, map[string]bool{}, map[string]bool{}}
	for i := range s.Chains {
		v.chains[s.Chains[i].Name] = &s.Chains[i]
	}
	for _, set := range s.Sets {
		v.shapes[set.Name] = decodeShape(set.Attributes)
	}
	for _, c := range s.Counters {
		v.counters[c.Name] = true
	}
	for i := range s.Objects {
		o := &s.Objects[i]
		if err := object(o); err != nil {
			return &backend.Refused{Object: o.String(), Origin: o.Origin, Err: err}
		}
		v.objects[o.String()] = true
	}
	for i := range s.Chains {
		c := &s.Chains[i]
		if err := v.chain(c); err != nil {
			return &backend.Refused{Object: "chain " + c.Name, Origin: c.Origin, Err: err}
		}
	}
	for _, set := range s.Sets {
		if i, err := v.elements(set); err != nil {
			return &backend.Refused{
				Object: fmt.Sprintf("element %x of set %s", set.Elements.KeyAt(i), set.Name),
				Origin: s.ElementOrigin(set, i), Err: err,
			}
		}
	}
	for i := range s.Chains {
		c := &s.Chains[i]
		for j := range c.Rules {
			if err := v.rule(c, decodeRule(c.Rules[j].Body)); err != nil {
				return &backend.Refused{Object: "a rule of chain " + c.Name, Origin: c.Rules[j].Origin, Err: err}
			}
		}
	}
	return nil
}

// chain refuses what no kernel attaches.
func (v *validator) chain(c *plan.Chain) error {
	h := decodeHook(c.Attributes)
	switch {
	case len(c.Name) == 0 || len(c.Name) > 255:
		return fmt.Errorf("a name of %d bytes", len(c.Name))
	case h == nil:
		return nil
	case h.Type == ruleset.TypeRoute && h.Point != ruleset.Output:
		return errUnfit
	case h.Type != ruleset.TypeFilter && h.Type != ruleset.TypeNAT && h.Type != ruleset.TypeRoute:
		return errNotThere
	case h.Type == ruleset.TypeNAT && h.Point == ruleset.Forward:
		return errUnfit
	}
	return nil
}

func (v *validator) rule(c *plan.Chain, b body) error {
	for _, m := range b.Matches {
		if m.Op == ruleset.In || m.Op == ruleset.NotIn {
			if err := v.lookup(m.Set, m.Fields); err != nil {
				return err
			}
		}
	}
	for _, do := range b.Do {
		if err := v.statement(do); err != nil {
			return err
		}
	}
	if b.Counter != "" && !v.counters[b.Counter] {
		return fmt.Errorf("counter %s: %w", b.Counter, errNotThere)
	}
	hook := decodeHook(c.Attributes)
	switch b.Action.Kind {
	case ruleset.Jump, ruleset.Goto:
		return v.target(b.Action.Chain)
	case ruleset.VerdictMap:
		return v.key(b.Action)
	case ruleset.DNAT, ruleset.Redirect:
		if !attached(hook, ruleset.TypeNAT, ruleset.Prerouting, ruleset.Output) {
			return errUnfit
		}
		return v.translation(b.Action)
	case ruleset.SNAT, ruleset.SNATToDest:
		if !attached(hook, ruleset.TypeNAT, ruleset.Postrouting, ruleset.Input) {
			return errUnfit
		}
		return v.translation(b.Action)
	case ruleset.Masquerade:
		if !attached(hook, ruleset.TypeNAT, ruleset.Postrouting) {
			return errUnfit
		}
	case ruleset.Synproxy:
		if !attached(hook, "", ruleset.Input, ruleset.Forward) {
			return errUnfit
		}
	}
	return nil
}

// attached says whether a chain is attached at one of the points, or is not
// attached itself. An empty type is any.
func attached(h *ruleset.Hook, typ ruleset.ChainType, points ...ruleset.HookPoint) bool {
	return h == nil || (typ == "" || h.Type == typ) && slices.Contains(points, h.Point)
}

// translation refuses a map that gives no address of the family.
func (v *validator) translation(a ruleset.Action) error {
	if a.Map == "" {
		return nil
	}
	if err := v.key(a); err != nil {
		return err
	}
	address := ruleset.IPv4Addr
	if a.Family == ruleset.IPv6 {
		address = ruleset.IPv6Addr
	}
	if data := v.shapes[a.Map].Data; len(data) == 0 || data[0] != address {
		return fmt.Errorf("map %s has other data", a.Map)
	}
	return nil
}

// key refuses a map that is not there or has another key.
func (v *validator) key(a ruleset.Action) error {
	if a.Pick.Of == 0 {
		return v.lookup(a.Map, a.Fields)
	}
	if s, there := v.shapes[a.Map]; there && !slices.Equal(s.Key, []ruleset.Type{ruleset.Number}) {
		return fmt.Errorf("map %s has another key", a.Map)
	} else if !there {
		return fmt.Errorf("map %s: %w", a.Map, errNotThere)
	}
	return nil
}

// object refuses what a kernel does not have.
func object(o *plan.Object) error {
	if o.Kind != plan.CtHelper {
		return nil
	}
	var h ruleset.Helper
	decode([]byte(o.Attributes), &h)
	if !slices.Contains([]string{"ftp", "irc", "sip", "tftp"}, h.Helper) {
		return fmt.Errorf("helper %s: %w: %w", h.Helper, backend.ErrNotSupported, errNotThere)
	}
	return nil
}

// statement refuses one that refers to what is not there.
func (v *validator) statement(do ruleset.Statement) error {
	kind := map[ruleset.StatementKind]plan.ObjectKind{
		ruleset.SetHelper: plan.CtHelper, ruleset.SetTimeout: plan.CtTimeout, ruleset.Offload: plan.Flowtable,
	}[do.Kind]
	if o := (plan.Object{Kind: kind, Name: do.Object}); kind != "" && !v.objects[o.String()] {
		return fmt.Errorf("%s: %w", &o, errNotThere)
	}
	if do.Set == "" {
		return nil
	}
	if !v.shapes[do.Set].Dynamic {
		return fmt.Errorf("set %s: %w", do.Set, errUnfit)
	}
	return v.lookup(do.Set, do.Fields)
}

// lookup refuses a set that is not there or has another key.
func (v *validator) lookup(name string, fields []ruleset.Field) error {
	s, there := v.shapes[name]
	if !there {
		return fmt.Errorf("set %s: %w", name, errNotThere)
	}
	var types []ruleset.Type
	for _, f := range fields {
		types = append(types, f.Type())
	}
	if !slices.Equal(types, s.Key) {
		return fmt.Errorf("set %s has another key", name)
	}
	return nil
}

func (v *validator) target(chain string) error {
	switch c := v.chains[chain]; {
	case c == nil:
		return fmt.Errorf("chain %s: %w", chain, errNotThere)
	case c.Attributes != "":
		return errUnfit
	}
	return nil
}

// elements gives the first element that is refused, and why.
func (v *validator) elements(set *plan.Set) (int, error) {
	s := v.shapes[set.Name]
	var fields []int
	for _, t := range s.Key {
		fields = append(fields, t.Size())
	}
	e := &set.Elements
	var reach []byte // the highest end of the elements before, by the first field
	for i := range e.Len() {
		key := e.KeyAt(i)
		if s.isVerdictMap() {
			data := e.At(i)[e.KeyLen:]
			if k := ruleset.ActionKind(data[0]); k == ruleset.Jump || k == ruleset.Goto {
				if err := v.target(string(data[1:])); err != nil {
					return i, err
				}
			}
		}
		if !s.Interval {
			if i > 0 && bytes.Equal(key, e.KeyAt(i-1)) {
				return i, errThere
			}
			continue
		}
		// Elements are sorted by the low end of their first field: where it is
		// beyond all that came before, nothing overlaps.
		low, high := key[:fields[0]], key[len(key)/2:][:fields[0]]
		if bytes.Compare(low, reach) <= 0 {
			for j := range i {
				if overlapping(e.KeyAt(j), key, fields) {
					return i, errThere
				}
			}
		}
		if bytes.Compare(high, reach) > 0 {
			reach = high
		}
	}
	return 0, nil
}

// overlapping says whether two ranges of a key share a value. The key's fields
// have the given lengths, padded.
func overlapping(a, b []byte, fields []int) bool {
	n := len(a) / 2
	at := 0
	for _, size := range fields {
		lowA, highA := a[at:at+size], a[n+at:n+at+size]
		lowB, highB := b[at:at+size], b[n+at:n+at+size]
		if bytes.Compare(highA, lowB) < 0 || bytes.Compare(highB, lowA) < 0 {
			return false
		}
		at += (size + 3) &^ 3
	}
	return true
}
