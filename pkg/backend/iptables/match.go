package iptables

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// alternative is one way in which matches can hold. Its origin is that of the
// element which it is, if that has one of its own.
type alternative struct {
	condition
	origin  ruleset.Origin
	counter string // what the element counts for
}

// alternatives gives the ways in which all matches hold in a family. No two of
// them hold for one packet, as elements of a set do not overlap.
func (t *translator) alternatives(matches []ruleset.Match) ([]alternative, error) {
	out := []alternative{{}}
	for _, m := range matches {
		more, err := t.match(m)
		if err != nil {
			return nil, err
		}
		out = product(out, more)
		if len(out) > maxLines {
			return nil, fmt.Errorf("it would be more than %d lines", maxLines)
		}
	}
	return out, nil
}

// maxLines bounds what one rule can become.
const maxLines = 2_000_000

// maxExcluded bounds what a line can exclude: each is a match of its own, and
// the kernel takes 128 expressions a rule of the nft variant. More are lines of
// a chain that turn packets back.
const maxExcluded = 50

func product(a, b []alternative) []alternative {
	if len(a) == 1 && len(a[0].condition) == 0 && a[0].origin.Entry == "" {
		return b
	}
	out := make([]alternative, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			z := alternative{append(x.condition[:len(x.condition):len(x.condition)], y.condition...), x.origin, x.counter}
			if y.origin.Entry != "" {
				z.origin = y.origin
			}
			if y.counter != "" {
				z.counter = y.counter
			}
			out = append(out, z)
		}
	}
	return out
}

func (t *translator) match(m ruleset.Match) ([]alternative, error) {
	f := m.Fields[0]
	if m.Op == ruleset.In || m.Op == ruleset.NotIn {
		return t.inSet(m)
	}
	if f == ruleset.NFProtoField {
		if m.Op != ruleset.Equal {
			return nil, errors.New("iptables has a table for each family")
		}
		if ruleset.Family(m.Value[0]) == t.family {
			return []alternative{{}}, nil
		}
		return nil, nil
	}
	if fam := familyOf(f); fam != ruleset.Inet && fam != t.family {
		return nil, nil
	}
	if asksWay(f) {
		if f == ruleset.FibDaddrOIfName && t.place.mode == routed {
			m.Fields = []ruleset.Field{ruleset.OIfName} // it is known by then
			return t.match(m)
		}
		if m.Op != ruleset.Equal && m.Op != ruleset.NotEqual {
			return nil, errWays
		}
		p, err := patternOf(m)
		if err != nil {
			return nil, err
		}
		patterns := []string{p}
		if m.Op == ruleset.Equal && t.towards != nil {
			patterns = t.towards
		}
		return t.toWay(f, patterns, m.Op == ruleset.NotEqual)
	}
	switch m.Op {
	case ruleset.AnyOf:
		a, err := anyOf(f, m.Value)
		return one(a), err
	case ruleset.Masked, ruleset.NotMasked:
		a, err := masked(f, m.High, m.Value)
		a.not = m.Op == ruleset.NotMasked
		return one(a), err
	}
	lo, hi := m.Value, m.Value
	switch {
	case m.Op == ruleset.Between:
		hi = m.High
	case m.Bits > 0 && m.Bits < 8*f.Type().Size():
		lo, hi = bounds(m.Value, m.Bits, f.Type().Size())
	}
	atoms, err := t.span(f, lo, hi)
	if err != nil {
		return nil, err
	}
	return either(f, atoms, m.Op == ruleset.NotEqual), nil
}

// bounds are the first and the last value with a prefix.
func bounds(value []byte, bits, size int) (lo, hi []byte) {
	lo = append(bytes.Clone(value), make([]byte, size-len(value))...)
	for i := bits; i < 8*size; i++ {
		lo[i/8] &^= 1 << (7 - i%8)
	}
	hi = bytes.Clone(lo)
	for i := bits; i < 8*size; i++ {
		hi[i/8] |= 1 << (7 - i%8)
	}
	return lo, hi
}

func one(a atom) []alternative { return []alternative{{condition: condition{a}}} }

