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

// translate appends the rule that makes a look-up, or leads to the entry's own
// chain.
func (c *compiler) translate(ch *ruleset.Chain, l *lookup, when []alternative) {
	if l.entry.apart {
		c.translateApart(ch, l, when)
		return
	}
	o := own("port_forward")
	if l.entry.restricted() && !l.entry.sourced {
		o = origin("port_forward", l.entry.Name, l.entry.Place)
	}
	c.entryRules(ch, o, when, "", ruleset.Action{Kind: ruleset.DNAT, Family: familyOf(l.family), Fields: l.fields(), Map: l.name})
}

// prerouting builds the chain that gives packets a new destination.
func (c *compiler) prerouting(f *forwards) {
	from, uplinks := map[*zone]string{}, c.sourceUplinks()
	for _, z := range c.zones {
		forged := c.forgedFrom(z, uplinks)
		redirects := slices.ContainsFunc(c.redirects, func(r *redirect) bool { return slices.Contains(r.from, z) })
		if !f.enters(z) && len(c.oneToOne) == 0 && !forged && !redirects {
			continue
		}
		from[z] = "nat_prerouting_from_" + z.Name
		ch := c.chain(from[z], origin("zone", z.Name, z.Place))
		if forged {
			c.dropForged(ch, uplinks)
		}
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
		c.redirectsFrom(ch, z)
		c.enter(ch, z)
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
	attach := func() {
		if base == nil {
			base = c.base("nat_output", ruleset.TypeNAT, ruleset.Output, priorityDstNAT)
			c.offLoopback(base, f)
		}
	}
	for _, l := range f.lookups {
		if !l.entry.gateway {
			continue
		}
		attach()
		when := and(c.before(l, false), c.notInside(l))
		if !l.entry.address.given {
			when = and(when, []alternative{notLoopback(l.family)})
		}
		c.translate(base, l, when)
	}
	for _, r := range c.redirects {
		if r.Local {
			attach()
			c.redirect(base, r, and(r.when, []alternative{notLoopback(0), notLoopback(1)}))
		}
	}
	if len(c.oneToOne) > 0 {
		attach()
		c.enter(base, nil)
	}
	if base != nil {
		c.backOnLoopback(base, f)
		c.rule(base, own("ipmasq"), pass())
	}
}

// notLoopback excludes the loopback addresses of a family.
func notLoopback(f int) alternative {
	loopback := netip.MustParsePrefix([2]string{"127.0.0.0/8", "::1/128"}[f])
	return alternative{only(f), []ruleset.Match{{
		Fields: []ruleset.Field{destinations()[f]}, Op: ruleset.NotEqual,
		Value: appendAddr(nil, loopback.Addr()), Bits: loopback.Bits(),
	}}}
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
