package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// leakGuard builds the chain behind nat: what a translating entry matches and
// was not translated (invalid, untracked, older than the rules) is dropped.
// Answers within flows that the other side opened are left alone. Packets that
// conntrack does not know have neither status nor direction, and so are not
// spared.
//
// Every packet that is forwarded comes by here, so that the order is that of
// cost: what no entry takes packets from leaves after a comparison of the
// interface, what was translated or is an answer after two more.
func (c *compiler) leakGuard() {
	from := c.translated("leak_guard_from_", func(ch *ruleset.Chain, t *translator) {
		c.entryRules(ch, t.origin, t.when, "", goTo(c.untranslated(t)))
	})
	if len(from) == 0 {
		return
	}
	o := own("ipmasq")
	ch := c.chain("leak_guard_inside", o)
	established := anyBit(ruleset.CtStateField, ruleset.CtEstablished)
	c.rule(ch, o, pass(), anyBit(ruleset.CtStatusField, ruleset.CtSNAT), established)
	for _, a := range c.toOutside() {
		c.entryRules(ch, o, and([]alternative{{matches: []ruleset.Match{equal(ruleset.CtDirection, ruleset.CtReply), established}}}, []alternative{a}), "", pass())
	}
	c.rule(ch, o, c.borrowed(), anyBit(ruleset.CtStatusField, ruleset.CtSNAT), equal(ruleset.CtDirection, ruleset.CtOriginal))
	c.sparesAnswers(ch)
	c.dispatch(ch, from, "")
	base := c.base("leak_guard", ruleset.TypeFilter, ruleset.Postrouting, priorityGuard)
	c.arriving(base, from, ch.Name)
	c.rule(base, o, pass())
}

// toOutside is when what leaves by an uplink is no answer to the inside. While
// the link of an inside network is down, the default route is what leads there,
// and what other inside hosts go on answering would leave by it. An inside
// network is one of a zone that no entry translates to, and that shares no
// interface with one. What an uplink has too, by its zone or by its address, is
// left alone: networks may be written wider than they are.
func (c *compiler) toOutside() []alternative {
	uplinks := c.sourceUplinks().zones
	var lists [2]spans
	for f := range lists {
		var outside spans
		for _, z := range c.zones {
			switch {
			case len(z.Networks) == 0 || z.networks[f].equal(whole(f)): // the outside too
			case uplinks[z]:
				outside = append(outside, z.networks[f]...)
			case !slices.ContainsFunc(c.zones, func(u *zone) bool { return uplinks[u] && interfacesMeet(z, u) }):
				lists[f] = append(lists[f], z.networks[f]...)
			}
		}
		for _, link := range c.facts.Links {
			for _, a := range link.Addresses {
				if familyIndex(a.Addr()) == f && slices.ContainsFunc(c.zones, func(z *zone) bool { return uplinks[z] && z.on(pattern{name: link.Name}) }) {
					outside = append(outside, spanOf(a.Masked()))
				}
			}
		}
		lists[f] = merge(lists[f]).minus(merge(outside))
	}
	if len(lists[0])+len(lists[1]) == 0 {
		return anything()
	}
	when := make([]alternative, 2)
	for f, list := range lists {
		when[f].family = only(f)
		if len(list) > 0 {
			name, _ := c.nameOf("inside_networks"+familySuffix(f), list.content())
			when[f].matches = []ruleset.Match{negated(c.spansMatch(destinations()[f], list, name, own("ipmasq")))}
		}
	}
	return when
}

// untranslated makes the chain for what an entry should have translated, and
// gives its name.
//
// An ICMP error about a flow that the outside opened by right is told from the
// address that the outside knows that flow by. The kernel sees to that where
// the flow was translated (nf_nat_icmp_reply_translation); where it was not, a
// router on the inside, or anybody there, would tell it from its own.
func (c *compiler) untranslated(t *translator) string {
	name := fit("leak_guard_of_" + t.object)
	if c.chains[name] {
		return name
	}
	o := t.origin
	ch := c.chain(name, o)
	known := side{ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr}
	outside := c.toOutside()
	for f, source := range sources() {
		m := append([]ruleset.Match{isFamily(f), equal(ruleset.CtDirection, ruleset.CtReply), anyBit(ruleset.CtStateField, ruleset.CtRelated)}, outside[f%len(outside)].matches...)
		r := c.rule(ch, o, pass(), m...)
		r.Do = []ruleset.Statement{{Kind: ruleset.SetAddress, Fields: []ruleset.Field{source, known[f]}}}
	}
	c.stopLeaks(ch, t, anything())
	return name
}

// borrowed gives what happens to what was translated. It passes, unless that was
// to an address of the inside: for an uplink that has none the kernel borrows
// one from another interface (inet_select_addr, ipv6_dev_get_saddr), and an
// inside address would leave.
func (c *compiler) borrowed() ruleset.Action {
	var ch *ruleset.Chain
	for _, t := range c.translators {
		if !t.borrows {
			continue
		}
		m := t.source
		for _, z := range t.from {
			if slices.Contains(t.to, z) {
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
				o := t.origin
				match := []ruleset.Match{
					c.spansMatch(sources()[f], list, name, origin("zone", z.Name, z.Place)),
					negated(equal(ruleset.FibSaddrOifType, 0, 0, 0, ruleset.RTNLocal)),
				}
				if held := c.heldOn(t.to, list, f); len(held) > 0 {
					match = append(match, negated(c.spansMatch(sources()[f], held, t.object+"_uplink"+familySuffix(f), o)))
				}
				// What the entry would not translate is no inside address to it.
				when := and(c.address(sources(), m.Sources, m.ExceptSources, t.object+"_sources", o), []alternative{{only(f), match}})
				c.entryRules(ch, o, and(c.toZones(m.To), when), c.leakCounter(t), ruleset.Action{Kind: ruleset.Drop})
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
