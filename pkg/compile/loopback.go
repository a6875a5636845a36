package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// A port forward of a loopback address leads the gateway's own connections to
// another host. The kernel does not route a loopback address over a link: on
// the way out it refuses IPv4's as the source (__mkroute_output), on the way in
// both as the destination of the answers (ip_route_input_slow for IPv4; for
// IPv6 rt6_need_strict wants ::1 on the link). The sysctl route_localnet lifts
// that for IPv4, and opens 127.0.0.1 to all neighbours with it.
//
// So it stays off, and what routing sees is another address. On the way out
// the source is unspecified, until nat gives it that of the link; on the way in
// an answer that nat has translated back gets that address again, and its true
// one behind routing. Conntrack is not told, and only packets of flows that it
// has translated on both sides are touched: whatever else comes with a loopback
// address is refused by routing as ever.
const (
	priorityOffLoopback    = priorityDstNAT - 10 // behind conntrack
	priorityAroundLoopback = priorityDstNAT + 5  // behind nat, before routing
	priorityBackOnLoopback = prioritySrcNAT - 5  // others' input chains see where it came by
)

func loopback(field ruleset.Field) ruleset.Match {
	if field.Type() == ruleset.IPv6Addr {
		return equal(field, appendAddr(nil, netip.IPv6Loopback())...)
	}
	return ruleset.Match{Fields: []ruleset.Field{field}, Value: []byte{127, 0, 0, 0}, Bits: 8}
}

// unspecified matches the source that stands for a loopback address.
func unspecified() ruleset.Match { return equal(ruleset.IPSaddr, make([]byte, 4)...) }

// notLoopbackLink matches what comes in or leaves by a real link.
func notLoopbackLink(side ruleset.Field) ruleset.Match { return negated(equal(side, ifname("lo")...)) }

// byLoopback says in which families there are forwards of loopback addresses.
func (f *forwards) byLoopback() (families [2]bool) {
	for _, l := range f.lookups {
		families[l.family] = families[l.family] || l.entry.loopback
	}
	return families
}

// loopbackEntry is where the first of these forwards is written.
func (c *compiler) loopbackEntry() policy.Place {
	for i := range c.policy.PortForward {
		if p := &c.policy.PortForward[i]; slices.ContainsFunc(p.Address, policy.Address.Loopback) {
			return p.Place
		}
	}
	return policy.Place{}
}

// apart gives an entry for the addresses that others can send to and one for
// loopback addresses, where an entry names both.
func (c *compiler) apart(p *policy.PortForward) []*policy.PortForward {
	first := slices.IndexFunc(p.Address, policy.Address.Loopback)
	for _, a := range p.Address {
		if a.Set != "" && slices.ContainsFunc(c.sets[a.Set].spans[:], holdsLoopback) {
			c.fail(a.Place, fmt.Sprintf("the set @%s holds loopback addresses, which lead only the gateway's own connections; take them out of the set, and write them in `address` themselves", a.Set))
		}
	}
	if first < 0 {
		return []*policy.PortForward{p}
	}
	if sources := append(slices.Clone(p.Sources), p.ExceptSources...); len(sources) > 0 {
		c.fail(sources[0].Place, fmt.Sprintf("nobody but the gateway connects to %s, so port_forward %s has no sources to choose from; take `sources` and `except_sources` out, or make an entry of its own of that address", p.Address[first], p.Name))
	}
	if p.OfGateway() {
		return []*policy.PortForward{p}
	}
	others, own := *p, *p
	others.Address = slices.DeleteFunc(slices.Clone(p.Address), policy.Address.Loopback)
	own.Address = slices.DeleteFunc(slices.Clone(p.Address), func(a policy.Address) bool { return !a.Loopback() })
	return []*policy.PortForward{&others, &own}
}

