package iptables

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// step is one thing that a rule does: what limits it, and a target.
type step struct {
	limits []string
	target string
}

// Why a rule is refused.
var (
	errSteps   = errors.New("iptables takes one target a rule, and a limit that is asked twice counts twice")
	errAddress = errors.New("iptables cannot write an address that conntrack does not know of, which 127.0.0.1 and ::1 as `address` need; take the entry out, and have programs of the gateway connect to the target itself")
)

// rule gives the lines of a rule.
func (t *translator) rule(r *ruleset.Rule, jumped bool) ([]line, error) {
	if r.Counter != "" && !t.objects[r.Counter] {
		return nil, fmt.Errorf("there is no counter %s", r.Counter)
	}
	if t.place.mode == early && about(r, ruleset.FibSaddrOifType) {
		// What the source becomes is not known yet.
		return nil, nil
	}
	if f, ok, err := forgeryOf(r); ok {
		if err != nil {
			return nil, err
		}
		return t.forged(r, f)
	}
	if skip, err := t.elsewhere(r); skip || err != nil {
		return nil, err
	}
	if t.place.table == "nat" && len(r.Do) == 1 && assigns(&r.Do[0]) {
		return nil, nil // its copy in raw does that
	}
	if lines := t.related(r, jumped); lines != nil {
		return lines, nil
	}
	if i := fromNowhere(r); i >= 0 {
		return t.nowhere(r, i, jumped)
	}
	if lines, ok, err := t.listed(r, jumped); ok || err != nil {
		return lines, err
	}
	conditions, err := t.alternatives(r.Matches)
	if err != nil || len(conditions) == 0 {
		return nil, err
	}
	steps, more, err := t.statements(r, len(conditions))
	if err != nil {
		return nil, err
	}
	conditions = product(conditions, []alternative{{condition: more}})
	targets, err := t.targets(r, jumped)
	if err != nil {
		return nil, err
	}
	if t.place.mode == dropping && r.Action.Kind != ruleset.Drop {
		// What nat counts is counted there.
		silence := *r
		silence.Counter = ""
		r = &silence
		for i := range conditions {
			conditions[i].counter = ""
		}
		for i := range targets {
			targets[i].when.counter = ""
		}
	}
	w := t.writer(r)
	limits := steps[len(steps)-1].limits
	for _, c := range conditions {
		if r.Counter != "" {
			c.counter = ""
		}
		silent := c
		silent.counter = ""
		for _, s := range steps[:len(steps)-1] {
			w.write(silent, s.limits, "", s.target)
		}
		counter := r.Counter
		if counter != "" && !whole(targets) {
			if len(limits) > 0 {
				return nil, errSteps
			}
			w.write(silent, nil, counter, "")
			counter = ""
		}
		if len(targets) == 0 && (counter != "" || len(limits) > 0) {
			w.write(c, limits, counter, "")
		}
		for _, x := range targets {
			t.meets(w, c, x, limits, counter)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	return w.lines, t.alone(r, len(w.lines))
}

// meets writes what meets a target.
func (t *translator) meets(w *writer, c alternative, x target, limits []string, counter string) {
	if x.text == "" && counter == "" || c.excludes(x.when.condition) {
		return
	}
	at := product([]alternative{c}, []alternative{x.when})[0]
	if x.lite {
		if !at.possible() {
			return
		}
		x.text = t.liteChain(x.text, w.rule.Origin)
	}
	w.write(at, limits, counter, x.text)
}

// about says whether a rule matches on a field.
func about(r *ruleset.Rule, f ruleset.Field) bool {
	return slices.ContainsFunc(r.Matches, func(m ruleset.Match) bool { return slices.Contains(m.Fields, f) })
}

// writer collects the lines of a rule.
type writer struct {
	rule  *ruleset.Rule
	chain string // where they stand
	table *table
	lines []line
	err   error

	noted   noted // last
	comment string
}

// noted is what a comment tells.
type noted struct{ entry, counter string }

func (t *translator) writer(r *ruleset.Rule) *writer {
	return &writer{rule: r, chain: t.at, table: t.table}
}

func (w *writer) write(a alternative, limits []string, counter, target string) {
	o := w.rule.Origin
	if a.origin.Entry != "" {
		o = a.origin
	}
	if key := (noted{o.Entry, cmp.Or(counter, a.counter)}); w.comment == "" || key != w.noted {
		w.noted, w.comment = key, comment(key.entry, key.counter)
	}
	behind := line{text: joined(w.comment, target), origin: o, counter: w.noted.counter}
	for _, c := range a.expand() {
		in, out := c.split()
		if len(out) > 0 {
			if err := w.excluding(in, out, limits, behind, target); err != nil {
				w.err = err
			}
			continue
		}
		text, possible, err := c.text()
		if err != nil {
			w.err = err
		}
		if err != nil || !possible {
			continue
		}
		l := behind
		l.text = joined(text, strings.Join(limits, " "), behind.text)
		w.lines = append(w.lines, l)
	}
}

// target is what happens, and where a map says it, when.
type target struct {
	when alternative
	text string
	part bool // other targets, or none, may be taken where this is not
	lite bool // it is to ports of UDP-Lite
}

// whole says whether there is a target for all that match.
func whole(targets []target) bool {
	return len(targets) > 0 && !slices.ContainsFunc(targets, func(x target) bool { return x.part })
}

// elsewhere says whether a rule is not for this copy of its chain.
func (t *translator) elsewhere(r *ruleset.Rule) (bool, error) {
	drops := r.Action.Kind == ruleset.Drop
	limited := false
	for _, s := range r.Do {
		limited = limited || s.Kind == ruleset.RateOver || s.Kind == ruleset.RateUnder || s.Kind == ruleset.CountOver
	}
	switch {
	case t.place.table == "nat":
		return drops, nil
	case t.place.mode == dropping:
		if r.Action.Kind == ruleset.Continue {
			return true, nil
		}
		if limited && !drops {
			return false, errSteps
		}
	}
	return false, nil
}

// targets translates an action.
func (t *translator) targets(r *ruleset.Rule, jumped bool) ([]target, error) {
	a := &r.Action
	switch a.Kind {
	case ruleset.Continue:
		return nil, nil
	case ruleset.VerdictMap:
		return t.verdictMap(a, jumped)
	case ruleset.DNAT, ruleset.SNAT, ruleset.SNATToDest, ruleset.Masquerade, ruleset.Redirect:
		if t.place.mode == dropping {
			if a.Map != "" && a.Pick.Of == 0 {
				return t.mapped(a, func(group) (string, error) { return t.leave(jumped), nil })
			}
			return []target{{text: t.leave(jumped)}}, nil
		}
		if t.place.table != "nat" {
			return nil, fmt.Errorf("the %s table does not translate", t.place.table)
		}
		sources := a.Kind == ruleset.SNAT || a.Kind == ruleset.SNATToDest || a.Kind == ruleset.Masquerade
		if before := t.place.builtin == "PREROUTING" || t.place.builtin == "OUTPUT"; before == sources {
			return nil, fmt.Errorf("in %s iptables does not translate this way", t.place.builtin)
		}
		return t.translation(r)
	case ruleset.Synproxy:
		return []target{{text: synproxy(a.Syn)}}, nil
	}
	text, err := t.verdict(*a, jumped)
	return []target{{text: text}}, err
}

// leave ends our chain. Where the packet came by a jump, it ends the table.
func (t *translator) leave(jumped bool) string {
	if t.place.table == "filter" || jumped {
		return "-j ACCEPT"
	}
	return "-j RETURN"
}

func (t *translator) verdict(a ruleset.Action, jumped bool) (string, error) {
	switch a.Kind {
	case ruleset.Accept:
		return t.leave(jumped), nil
	case ruleset.Drop:
		return "-j DROP", nil
	case ruleset.Return:
		return "-j RETURN", nil
	case ruleset.Reject:
		if t.place.table != "filter" {
			return "", errors.New("iptables can reject in filter alone")
		}
		v4 := t.family == ruleset.IPv4
		switch {
		case a.With == "tcp reset":
			return "-j REJECT --reject-with tcp-reset", nil
		case a.With == "port-unreachable" && v4:
			return "-j REJECT --reject-with icmp-port-unreachable", nil
		case a.With == "port-unreachable":
			return "-j REJECT --reject-with icmp6-port-unreachable", nil
		case v4:
			return "-j REJECT --reject-with icmp-admin-prohibited", nil
		}
		return "-j REJECT --reject-with icmp6-adm-prohibited", nil
	case ruleset.Jump, ruleset.Goto:
		to := t.chains[a.Chain]
		if to == nil {
			return "", fmt.Errorf("%w: %s", errNoChain, a.Chain)
		}
		if to.Hook != nil {
			return "", fmt.Errorf("%s is a base chain", a.Chain)
		}
		option := "-j "
		if a.Kind == ruleset.Goto {
			option = "-g "
		}
		return option + chainName(a.Chain, t.place.mode), nil
	}
	return "", errors.New("iptables has no such target")
}

// verdictMap gives a target for each element.
func (t *translator) verdictMap(a *ruleset.Action, jumped bool) ([]target, error) {
	m := t.sets[a.Map]
	if m == nil || !m.IsVerdictMap() {
		return nil, fmt.Errorf("there is no verdict map %s", a.Map)
	}
	return t.mapped(a, func(g group) (string, error) { return t.verdict(m.Verdicts[g.first], jumped) })
}

// mapped gives a target for each element of an action's map.
func (t *translator) mapped(a *ruleset.Action, text func(g group) (string, error)) ([]target, error) {
	if a.Pick.Of > 0 {
		return t.picked(a, text)
	}
	m, err := t.set(a.Map, a.Fields)
	if err != nil {
		return nil, err
	}
	leads := func(i int) []byte {
		if m.IsVerdictMap() {
			return append([]byte{byte(m.Verdicts[i].Kind)}, m.Verdicts[i].Chain...)
		}
		return m.DataAt(i)
	}
	groups := t.groups(m, a.Fields, leads, a.Kind == ruleset.DNAT && (t.kernel.shifts || t.place.mode != plain))
	out := make([]target, 0, len(groups))
	for _, g := range groups {
		keys, err := t.key(m, g, a.Fields)
		if err != nil {
			return nil, err
		}
		x, err := text(g)
		if err != nil {
			return nil, err
		}
		if x == "-j DROP" && t.place.table == "nat" {
			continue
		}
		for _, k := range keys {
			out = append(out, target{when: k, text: x, part: true})
		}
	}
	if len(out) == 0 {
		out = append(out, target{part: true})
	}
	return out, nil
}

// picked chooses an element by a hash of the source, or by turns: the first
// takes one of n, the second one of the n-1 that are left.
func (t *translator) picked(a *ruleset.Action, text func(g group) (string, error)) ([]target, error) {
	m := t.sets[a.Map]
	if m == nil || len(m.Key) != 1 || m.Key[0] != ruleset.Number {
		return nil, fmt.Errorf("there is no map %s of numbers", a.Map)
	}
	var hash func(i int) string
	if len(a.Pick.Fields) > 0 {
		var err error
		if hash, err = t.hashed(&a.Pick); err != nil {
			return nil, err
		}
	}
	if uint32(m.Len()) < a.Pick.Of {
		return nil, fmt.Errorf("the map %s has %d of %d elements", a.Map, m.Len(), a.Pick.Of)
	}
	var out []target
	for i := range int(a.Pick.Of) {
		x, err := text(group{first: i, size: 1})
		if err != nil {
			return nil, err
		}
		if hash == nil && m.IsVerdictMap() && m.Verdicts[i].Kind == ruleset.Jump {
			return nil, errors.New("iptables cannot come back from a chain that was chosen by turns")
		}
		k := alternative{}
		if o := m.OriginAt(i); o != ruleset.NoOrigin {
			k.origin = t.rules.Origins[o]
		}
		if m.Counted && (k.origin.Entry != "" || m.Origin.Entry != "") {
			entry := k.origin.Entry
			if entry == "" {
				entry = m.Origin.Entry
			}
			k.counter = elementCounter(m.Name, entry)
		}
		if hash != nil {
			k.condition = condition{{slot: match, text: hash(i)}}
		} else if left := int(a.Pick.Of) - i; left > 1 {
			k.condition = condition{{slot: match, text: fmt.Sprintf("-m statistic --mode nth --every %d --packet 0", left)}}
		}
		out = append(out, target{when: k, text: x, part: true})
	}
	return out, nil
}
