package compile

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Counters of what no entry of input asked for.
const (
	counterInputDefault = "default_input"
	counterInputInvalid = "invalid_input"
)

// inputDefaultChain is where input sends what nothing else decided.
const inputDefaultChain = "input_default"

// resolveInput resolves the rules for the gateway's own ports, where the policy
// has any.
func (c *compiler) resolveInput() {
	if c.policy.Input != nil {
		c.inputRules = c.resolveRules("input", c.policy.Input)
	}
}

// input builds the chain that decides what reaches the gateway itself. What the
// gateway asked for and loopback pass first, then what IPv6 cannot live
// without, then the rules of the zone it comes from. Without an input section
// it closes the ports of redirect, and decides nothing else.
func (c *compiler) input() {
	x, redirected := c.inputRules, c.redirected()
	if x == nil && redirected == "" {
		return
	}
	from, otherwise := map[*zone]string{}, redirected
	for _, z := range c.zones {
		from[z] = redirected
		if x != nil {
			from[z] = c.inputFrom(z, x, redirected)
		}
	}
	if x != nil {
		o := c.inputDefault()
		c.verdict(c.chain(inputDefaultChain, o), o, anything(), nil, c.counter(counterInputDefault, o), x.Default)
		otherwise = c.unplaced(from)
	}
	base := c.base("input", ruleset.TypeFilter, ruleset.Input, 0)
	c.rule(base, own("ipmasq"), pass(), anyBit(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
	c.rule(base, own("ipmasq"), pass(), equal(ruleset.IIfName, ifname("lo")...))
	if x != nil {
		c.neighbours(base)
	}
	c.dispatch(base, from, otherwise)
	c.rule(base, own("ipmasq"), pass())
}

func (c *compiler) inputDefault() ruleset.Origin {
	return origin("input", "default", c.policy.Input.Place)
}

// inputFrom makes the chain for what comes from a zone.
func (c *compiler) inputFrom(z *zone, x *filter, redirected string) string {
	ch := c.chain("input_from_"+z.Name, origin("zone", z.Name, z.Place))
	c.handshakes(ch, z, x)
	invalid := own("invalid input")
	c.rule(ch, invalid, ruleset.Action{Kind: ruleset.Drop}, anyBit(ruleset.CtStateField, ruleset.CtInvalid)).Counter = c.counter(counterInputInvalid, invalid)
	if redirected != "" {
		c.rule(ch, own("redirect"), jumpTo(redirected))
	}
	c.rulesFrom(ch, z, x)
	c.rule(ch, c.inputDefault(), goTo(inputDefaultChain))
	return ch.Name
}

// unplaced builds the chain for what arrives on a zone's interface from a source
// that no zone has. Hosts that ask for an address have none yet, and the
// link-local ones, by which IPv6 hosts find their router's services, are on no
// list of networks: both count as the zone's where one zone alone has the
// interface. The rest is for the default.
func (c *compiler) unplaced(from map[*zone]string) string {
	var chains [2]*ruleset.Chain
	for i := range c.buckets {
		b := &c.buckets[i]
		if b.pattern == anyInterface() {
			continue
		}
		for f := range chains {
			to, o := inputDefaultChain, c.inputDefault()
			if z := b.alone(f); z != nil {
				to, o = from[z], origin("zone", z.Name, z.Place)
			} else if b.wider < 0 {
				continue
			}
			if chains[f] == nil {
				chains[f] = c.chain("input_on_link"+familySuffix(f), own("zones"))
			}
			c.rule(chains[f], o, goTo(to), interfaceIs(ruleset.IIfName, b.pattern)...)
		}
	}
	if chains[0] == nil && chains[1] == nil {
		return inputDefaultChain
	}
	ch := c.chain("input_on_link", own("zones"))
	for f, sources := range [2][]string{{"0.0.0.0/32", "169.254.0.0/16"}, {"fe80::/10"}} {
		if chains[f] == nil {
			continue
		}
		c.rule(chains[f], c.inputDefault(), goTo(inputDefaultChain))
		for _, text := range sources {
			c.rule(ch, own("zones"), goTo(chains[f].Name), isFamily(f), inPrefix(side{ruleset.IPSaddr, ruleset.IP6Saddr}[f], text))
		}
	}
	c.rule(ch, c.inputDefault(), goTo(inputDefaultChain))
	return ch.Name
}

// alone gives the zone that a bucket's packets of a family belong to, where
// there is one, and has not every address.
func (b *bucket) alone(f int) (alone *zone) {
	for _, x := range b.cells {
		switch {
		case len(x.addresses[f]) == 0 || x.addresses[f].equal(whole(f)):
		case alone != nil:
			return nil
		default:
			alone = x.zone
		}
	}
	return alone
}

// inPrefix matches an address field against a prefix.
func inPrefix(f ruleset.Field, prefix string) ruleset.Match {
	p := netip.MustParsePrefix(prefix)
	return ruleset.Match{Fields: []ruleset.Field{f}, Value: appendAddr(nil, p.Addr()), Bits: p.Bits()}
}

// neighbours lets pass what IPv6 needs on a link and no connection tracking
// knows: neighbour and router discovery, which only a neighbour can send (hop
// limit 255, RFC 4861); the queries and reports of multicast listeners, without
// which switches stop to deliver it (hop limit 1, RFC 2710 and 3810); and what
// DHCPv6 answers, since it was asked of a group (RFC 8415).
func (c *compiler) neighbours(base *ruleset.Chain) {
	icmpv6 := func(hops byte, types ...byte) {
		for i := 0; i < len(types); i += 2 {
			c.rule(base, own("ipmasq"), pass(), isFamily(1), equal(ruleset.IP6HopLimit, hops), equal(ruleset.L4Proto, policy.ProtocolICMPv6),
				ruleset.Match{Fields: []ruleset.Field{ruleset.ICMPv6TypeField}, Op: ruleset.Between, Value: types[i : i+1], High: types[i+1 : i+2]})
		}
	}
	const (
		routerSolicitation, redirect = 133, 137
		listenerQuery, listenerDone  = 130, 132
		listenerReport2              = 143
		dhcpv6Client                 = 546
	)
	icmpv6(255, routerSolicitation, redirect)
	icmpv6(1, listenerQuery, listenerDone, listenerReport2, listenerReport2)
	c.rule(base, own("ipmasq"), pass(), isFamily(1), inPrefix(ruleset.IP6Saddr, "fe80::/10"), inPrefix(ruleset.IP6Daddr, "fe80::/10"),
		equal(ruleset.L4Proto, policy.ProtocolUDP), equal(ruleset.DstPort, portBytes(dhcpv6Client)...))
}
