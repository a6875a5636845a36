package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// sourceOfForwards gives a new source to what a port forward translated, where
// the answer would not come back otherwise: always where the entry says so, and
// where the packet leaves by the interface it came in by.
func (c *compiler) sourceOfForwards(base *ruleset.Chain, f *forwards) {
	o := own("port_forward")
	c.sourceOfLoopback(base, f)
	if len(f.opened)+len(c.oneToOne) == 0 {
		return
	}
	ch := c.chain("nat_postrouting_opened", o)
	masquerade := ruleset.Action{Kind: ruleset.Masquerade}
	var same *ruleset.Chain
	hairpin := func() *ruleset.Chain {
		if same == nil {
			same = c.chain("nat_postrouting_hairpin", o)
		}
		return same
	}
	c.logEntered(ch)
	for _, x := range f.opened {
		if x.source == sourceMasquerade {
			c.rule(ch, o, masquerade, x.match()...)
			continue
		}
		do := masquerade
		var known []ruleset.AddrRange
		if x.source == sourceOutside {
			do = ruleset.Action{Kind: ruleset.SNATToDest, Family: familyOf(x.family)}
			known = c.outsideAddresses(f, x.family)
		}
		c.rule(hairpin(), o, do, x.match()...).Known = known
	}
	for family := range 2 {
		if m := c.entered(family); m != nil {
			c.rule(hairpin(), own("one_to_one"), masquerade, m...)
		}
	}
	if same != nil {
		// What br_netfilter shows of a bridge has no input interface here. It
		// stays on the bridge, and nothing else that comes from elsewhere lacks
		// one.
		c.rule(ch, o, jumpTo(same.Name), equal(ruleset.IIf, 0, 0, 0, 0), negated(equal(ruleset.FibSaddrType, 0, 0, 0, ruleset.RTNLocal)))
		c.sameInterface(ch, same.Name, f)
	}
	c.rule(base, o, jumpTo(ch.Name), anyBit(ruleset.CtStatusField, ruleset.CtDNAT))
}

// outsideAddresses are those that forwards are for whose targets may see them
// as the source: as the entries say, else those of the host.
func (c *compiler) outsideAddresses(forwards *forwards, f int) []ruleset.AddrRange {
	var list spans
	for _, e := range forwards.entries {
		switch {
		case !e.Hairpin.OutsideSource || e.loopback:
		case e.address.given && !e.address.gateway:
			list = append(list, e.address.literal[f]...)
			for _, name := range e.address.sets {
				list = append(list, c.sets[name].spans[f]...)
			}
		default:
			for _, link := range c.facts.Links {
				for _, a := range link.Addresses {
					if familyIndex(a.Addr()) == f && a.Addr().IsGlobalUnicast() {
						list = append(list, span{a.Addr(), a.Addr()})
					}
				}
			}
		}
	}
	return addrRanges(merge(list))
}

