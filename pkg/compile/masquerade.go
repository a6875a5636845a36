package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Where nat and the guard behind it stand among the chains of a hook
// (enum nf_ip_hook_priorities).
const (
	priorityDstNAT = -100
	prioritySrcNAT = 100
	priorityGuard  = prioritySrcNAT + 10
)

// resolveMasquerades compiles when each entry applies, and finds those that
// can match nothing.
func (c *compiler) resolveMasquerades() {
	c.masquerades = make([]condition, len(c.policy.Masquerade))
	for i := range c.policy.Masquerade {
		m := &c.policy.Masquerade[i]
		o, what := masqueradeOrigin(m), "masquerade_"+m.Name
		when := and(family(m.Family), c.protocols(upper{protocols: m.Protocols, toPort: m.Ports}, what, o))
		when = and(when, c.toZones(m.To))
		when = and(when, c.address(sources(), m.Sources, m.ExceptSources, what+"_sources", o))
		when = and(when, c.address(destinations(), m.Destinations, m.ExceptDestinations, what+"_destinations", o))
		from := c.refs(m.From)
		c.masquerades[i] = condition{when, from}
		families := c.matching(&traffic{m.Family, from, m.To, m.Sources, m.ExceptSources, m.Destinations, m.ExceptDestinations}, when, o.Entry, m.Place)
		if !m.NoForward {
			c.forwardsFamilies(families)
		}
	}
}

func masqueradeOrigin(m *policy.Masquerade) ruleset.Origin {
	return origin("masquerade", m.Name, m.Place)
}

// masqueradesFrom calls each with the entries that take packets from a zone,
// in order.
func (c *compiler) masqueradesFrom(z *zone, each func(m *policy.Masquerade, when []alternative)) {
	for i := range c.masquerades {
		if slices.Contains(c.masquerades[i].from, z) {
			each(&c.policy.Masquerade[i], c.masquerades[i].when)
		}
	}
}

// translated makes a chain for each zone that a masquerade takes packets from,
// and lets fill put in what each entry needs.
func (c *compiler) translated(prefix string, fill func(ch *ruleset.Chain, m *policy.Masquerade, when []alternative)) map[*zone]string {
	from := map[*zone]string{}
	for _, z := range c.zones {
		var ch *ruleset.Chain
		c.masqueradesFrom(z, func(m *policy.Masquerade, when []alternative) {
			if len(when) == 0 {
				return
			}
			if ch == nil {
				from[z] = prefix + z.Name
				ch = c.chain(from[z], origin("zone", z.Name, z.Place))
				c.sparesOwn(ch)
			}
			fill(ch, m, when)
		})
	}
	return from
}

// postrouting builds the chain that gives packets a new source. It is there
// without entries too: the kernel translates as long as there is any chain of
// type nat, and flows that an earlier policy translated would leave as they are
// from the moment that the last one goes.
func (c *compiler) postrouting(forwards *forwards) {
	from := c.translated("nat_postrouting_from_", c.masquerade)
	base := c.base("nat_postrouting", ruleset.TypeNAT, ruleset.Postrouting, prioritySrcNAT)
	c.sourceOfForwards(base, forwards)
	if len(from) > 0 {
		c.dispatch(base, from, "")
	}
	c.rule(base, own("ipmasq"), pass())
}

// masquerade appends the rules of an entry.
func (c *compiler) masquerade(ch *ruleset.Chain, m *policy.Masquerade, when []alternative) {
	o := masqueradeOrigin(m)
	counter := c.counter("masquerade_"+m.Name, o)
	do := ruleset.Action{Kind: ruleset.Masquerade, NAT: ruleset.NAT{Random: m.PortSelection == policy.Random, FullyRandom: m.PortSelection == policy.FullyRandom}}
	if m.OutsidePorts == nil {
		c.entryRules(ch, o, when, counter, do)
		return
	}
	// A range of ports is for protocols that have ports, and nft(8) wants to
	// see which; what else matches is translated without a range.
	ranged := do
	ranged.NAT.PortMin, ranged.NAT.PortMax = m.OutsidePorts.First, m.OutsidePorts.Last
	others := len(m.Protocols) == 0
	for _, p := range m.Protocols {
		others = others || !policy.HasPorts(p.Number)
	}
	for _, proto := range portProtocols() {
		switch {
		case len(m.Protocols) == 1 && m.Protocols[0].Number == proto:
			c.entryRules(ch, o, when, counter, ranged)
		case len(m.Protocols) == 0 || hasProtocol(m.Protocols, proto):
			c.entryRules(ch, o, and(isProtocol(proto), when), counter, ranged)
		}
	}
	if others {
		c.entryRules(ch, o, when, counter, do)
	}
}

// portProtocols are the protocols that have ports.
func portProtocols() []uint8 {
	return []uint8{policy.ProtocolTCP, policy.ProtocolUDP, policy.ProtocolSCTP, policy.ProtocolUDPLite}
}

func hasProtocol(list []policy.Protocol, number uint8) bool {
	return slices.ContainsFunc(list, func(p policy.Protocol) bool { return p.Number == number })
}

