package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// namedSet is a set of the policy.
type namedSet struct {
	place policy.Place
	spans [2]spans
}

func (s *namedSet) empty() bool { return len(s.spans[0])+len(s.spans[1]) == 0 }

func (c *compiler) resolveSets() {
	for _, s := range c.policy.Sets {
		c.sets[s.Name] = &namedSet{s.Place, split(s.Addresses).literal}
	}
}

// addresses is an address list: the union of literal ranges, named sets and
// the gateway's own addresses. Not given means any address.
type addresses struct {
	given   bool
	literal [2]spans
	sets    []string // in order of names, each once
	gateway bool
}

// content tells the list in bytes that are the same for the same list, in every
// run: names are made of it.
func (a *addresses) content() string {
	return fmt.Sprintf("%q %x %x %v", a.sets, a.literal[0].content(), a.literal[1].content(), a.gateway)
}

// split sorts an address list by what its items are.
func split(list []policy.Address) addresses {
	out := addresses{given: len(list) > 0}
	var count [2]int
	for i := range list {
		if a := &list[i]; a.Set == "" && !a.Gateway {
			count[familyIndex(a.Low)]++
		}
	}
	for f, n := range count {
		out.literal[f] = make(spans, 0, n)
	}
	for i := range list {
		switch a := &list[i]; {
		case a.Set != "":
			out.sets = append(out.sets, a.Set)
		case a.Gateway:
			out.gateway = true
		default:
			f := familyIndex(a.Low)
			out.literal[f] = append(out.literal[f], span{a.Low, a.High})
		}
	}
	for f := range out.literal {
		out.literal[f] = merge(out.literal[f])
	}
	slices.Sort(out.sets)
	out.sets = slices.Compact(out.sets)
	return out
}

// flat gives all addresses of a list that does not name the gateway; whole
// where there is no list.
func (c *compiler) flat(a *addresses, f int) spans {
	if !a.given {
		return whole(f)
	}
	out := a.literal[f]
	if len(a.sets) > 0 {
		out = slices.Clone(out)
		for _, name := range a.sets {
			out = append(out, c.sets[name].spans[f]...)
		}
		out = merge(out)
	}
	return out
}

// emptySet gives the name of a set among lists that holds nothing now, or "".
// What depends on it matches nothing today and may match tomorrow.
func (c *compiler) emptySet(lists ...[]policy.Address) string {
	for _, list := range lists {
		for _, a := range list {
			if a.Set != "" && c.sets[a.Set].empty() {
				return a.Set
			}
		}
	}
	return ""
}

// address matches an address list and not the exceptions. What begins the
// names of sets that are made for it.
func (c *compiler) address(s side, list, except []policy.Address, what string, o ruleset.Origin) []alternative {
	a, x := split(list), split(except)
	out := anything()
	if a.given {
		out = nil
		if a.gateway {
			out = append(out, alternative{0, []ruleset.Match{isLocal()}})
		}
		for f := range 2 {
			out = append(out, c.listed(&a, f, s[f], what, o)...)
		}
	}
	if x.given {
		out = and(out, c.notListed(&a, &x, s, what, o))
	}
	return out
}

// listed matches the addresses of a list in one family.
func (c *compiler) listed(a *addresses, f int, field ruleset.Field, what string, o ruleset.Origin) []alternative {
	if len(a.sets) == 1 && len(a.literal[f]) == 0 {
		if len(c.sets[a.sets[0]].spans[f]) == 0 {
			return nil
		}
		return []alternative{{only(f), []ruleset.Match{c.inSet(a.sets[0], f, field)}}}
	}
	list := c.flat(a, f)
	switch {
	case len(list) == 0:
		return nil
	case list.equal(whole(f)):
		return []alternative{{family: only(f)}}
	}
	return []alternative{{only(f), []ruleset.Match{c.spansMatch(field, list, what+familySuffix(f), o)}}}
}

// notListed matches what is not among exceptions. Where they leave nothing of
// a list in a family, there is no alternative for it.
func (c *compiler) notListed(a, x *addresses, s side, what string, o ruleset.Origin) []alternative {
	var out []alternative
	needed := false
	for f := range 2 {
		within := whole(f)
		if a.given && !a.gateway && len(a.sets) == 0 {
			within = a.literal[f]
		}
		if len(within) > 0 && x.literal[f].covers(within) {
			needed = true
			continue
		}
		var not []ruleset.Match
		if len(x.literal[f]) > 0 {
			not = append(not, negated(c.spansMatch(s[f], x.literal[f], what+"_except"+familySuffix(f), o)))
		}
		for _, name := range x.sets {
			if len(c.sets[name].spans[f]) > 0 {
				not = append(not, negated(c.inSet(name, f, s[f])))
			}
		}
		needed = needed || len(not) > 0
		out = append(out, alternative{only(f), not})
	}
	if !needed {
		out = anything()
	}
	if x.gateway {
		out = and(out, []alternative{{0, []ruleset.Match{negated(isLocal())}}})
	}
	return out
}

// spansMatch matches an address field against ranges. Name is that of the set
// where one is needed.
func (c *compiler) spansMatch(field ruleset.Field, list spans, name string, o ruleset.Origin) ruleset.Match {
	if len(list) == 1 {
		if bits, ok := list[0].prefix(); ok && bits > 0 {
			return ruleset.Match{Fields: []ruleset.Field{field}, Value: appendAddr(nil, list[0].lo), Bits: bits}
		}
	}
	return in(c.spanSet(name, o, field, list), field)
}

func (c *compiler) spanSet(name string, o ruleset.Origin, field ruleset.Field, list spans) string {
	return c.set(name, o, true, []ruleset.Type{field.Type()}, func(s *ruleset.Set) {
		s.Grow(len(list))
		var low, high [16]byte
		for _, x := range list {
			s.Add(appendAddr(low[:0], x.lo), appendAddr(high[:0], x.hi), nil, ruleset.NoOrigin)
		}
	})
}

// inSet matches the kernel's set for a set of the policy, in one family.
func (c *compiler) inSet(name string, f int, field ruleset.Field) ruleset.Match {
	s := c.sets[name]
	return in(c.spanSet("set_"+name+familySuffix(f), origin("set", name, s.place), field, s.spans[f]), field)
}
