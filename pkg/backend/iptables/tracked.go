package iptables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Iptables gives a flow its helper and its timeouts in raw, before conntrack
// makes the flow, by one target for both, the first that a packet meets. The
// chains of nat that give them are copied there, for what is known of a packet
// so early: not the interface that it leaves by. A rule that asks for that leads
// the packet on all the same, and it comes back to meet the rules behind.

// errAssign is a helper or timeouts in a chain that is no part of nat.
var errAssign = errors.New("iptables assigns helpers and timeouts in raw alone, to what a chain of nat gives them to")

// assigns says whether a statement gives a flow a helper or timeouts.
func assigns(s *ruleset.Statement) bool {
	return s.Kind == ruleset.SetHelper || s.Kind == ruleset.SetTimeout
}

// assigning says whether a chain, or one that it leads to, gives packets of the
// family a helper or timeouts.
func (t *translator) assigning(name string, seen map[string]bool) bool {
	c := t.chains[name]
	if c == nil || seen[name] {
		return false
	}
	seen[name] = true
	return slices.ContainsFunc(c.Rules, func(r *ruleset.Rule) bool {
		if !t.possible(r) {
			return false
		}
		if slices.ContainsFunc(r.Do, func(s ruleset.Statement) bool { return assigns(&s) }) {
			return true
		}
		return slices.ContainsFunc(t.verdicts(r), func(v ruleset.Action) bool { return t.leadsOn(v, seen) })
	})
}

// leadsOn says whether a verdict leads to a chain that is assigning.
func (t *translator) leadsOn(v ruleset.Action, seen map[string]bool) bool {
	return (v.Kind == ruleset.Jump || v.Kind == ruleset.Goto) && t.assigning(v.Chain, seen)
}

// tracks translates the copies of the chains of nat that assign.
func (t *translator) tracks(bases []*ruleset.Chain) {
	for _, c := range bases {
		if c.Hook.Type != ruleset.TypeNAT || !t.assigning(c.Name, map[string]bool{}) {
			continue
		}
		builtin := "PREROUTING"
		if c.Hook.Point == ruleset.Output {
			builtin = "OUTPUT"
		}
		t.base(c, place{"raw", builtin, tracked})
	}
}

// track translates one chain of a copy.
func (t *translator) track(c *ruleset.Chain, out *chain, jumped bool) {
	lines, _, err := t.given(c)
	if err != nil {
		t.refuse("chain "+c.Name, c.Origin, err)
		return
	}
	for _, a := range lines {
		w := &writer{rule: &ruleset.Rule{Origin: a.origin}}
		w.write(a.when, nil, "", a.target)
		out.lines = append(out.lines, w.lines...)
	}
	leads := func(r *ruleset.Rule) bool {
		return t.possible(r) && slices.ContainsFunc(t.verdicts(r), func(v ruleset.Action) bool { return t.leadsOn(v, map[string]bool{}) })
	}
	ways := waysOut(c)
	var loose []assignment // what packets may be given that it is not for
	for i, r := range c.Rules {
		behind := slices.DeleteFunc(slices.Clone(c.Rules[i:]), func(x *ruleset.Rule) bool { return !leads(x) })
		if len(behind) == 0 {
			break
		}
		if !t.possible(r) {
			continue
		}
		// Where all that is behind is for the same ways out, and it is not for
		// this packet, that is not either.
		same := !slices.ContainsFunc(behind, func(x *ruleset.Rule) bool { return ways[x.Origin.Entry] != ways[r.Origin.Entry] })
		lines, more, err := t.trackRule(r, same, jumped, loose)
		if err != nil {
			t.refuse("a rule of chain "+c.Name, r.Origin, err)
			continue
		}
		out.lines = append(out.lines, lines...)
		loose = append(loose, more...)
	}
}

// waysOut tells the entries of a chain apart by what is not known early of the
// packets that they are for.
func waysOut(c *ruleset.Chain) map[string]string {
	list := map[string][]string{}
	for _, r := range c.Rules {
		late := slices.DeleteFunc(slices.Clone(r.Matches), func(m ruleset.Match) bool { return !isLate(m) })
		list[r.Origin.Entry] = append(list[r.Origin.Entry], fmt.Sprint(late))
	}
	out := map[string]string{}
	for entry, x := range list {
		slices.Sort(x)
		out[entry] = strings.Join(slices.Compact(x), "\n")
	}
	return out
}