func isProtocol(number uint8) []alternative {
	return []alternative{{matches: []ruleset.Match{equal(ruleset.L4Proto, number)}}}
}

// leakGuard builds the chain behind nat: what a translating entry matches and
// was not translated (invalid, untracked, older than the rules) is dropped.
// Answers within flows that the other side opened are left alone. Packets that
// conntrack does not know have neither status nor direction, and so are not
// spared.
func (c *compiler) leakGuard() {
	from := c.translated("leak_guard_from_", func(ch *ruleset.Chain, m *policy.Masquerade, when []alternative) {
		c.entryRules(ch, masqueradeOrigin(m), when, c.leakCounter(m), ruleset.Action{Kind: ruleset.Drop})
	})
	if len(from) == 0 {
		return
	}
	base := c.base("leak_guard", ruleset.TypeFilter, ruleset.Postrouting, priorityGuard)
	// Every packet that is forwarded comes by here: most of them are answers,
	// or translated, and the rest need not be looked at on other interfaces.
	c.rule(base, own("ipmasq"), pass(), equal(ruleset.CtDirection, ruleset.CtReply))
	c.rule(base, own("ipmasq"), c.borrowed(), anyBit(ruleset.CtStatusField, ruleset.CtSNAT))
	c.dispatch(base, from, "")
	c.rule(base, own("ipmasq"), pass())
}

// borrowed gives what happens to what was translated. It passes, unless that was
// to an address of the inside: for an uplink that has none the kernel borrows
// one from another interface (inet_select_addr, ipv6_dev_get_saddr), and an
// inside address would leave.
func (c *compiler) borrowed() ruleset.Action {
	var ch *ruleset.Chain
	for i := range c.masquerades {
		m := &c.policy.Masquerade[i]
		for _, z := range c.masquerades[i].from {
			if slices.Contains(c.refs(m.To), z) {
				continue // its own addresses are not borrowed
			}
			for f, list := range z.networks {
				name, _ := c.nameOf("zone_"+z.Name+familySuffix(f), list.content())
				if len(z.Networks) == 0 {
					// Of a zone that may have any address, those that the host
					// itself holds there are what it could borrow.
					list = c.heldOn([]*zone{z}, whole(f), f)
					name = "inside_of_" + z.Name + familySuffix(f)
				}
				if len(list) == 0 {
					continue
				}
				if ch == nil {
					ch = c.chain("leak_guard_translated", own("ipmasq"))
					c.rule(ch, own("ipmasq"), pass(), anyBit(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
				}
				o := masqueradeOrigin(m)
				match := []ruleset.Match{
					c.spansMatch(sources()[f], list, name, origin("zone", z.Name, z.Place)),
					negated(equal(ruleset.FibSaddrOifType, 0, 0, 0, ruleset.RTNLocal)),
				}
				if held := c.heldOn(c.refs(m.To), list, f); len(held) > 0 {
					match = append(match, negated(c.spansMatch(sources()[f], held, "masquerade_"+m.Name+"_uplink"+familySuffix(f), o)))
				}
				// What the entry would not translate is no inside address to it.
				when := and(c.address(sources(), m.Sources, m.ExceptSources, "masquerade_"+m.Name+"_sources", o), []alternative{{only(f), match}})
				c.entryRules(ch, o, and(c.toZones(m.To), when), c.leakCounter(m), ruleset.Action{Kind: ruleset.Drop})
			}
		}
	}
	if ch == nil {
		return pass()
	}
	c.rule(ch, own("ipmasq"), pass())
	return goTo(ch.Name)
}

// heldOn gives the addresses among a list that the host holds on interfaces
// that zones name. The kernel's look-up knows one interface for an address,
// even where several hold it.
func (c *compiler) heldOn(zones []*zone, list spans, f int) spans {
	var held spans
	for _, link := range c.facts.Links {
		if !slices.ContainsFunc(zones, func(z *zone) bool { return len(z.Interfaces) > 0 && z.on(pattern{name: link.Name}) }) {
			continue
		}
		for _, a := range link.Addresses {
			one := spans{{a.Addr(), a.Addr()}}
			if familyIndex(a.Addr()) == f && !a.Addr().IsLinkLocalUnicast() && list.intersects(one) {
				held = append(held, one...)
			}
		}
	}
	return merge(held)
}

func (c *compiler) leakCounter(m *policy.Masquerade) string {
	return c.counter("leak_stopped_"+m.Name, masqueradeOrigin(m))
}

// sparesOwn lets pass what the host itself sends. Behind routing the kernel
// says of some of it that it came in by an interface, which may be a zone's:
// neighbour discovery by the one that it leaves by, the packets that carry a
// tunnel by the tunnel (net/ipv6/ip6_output.c: indev = skb->dev). Before it
// has an address, the host asks from none; nobody's packets are forwarded
// from there.
func (c *compiler) sparesOwn(base *ruleset.Chain) {
	c.rule(base, own("ipmasq"), pass(), equal(ruleset.FibSaddrType, 0, 0, 0, ruleset.RTNLocal))
	c.rule(base, own("ipmasq"), pass(), isFamily(1), equal(ruleset.IP6Saddr, make([]byte, 16)...))
}