// holdsLoopback says whether a range of a list begins or ends with a loopback
// address. A wider one is meant for everybody.
func holdsLoopback(list spans) bool {
	return slices.ContainsFunc(list, func(s span) bool { return s.lo.IsLoopback() || s.hi.IsLoopback() })
}

// setAddress is a rule that writes an address and goes on.
func (c *compiler) setAddress(ch *ruleset.Chain, f int, fields []ruleset.Field, matches ...ruleset.Match) {
	o := own("port_forward")
	o.Place = ruleset.Place(c.loopbackEntry())
	r := c.rule(ch, o, ruleset.Action{}, append([]ruleset.Match{isFamily(f)}, matches...)...)
	r.Do = []ruleset.Statement{{Kind: ruleset.SetAddress, Fields: fields}}
}

// offLoopback and backOnLoopback stand around the look-ups of nat_output, which
// see the first packet of a flow: what they do not translate gets its source
// back.
func (c *compiler) offLoopback(base *ruleset.Chain, f *forwards) {
	if f.byLoopback()[0] {
		c.setAddress(base, 0, []ruleset.Field{ruleset.IPSaddr}, loopback(ruleset.IPSaddr), loopback(ruleset.IPDaddr))
	}
}

func (c *compiler) backOnLoopback(base *ruleset.Chain, f *forwards) {
	if f.byLoopback()[0] {
		c.setAddress(base, 0, []ruleset.Field{ruleset.IPSaddr, ruleset.CtOrigIPSaddr}, unspecified(), loopback(ruleset.IPDaddr))
	}
}

// sourceOfLoopback gives what leaves from a loopback address that of the link.
func (c *compiler) sourceOfLoopback(base *ruleset.Chain, f *forwards) {
	translated := anyBit(ruleset.CtStatusField, ruleset.CtDNAT)
	for family, is := range f.byLoopback() {
		if is {
			from := [2]ruleset.Match{unspecified(), loopback(ruleset.IP6Saddr)}[family]
			c.rule(base, own("port_forward"), ruleset.Action{Kind: ruleset.Masquerade}, translated, isFamily(family), from, notLoopbackLink(ruleset.OIfName))
		}
	}
}

// loopback builds the chains that lead the flows' packets past the rules of
// routing. Where a look at the address is enough to spare the rest, it comes
// first.
func (c *compiler) loopback(f *forwards) {
	families := f.byLoopback()
	if !families[0] && !families[1] {
		return
	}
	within := func(direction byte) []ruleset.Match {
		return []ruleset.Match{
			equal(ruleset.CtDirection, direction),
			anyBit(ruleset.CtStatusField, ruleset.CtSNAT), anyBit(ruleset.CtStatusField, ruleset.CtDNAT),
		}
	}
	if families[0] {
		out := c.base("loopback_output", ruleset.TypeFilter, ruleset.Output, priorityOffLoopback)
		c.setAddress(out, 0, []ruleset.Field{ruleset.IPSaddr}, append([]ruleset.Match{loopback(ruleset.IPSaddr)}, within(ruleset.CtOriginal)...)...)
		c.rule(out, own("ipmasq"), pass())
	}
	around := c.base("loopback_prerouting", ruleset.TypeFilter, ruleset.Prerouting, priorityAroundLoopback)
	back := c.base("loopback_input", ruleset.TypeFilter, ruleset.Input, priorityBackOnLoopback)
	link := side{ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr}
	first := side{ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr}
	answer := append([]ruleset.Match{notLoopbackLink(ruleset.IIfName)}, within(ruleset.CtReply)...)
	for family, is := range families {
		if is {
			to := destinations()[family]
			c.setAddress(around, family, []ruleset.Field{to, link[family]}, append([]ruleset.Match{loopback(to)}, answer...)...)
			c.setAddress(back, family, []ruleset.Field{to, first[family]}, answer...)
		}
	}
	c.rule(around, own("ipmasq"), pass())
	c.rule(back, own("ipmasq"), pass())
}
