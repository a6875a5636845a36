package compile

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// before is what a rule tests before the look-up. From inside, a packet must
// be aimed at an address of the gateway that is not the arriving interface's.
func (c *compiler) before(l *lookup, inside bool) []alternative {
	e := l.entry
	o := origin("port_forward", e.Name, e.Place)
	when := []alternative{{only(l.family), []ruleset.Match{equal(ruleset.L4Proto, l.proto)}}}
	if e.restricted() && !e.sourced {
		when = and(when, c.address(sources(), e.Sources, e.ExceptSources, l.name+"_sources", o))
	}
	switch {
	case e.AnyAddress || e.aimed:
		return when
	case e.address.given:
		return and(when, c.address(destinations(), e.Address, nil, l.name+"_address", o))
	}
	aimed := []ruleset.Match{isLocal()}
	if inside {
		aimed = append(aimed, negated(isArriving()))
	}
	return and(when, []alternative{{matches: aimed}})
}

// translate appends the rule that makes a look-up.
func (c *compiler) translate(ch *ruleset.Chain, l *lookup, when []alternative) {
	o := own("port_forward")
	if l.entry.restricted() && !l.entry.sourced {
		o = origin("port_forward", l.entry.Name, l.entry.Place)
	}
	c.entryRules(ch, o, when, "", ruleset.Action{Kind: ruleset.DNAT, Family: familyOf(l.family), Fields: l.fields(), Map: l.name})
}

// prerouting builds the chain that gives packets a new destination.
func (c *compiler) prerouting(f *forwards) {
	from := map[*zone]string{}
	for _, z := range c.zones {
		if !f.enters(z) {
			continue
		}
		from[z] = "nat_prerouting_from_" + z.Name
		ch := c.chain(from[z], origin("zone", z.Name, z.Place))
		for _, l := range f.lookups {
			if len(z.left[l.family]) == 0 {
				continue
			}
			switch {
			case slices.Contains(l.entry.from, z):
				c.translate(ch, l, c.before(l, false))
			case slices.Contains(l.entry.hairpin, z):
				c.translate(ch, l, and(c.before(l, true), c.notInside(l)))
			}
		}
	}
	if len(from) == 0 {
		return
	}
	base := c.base("nat_prerouting", ruleset.TypeNAT, ruleset.Prerouting, priorityDstNAT)
	c.dispatch(base, from, "")
	c.rule(base, own("ipmasq"), pass())
}

// output builds the chain for the gateway's own connections. What it sends to
// its loopback addresses stays its own.
func (c *compiler) output(f *forwards) {
	var base *ruleset.Chain
	for _, l := range f.lookups {
		if !l.entry.gateway {
			continue
		}
		if base == nil {
			base = c.base("nat_output", ruleset.TypeNAT, ruleset.Output, priorityDstNAT)
		}
		when := and(c.before(l, false), c.notInside(l))
		if !l.entry.address.given {
			loopback := netip.MustParsePrefix([2]string{"127.0.0.0/8", "::1/128"}[l.family])
			when = and(when, []alternative{{matches: []ruleset.Match{{
				Fields: []ruleset.Field{destinations()[l.family]}, Op: ruleset.NotEqual,
				Value: appendAddr(nil, loopback.Addr()), Bits: loopback.Bits(),
			}}}})
		}
		c.translate(base, l, when)
	}
	if base != nil {
		c.rule(base, own("ipmasq"), pass())
	}
}

// notInside excludes the addresses that the gateway holds on the interfaces of
// inside zones, so that its own pages stay reachable there. The kernel knows
// which of its addresses belong to the arriving interface, but has no look-up
// for another one's, so these come from the facts.
func (c *compiler) notInside(l *lookup) []alternative {
	e := l.entry
	if e.address.given || e.AnyAddress {
		return anything()
	}
	var list spans
	for _, link := range c.facts.Links {
		for _, a := range link.Addresses {
			if s := (span{a.Addr(), a.Addr()}); familyIndex(s.lo) == l.family && c.isInside(e, link.Name, s) {
				list = append(list, s)
			}
		}
	}
	if len(list) == 0 {
		return anything()
	}
	list = merge(list)
	name, _ := c.nameOf("inside_addresses"+familySuffix(l.family), list.content())
	field := destinations()[l.family]
	return []alternative{{matches: []ruleset.Match{negated(in(c.spanSet(name, own("port_forward"), field, list), field))}}}
}

// isInside says whether an address that the gateway holds belongs to an inside
// zone of an entry. Where the zone that it lies in is not known by networks,
// the interface decides.
func (c *compiler) isInside(e *entry, name string, address span) bool {
	if z := c.zoneOf(name, address); z != nil {
		return !slices.Contains(e.from, z)
	}
	p := pattern{name: name}
	named := func(z *zone) bool { return len(z.Interfaces) > 0 && z.on(p) }
	return !slices.ContainsFunc(e.from, named) && slices.ContainsFunc(c.inside(e), named)
}
