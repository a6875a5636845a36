package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// mappingTranslator has what leaves to the uplink from inside addresses of a
// group take their outside addresses.
func (c *compiler) mappingTranslator(g *mappings) *translator {
	o, f := own("one_to_one"), g.family
	t := &translator{origin: o, object: g.name("to"), to: []*zone{g.zone}, opens: true}
	var inside spans
	for _, m := range g.list {
		inside = append(inside, m.inside)
		for _, z := range m.homes {
			if !slices.Contains(t.from, z) {
				t.from = append(t.from, z)
			}
		}
	}
	field := sources()[f]
	leaves := func(m ruleset.Match) []alternative {
		return and(c.toZones([]policy.ZoneRef{{Name: g.zone.Name}}), []alternative{{only(f), []ruleset.Match{m}}})
	}
	t.when = leaves(c.spansMatch(field, merge(inside), g.name("inside"), o))
	t.leaks = leaves(in(c.set(g.name("leaks"), o, !g.single, []ruleset.Type{field.Type()}, func(s *ruleset.Set) {
		s.Counted = true
		for _, m := range g.list {
			s.Add(appendAddr(nil, m.inside.lo), appendAddr(nil, m.inside.hi), nil, m.index)
		}
	}), field))
	t.translate = func(ch *ruleset.Chain, when []alternative) {
		for _, m := range g.list {
			if m.Log != nil {
				c.entryRules(ch, m.origin, leaves(c.spansMatch(field, spans{m.inside}, "one_to_one_"+m.Name+"_inside", o)), "", jumpTo(c.logged(m)))
			}
		}
		do := ruleset.Action{Kind: ruleset.SNAT, Family: familyOf(f), Fields: []ruleset.Field{field}, Map: c.mappingMap(g, "source"), NAT: ruleset.NAT{Prefix: !g.single}}
		c.entryRules(ch, o, when, "", do)
	}
	return t
}

// mappingMap makes the map of a group: "source" leads outside and counts, and
// "destination" leads inside, where not all that arrives is let in.
func (c *compiler) mappingMap(g *mappings, what string) string {
	name := g.name(what)
	if c.taken[name] {
		return name
	}
	c.taken[name] = true
	typ := []ruleset.Type{sources()[g.family].Type()}
	s := ruleset.NewSet(name, typ, typ)
	if !g.single {
		s = ruleset.NewRangeMap(name, typ, typ)
		s.Interval = true
	}
	s.Origin, s.Counted = own("one_to_one"), what == "source"
	for _, m := range g.list {
		from, to := m.inside, m.outside
		if what == "destination" {
			from, to = to, from
		}
		value := appendAddr(nil, to.lo)
		if !g.single {
			value = appendAddr(value, to.hi)
		}
		s.Add(appendAddr(nil, from.lo), appendAddr(nil, from.hi), value, m.index)
	}
	c.out.Sets = append(c.out.Sets, s)
	return name
}

// enter appends the look-ups that give a packet aimed at an outside address the
// inside one. What arrives on an uplink may be for its own entries alone; the
// inside, and the gateway itself (z is nil), reach all.
func (c *compiler) enter(ch *ruleset.Chain, z *zone) {
	uplink := c.oneToOneUplink(z)
	for _, g := range c.oneToOne {
		if uplink && g.zone != z || z != nil && len(z.left[g.family]) == 0 {
			continue
		}
		c.rule(ch, own("one_to_one"), ruleset.Action{
			Kind: ruleset.DNAT, Family: familyOf(g.family), Fields: []ruleset.Field{destinations()[g.family]},
			Map: c.mappingMap(g, "destination"), NAT: ruleset.NAT{Prefix: !g.single},
		}, isFamily(g.family))
	}
}

// oneToOneUplink says whether a zone is the uplink of any entry.
func (c *compiler) oneToOneUplink(z *zone) bool {
	return slices.ContainsFunc(c.oneToOne, func(g *mappings) bool { return g.zone == z })
}

// logged makes the chain that writes down the flows of an entry.
func (c *compiler) logged(m *mapping) string {
	name := fit("flows_of_one_to_one_" + m.Name)
	if !c.chains[name] {
		c.log(c.chain(name, m.origin), m.origin, m.Log)
	}
	return name
}

// logEntered writes down the flows that came in, behind all that could refuse
// them.
func (c *compiler) logEntered(ch *ruleset.Chain) {
	for f := range 2 {
		for _, m := range c.mapped(f) {
			if m.Log != nil {
				name := "one_to_one_" + m.Name
				c.rule(ch, m.origin, jumpTo(c.logged(m)), isFamily(f),
					c.spansMatch(destinations()[f], spans{m.inside}, name+"_inside", m.origin),
					c.spansMatch(originalDestinations()[f], spans{m.outside}, name+"_outside", m.origin))
			}
		}
	}
}