// needs are the atoms without which a packet does not have a field.
func needs(f ruleset.Field) condition {
	switch f {
	case ruleset.ICMPTypeField:
		return condition{{slot: protocol, proto: 1}}
	case ruleset.ICMPv6TypeField:
		return condition{{slot: protocol, proto: 58}}
	case ruleset.TCPFlagsField:
		return condition{{slot: protocol, proto: 6}}
	}
	return nil
}

// either holds where one of some atoms does, or where none does.
func either(f ruleset.Field, atoms []atom, not bool) []alternative {
	if not {
		c := needs(f)
		for _, a := range atoms {
			c = append(c, a.negated())
		}
		return []alternative{{condition: c}}
	}
	var out []alternative
	for _, a := range atoms {
		out = append(out, alternative{condition: append(needs(f), a)})
	}
	return out
}

// inSet gives an alternative for each element.
func (t *translator) inSet(m ruleset.Match) ([]alternative, error) {
	set, err := t.set(m.Set, m.Fields)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Fields {
		if fam := familyOf(f); fam != ruleset.Inet && fam != t.family {
			return nil, nil
		}
	}
	if m.Op == ruleset.NotIn {
		if len(m.Fields) > 1 {
			return nil, fmt.Errorf("iptables cannot exclude combinations of several things, as the set %s does", set.Name)
		}
		groups := t.groups(set, m.Fields, nil, false)
		c := needs(m.Fields[0])
		for _, g := range groups {
			if g.addresses != nil {
				c = append(c, g.addresses.match(m.Fields[0]).negated())
				continue
			}
			atoms, err := t.span(m.Fields[0], set.KeyAt(g.first), highAt(set, g.last()))
			if err != nil {
				return nil, err
			}
			for _, a := range atoms {
				c = append(c, a.negated())
			}
		}
		return []alternative{{condition: c}}, nil
	}
	var out []alternative
	for _, g := range t.groups(set, m.Fields, nil, false) {
		keys, err := t.key(set, g, m.Fields)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	return out, nil
}

func highAt(set *ruleset.Set, i int) []byte {
	if set.Interval {
		return set.HighAt(i)
	}
	return set.KeyAt(i)
}

// key gives the ways in which fields are one of a group of a set's elements.
func (t *translator) key(set *ruleset.Set, g group, fields []ruleset.Field) ([]alternative, error) {
	out := []alternative{{}}
	i := g.first
	lo, hi := set.KeyAt(i), highAt(set, g.last())
	for k, f := range fields {
		size, step := f.Type().Size(), f.Type().Padded()
		var atoms []atom
		if g.addresses != nil && k == g.field {
			atoms = []atom{g.addresses.match(f)}
		} else {
			var err error
			if atoms, err = t.span(f, lo[:size], hi[:size]); err != nil {
				return nil, err
			}
		}
		if alone := needs(f); len(atoms) == 1 && alone == nil {
			for i := range out {
				if out[i].condition == nil {
					out[i].condition = make(condition, 0, len(fields)+1)
				}
				out[i].condition = append(out[i].condition, atoms[0])
			}
		} else {
			out = product(out, either(f, atoms, false))
		}
		if len(fields) > 1 {
			lo, hi = lo[step:], hi[step:]
		}
	}
	origin := set.Origin
	own := false
	if o := set.OriginAt(i); o != ruleset.NoOrigin {
		origin, own = t.rules.Origins[o], true
	}
	for k := range out {
		if own {
			out[k].origin = origin
		}
		if set.Counted && origin.Entry != "" {
			out[k].counter = elementCounter(set.Name, origin.Entry)
		}
	}
	return out, nil
}

// set finds a set and checks that it is asked for its own key.
func (t *translator) set(name string, fields []ruleset.Field) (*ruleset.Set, error) {
	set := t.sets[name]
	if set == nil {
		return nil, fmt.Errorf("there is no set %s", name)
	}
	if len(set.Key) != len(fields) {
		return nil, fmt.Errorf("the set %s has another key", name)
	}
	for i, f := range fields {
		if f.Type() != set.Key[i] {
			return nil, fmt.Errorf("the set %s has another key", name)
		}
	}
	return set, nil
}
