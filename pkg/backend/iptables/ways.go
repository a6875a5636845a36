package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Iptables cannot ask which interface the way to an address leaves by, only
// whether it is the one that a packet came in by (rpfilter). So what the policy
// says of the networks behind the interfaces is taken for the routes.

// way is where a way may lead: to these addresses, or to all others.
type way struct {
	ranges []ruleset.AddrRange
	not    bool
}

// asksWay says whether a field is the interface of a way.
func asksWay(f ruleset.Field) bool {
	return f == ruleset.FibDaddrOIfName || f == ruleset.FibSaddrOIfName
}

// toWay gives the alternatives in which the way to an address leaves by one of
// some interfaces, or by none of them.
func (t *translator) toWay(f ruleset.Field, patterns []string, not bool) ([]alternative, error) {
	w, err := t.wayBy(patterns)
	if err != nil {
		return nil, err
	}
	s := destination
	var there condition
	if f == ruleset.FibSaddrOIfName {
		s = source
		if !not && t.place.builtin == "PREROUTING" && t.place.table != "nat" {
			there = condition{{slot: match, text: "-m rpfilter --loose"}} // there is a way at all
		}
	}
	if w.not != not {
		c := there
		for _, r := range w.ranges {
			c = append(c, atom{slot: s, not: true, lo: r.Low, hi: r.High})
		}
		return []alternative{{condition: c}}, nil
	}
	var out []alternative
	for _, r := range w.ranges {
		out = append(out, alternative{condition: append(slices.Clone(there), atom{slot: s, lo: r.Low, hi: r.High})})
	}
	return out, nil
}

// wayBy finds the addresses behind interfaces. Where zones have networks that
// lie in those of others, the narrower ones are meant, as with routes.
func (t *translator) wayBy(patterns []string) (way, error) {
	f := 0
	if t.family == ruleset.IPv6 {
		f = 1
	}
	var mine, others []ruleset.AddrRange
	var any, vague, zones []string
	known := false
	for i := range t.rules.Ways {
		w := &t.rules.Ways[i]
		pattern := w.Interface
		if w.Wildcard {
			pattern += "+"
		}
		within := slices.ContainsFunc(patterns, func(p string) bool { return covers(p, pattern) })
		known = known || within
		switch {
		case within && w.Any[f]:
			any = append(any, w.Zones...)
		case within:
			mine, zones = append(mine, w.Addresses[f]...), append(zones, w.Zones...)
		case w.Any[f]:
			vague = append(vague, w.Zones...)
		default:
			others = append(others, w.Addresses[f]...)
		}
	}
	if !known {
		return way{}, errWays
	}
	if len(vague) > 0 && len(any) > 0 {
		slices.Sort(vague)
		return way{}, fmt.Errorf("%w, which do not tell what is behind %s; give some to %s", errWays, strings.Join(patterns, " and "), strings.Join(slices.Compact(vague), ", "))
	}
	if len(any) > 0 {
		return way{ranges: without(others, mine), not: true}, nil
	}
	for i := range t.rules.Ways {
		w := &t.rules.Ways[i]
		for _, z := range w.Zones {
			if !slices.Contains(zones, z) && slices.ContainsFunc(w.Addresses[f], func(r ruleset.AddrRange) bool { return slices.Contains(mine, r) }) {
				return way{}, fmt.Errorf("%w, of which %s has the same as %s", errWays, z, strings.Join(zones, ", "))
			}
		}
	}
	return way{ranges: without(mine, others)}, nil
}

var errWays = errors.New("iptables cannot ask which interface the way to an address leaves by, and goes by the `networks` of zones")

// without gives the ranges of a list that no narrower one of another covers,
// and of those that have narrower ones in them what is left.
func without(list, other []ruleset.AddrRange) []ruleset.AddrRange {
	var out []ruleset.AddrRange
	for _, r := range list {
		left := []ruleset.AddrRange{r}
		for _, x := range other {
			if x == r || x.Low.Compare(r.Low) < 0 || r.High.Compare(x.High) < 0 {
				continue // not within it
			}
			left = cut(left, x)
		}
		out = append(out, left...)
	}
	slices.SortFunc(out, func(a, b ruleset.AddrRange) int { return a.Low.Compare(b.Low) })
	return slices.Compact(out)
}

// cut takes a range out of others.
func cut(list []ruleset.AddrRange, x ruleset.AddrRange) []ruleset.AddrRange {
	var out []ruleset.AddrRange
	for _, r := range list {
		if x.High.Less(r.Low) || r.High.Less(x.Low) {
			out = append(out, r)
			continue
		}
		if r.Low.Less(x.Low) {
			out = append(out, ruleset.AddrRange{Low: r.Low, High: x.Low.Prev()})
		}
		if x.High.Less(r.High) {
			out = append(out, ruleset.AddrRange{Low: x.High.Next(), High: r.High})
		}
	}
	return out
}

// overlap is what two ranges have in common.
func overlap(a, b atom) (lo, hi netip.Addr, ok bool) {
	lo, hi = a.lo, a.hi
	if lo.Less(b.lo) {
		lo = b.lo
	}
	if b.hi.Less(hi) {
		hi = b.hi
	}
	return lo, hi, !hi.Less(lo)
}

// likeWays gives the interfaces of rules from one on that differ in nothing but
// the one by which the way to an address leads: nft(8) takes no sets of these,
// and what is behind all of them together may be known where it is not of each.
func (t *translator) likeWays(rules []*ruleset.Rule) (patterns []string) {
	first := rules[0]
	asks := func(m ruleset.Match) bool { return asksWay(m.Fields[0]) }
	at := slices.IndexFunc(first.Matches, asks)
	if at < 0 || slices.ContainsFunc(first.Matches[at+1:], asks) || !ends(&first.Action) || t.place.mode == routed && first.Matches[at].Fields[0] == ruleset.FibDaddrOIfName {
		return nil
	}
	for _, r := range rules {
		if len(r.Matches) != len(first.Matches) || r.Origin != first.Origin || r.Counter != first.Counter ||
			!reflect.DeepEqual(r.Do, first.Do) || !reflect.DeepEqual(r.Action, first.Action) {
			break
		}
		others := func(x *ruleset.Rule) []ruleset.Match { return slices.Delete(slices.Clone(x.Matches), at, at+1) }
		m := r.Matches[at]
		p, err := patternOf(m)
		if err != nil || m.Op != ruleset.Equal || !slices.Equal(m.Fields, first.Matches[at].Fields) || !reflect.DeepEqual(others(r), others(first)) {
			break
		}
		patterns = append(patterns, p)
	}
	if len(patterns) < 2 {
		return nil
	}
	return patterns
}

// ends says whether no packet that an action is for comes to the next rule.
func ends(a *ruleset.Action) bool {
	switch a.Kind {
	case ruleset.Accept, ruleset.Drop, ruleset.Reject, ruleset.Return, ruleset.Goto:
		return true
	}
	return false
}

// patternOf is the pattern of a match on an interface.
func patternOf(m ruleset.Match) (string, error) {
	lo, hi := m.Value, m.Value
	if size := m.Fields[0].Type().Size(); m.Bits > 0 && m.Bits < 8*size {
		lo, hi = bounds(m.Value, m.Bits, size)
	}
	return interfaces(lo, hi)
}