// trackRule translates a rule that leads on, or past all that leads on. Same says
// that what leads on behind it is for the same ways out. Loose are the
// assignments of rules before it that it may share packets with.
func (t *translator) trackRule(r *ruleset.Rule, same, jumped bool, loose []assignment) (lines []line, more []assignment, err error) {
	matches, exact := known(r)
	exact = exact || same && !limits(r)
	leads := false
	for _, v := range t.verdicts(r) {
		leads = leads || t.leadsOn(v, map[string]bool{})
	}
	if !leads && (!exact || jumped || r.Action.Kind == ruleset.Continue || r.Action.Kind == ruleset.Jump) {
		return nil, nil, nil // it may be for other packets, and it gives them nothing
	}
	conditions, err := t.alternatives(matches)
	if err != nil {
		return nil, nil, err
	}
	targets, err := t.ways(r, leads, exact)
	if err != nil {
		return nil, nil, err
	}
	w := &writer{rule: r}
	for _, c := range conditions {
		c.counter = ""
		for _, x := range targets {
			x.when.counter = ""
			w.write(product([]alternative{c}, []alternative{x.when})[0], nil, "", x.text)
		}
	}
	if w.err != nil || !leads {
		return w.lines, nil, w.err
	}
	for _, v := range t.verdicts(r) {
		if !t.leadsOn(v, map[string]bool{}) {
			continue
		}
		given, err := t.givenBy(v.Chain, map[string]bool{})
		if err != nil {
			return nil, nil, err
		}
		for _, g := range given {
			for _, when := range product(conditions, []alternative{g.when}) {
				for _, l := range loose {
					if l.target != g.target && !apart(l.when.condition, when.condition) {
						return nil, nil, fmt.Errorf("iptables assigns helpers and timeouts before it is known which way a flow leaves, and some that this is for would get those of %s; "+
							"give both entries the same, or tell them apart by `sources`, `destinations` or `ports`", l.origin.Entry)
					}
				}
				more = append(more, assignment{when, g.target, g.origin})
			}
		}
	}
	if exact {
		more = nil
	}
	return w.lines, more, nil
}

// ways are the targets of a rule in a copy.
func (t *translator) ways(r *ruleset.Rule, leads, exact bool) ([]target, error) {
	a := &r.Action
	const past = "-j RETURN"
	to := func(v ruleset.Action) string {
		switch {
		case !t.leadsOn(v, map[string]bool{}):
			return past
		case exact && v.Kind == ruleset.Goto:
			return "-g " + chainName(v.Chain, tracked)
		}
		return "-j " + chainName(v.Chain, tracked)
	}
	switch {
	case a.Kind == ruleset.VerdictMap:
		m := t.sets[a.Map]
		if m == nil || !m.IsVerdictMap() {
			return nil, fmt.Errorf("there is no verdict map %s", a.Map)
		}
		if a.Pick.Of > 0 {
			return nil, errors.New("iptables assigns helpers and timeouts before a target is chosen")
		}
		all, err := t.mapped(a, func(g group) (string, error) { return to(m.Verdicts[g.first]), nil })
		return slices.DeleteFunc(all, func(x target) bool { return x.text == "" }), err
	case leads:
		return []target{{text: to(*a)}}, nil
	case a.Map != "" && a.Pick.Of == 0:
		return t.mapped(a, func(group) (string, error) { return past, nil })
	}
	return []target{{text: past}}, nil
}

// known gives the matches of a rule that can be asked in raw, and whether those
// are all of them, and nothing else limits the rule.
func known(r *ruleset.Rule) (out []ruleset.Match, exact bool) {
	out = slices.DeleteFunc(slices.Clone(r.Matches), isLate)
	return out, len(out) == len(r.Matches) && !limits(r)
}

// limits says whether a rule is not for all packets that match.
func limits(r *ruleset.Rule) bool {
	return slices.ContainsFunc(r.Do, func(s ruleset.Statement) bool {
		return s.Kind == ruleset.RateUnder || s.Kind == ruleset.RateOver || s.Kind == ruleset.CountOver
	})
}

// isLate says whether a match cannot be asked in raw: of conntrack, of what others
// mark, and of routing.
func isLate(m ruleset.Match) bool {
	return slices.ContainsFunc(m.Fields, func(f ruleset.Field) bool {
		switch f {
		case ruleset.OIfName, ruleset.IIf, ruleset.CtStateField, ruleset.CtStatusField, ruleset.CtDirection, ruleset.CtMark, ruleset.MetaMark,
			ruleset.CtOrigProtoDst, ruleset.CtOrigIPSaddr, ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Saddr, ruleset.CtOrigIP6Daddr,
			ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr, ruleset.FibSaddrOifType, ruleset.FibDaddrOIfName, ruleset.FibSaddrOIfName:
			return true
		}
		return false
	})
}