// sameInterface appends jumps for packets that leave by the interface they came
// in by. The kernel cannot compare the two names, so every name of a zone
// stands in a set with itself. A wildcard, and a zone without interfaces, stand
// for those that the host has; of an interface that is new since, what matches
// both ways counts as the same.
func (c *compiler) sameInterface(ch *ruleset.Chain, to string, f *forwards) {
	o := own("port_forward")
	set := ruleset.NewSet("same_interface", []ruleset.Type{ruleset.IfName, ruleset.IfName}, nil)
	known := ruleset.NewSet("known_interfaces", []ruleset.Type{ruleset.IfName}, nil)
	set.Origin, known.Origin = o, o
	names, wild := c.interfaceNames()
	for _, name := range names {
		known.Add(ifname(name), nil, nil, ruleset.NoOrigin)
		if c.sharedBy(name) == nil {
			set.Add(append(ifname(name), ifname(name)...), nil, nil, ruleset.NoOrigin)
		}
	}
	if set.Len() > 0 {
		c.out.Sets = append(c.out.Sets, set)
		c.rule(ch, o, jumpTo(to), in(set.Name, ruleset.IIfName, ruleset.OIfName))
	}
	for _, name := range names {
		if b := c.sharedBy(name); b != nil {
			c.sameZone(ch, b, to, f)
		}
	}
	if !wild {
		return
	}
	if known.Len() > 0 {
		c.out.Sets = append(c.out.Sets, known)
		c.rule(ch, o, ruleset.Action{Kind: ruleset.Return}, in(known.Name, ruleset.IIfName))
	}
	for i := range c.buckets {
		if p := c.buckets[i].pattern; p.wildcard && p != anyInterface() {
			c.rule(ch, o, jumpTo(to), append(interfaceIs(ruleset.IIfName, p), interfaceIs(ruleset.OIfName, p)...)...)
		}
	}
	for _, z := range c.zones {
		if len(z.Interfaces) > 0 {
			continue
		}
		zo := origin("zone", z.Name, z.Place)
		for f, list := range z.networks {
			if len(list) == 0 || list.equal(whole(f)) {
				continue // all addresses do not tell one link from another
			}
			name, _ := c.nameOf("zone_"+z.Name+familySuffix(f), list.content())
			c.rule(ch, zo, jumpTo(to), isFamily(f),
				c.spansMatch(sources()[f], list, name, zo), c.spansMatch(destinations()[f], list, name, zo))
		}
	}
}

// sharedBy gives the bucket of an interface on which there are several zones;
// nil where there is one.
func (c *compiler) sharedBy(name string) *bucket {
	for i := range c.buckets {
		b := &c.buckets[i]
		if b.pattern != (pattern{name: name}) {
			continue
		}
		n := 0
		for _, x := range b.cells {
			if !x.empty() {
				n++
			}
		}
		if n > 1 {
			return b
		}
	}
	return nil
}

// sameZone appends jumps for packets that leave by an interface that several
// zones share. What comes from a zone that forwards are open to keeps its
// source on the way to another one: a gateway with one interface does not show
// its own address to the inside for what comes from outside.
func (c *compiler) sameZone(ch *ruleset.Chain, b *bucket, to string, forwards *forwards) {
	for _, x := range b.cells {
		zo := origin("zone", x.zone.Name, x.zone.Place)
		open := c.oneToOneUplink(x.zone) || slices.ContainsFunc(forwards.entries, func(e *entry) bool { return slices.Contains(e.from, x.zone) })
		for f, list := range x.addresses {
			if len(list) == 0 {
				continue
			}
			m := append([]ruleset.Match{isFamily(f)}, interfaceIs(ruleset.IIfName, b.pattern)...)
			m = append(m, interfaceIs(ruleset.OIfName, b.pattern)...)
			if !list.equal(whole(f)) {
				name, _ := c.nameOf("zone_"+x.zone.Name+familySuffix(f), list.content())
				m = append(m, c.spansMatch(sources()[f], list, name, zo))
				if open {
					m = append(m, c.spansMatch(destinations()[f], list, name, zo))
				}
			}
			c.rule(ch, zo, jumpTo(to), m...)
		}
	}
}

// interfaceNames gives the names of interfaces that zones name, and of those
// that the host has for their wildcards: links with an address that others can
// send to. It says whether any wildcard, or zone without interfaces, is there.
func (c *compiler) interfaceNames() (names []string, wild bool) {
	for i := range c.buckets {
		if p := c.buckets[i].pattern; !p.wildcard {
			names = append(names, p.name)
		} else {
			wild = true
		}
	}
	if !wild {
		return names, false
	}
	for _, link := range c.facts.Links {
		reachable := slices.ContainsFunc(link.Addresses, func(a Addr) bool { return a.Addr().IsGlobalUnicast() })
		covered := slices.ContainsFunc(c.buckets, func(b bucket) bool { return b.pattern.wildcard && b.pattern.covers(pattern{name: link.Name}) })
		if reachable && covered && !slices.Contains(names, link.Name) {
			names = append(names, link.Name)
		}
	}
	return names, true
}
