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
}

func validate(s *plan.Snapshot) error {
	v := &validator{s, map[string]*plan.Chain{}, map[string]shape{}, map[string]bool{}}
	for i := range s.Chains {
		v.chains[s.Chains[i].Name] = &s.Chains[i]
	}
	for _, set := range s.Sets {
		v.shapes[set.Name] = decodeShape(set.Attributes)
	}
	for _, c := range s.Counters {
		v.counters[c.Name] = true
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
	case h.Type != ruleset.TypeFilter && h.Type != ruleset.TypeNAT:
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
	if b.Counter != "" && !v.counters[b.Counter] {
		return fmt.Errorf("counter %s: %w", b.Counter, errNotThere)
	}
	hook := decodeHook(c.Attributes)
	switch b.Action.Kind {
	case ruleset.Jump, ruleset.Goto:
		return v.target(b.Action.Chain)
	case ruleset.VerdictMap:
		return v.lookup(b.Action.Map, b.Action.Fields)
	case ruleset.DNAT:
		if hook != nil && (hook.Type != ruleset.TypeNAT || hook.Point != ruleset.Prerouting && hook.Point != ruleset.Output) {
			return errUnfit
		}
		return v.lookup(b.Action.Map, b.Action.Fields)
	case ruleset.Masquerade:
		if hook != nil && (hook.Type != ruleset.TypeNAT || hook.Point != ruleset.Postrouting) {
			return errUnfit
		}
	}
	return nil
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
