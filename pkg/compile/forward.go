package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Counters of what no entry asked for. An entry's counters begin with its
// section, so these cannot meet one.
const (
	counterDefault = "default_forward"
	counterInvalid = "invalid_forward"
)

// defaultChain is where forward sends what nothing else decided.
const defaultChain = "forward_default"

// resolveRules compiles when each rule applies, and finds those that can match
// nothing. A rule that accepts makes the host forward.
func (c *compiler) resolveRules() {
	list := c.policy.Forward.Rules
	c.rules = make([]condition, len(list))
	for i := range list {
		r := &list[i]
		o, what := ruleOrigin(r), "forward_"+r.Name
		when := and(family(r.Family), c.protocols(upper{r.Protocols, r.SourcePorts, r.Ports, r.ICMPTypes}, what, o))
		when = and(when, c.toZones(r.To))
		when = and(when, c.address(sources(), r.Sources, r.ExceptSources, what+"_sources", o))
		when = and(when, c.address(destinations(), r.Destinations, r.ExceptDestinations, what+"_destinations", o))
		from := c.zones
		if len(r.From) > 0 {
			from = c.refs(r.From)
		}
		c.rules[i] = condition{when, from}
		families := c.matching(&traffic{r.Family, from, r.To, r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations}, when, o.Entry, r.Place)
		if r.Action == policy.Accept {
			c.forwardsFamilies(families)
		}
	}
}

func ruleOrigin(r *policy.Rule) ruleset.Origin { return origin("forward", r.Name, r.Place) }

// forward builds the chain that decides what may pass.
func (c *compiler) forward(forwards *forwards) {
	from := map[*zone]string{}
	c.opened(forwards)
	for _, z := range c.zones {
		from[z] = "forward_from_" + z.Name
		c.forwardFrom(c.chain(from[z], origin("zone", z.Name, z.Place)), z, forwards)
	}
	o := c.defaultOrigin()
	c.verdict(c.chain(defaultChain, o), o, anything(), nil, c.counter(counterDefault, o), c.policy.Forward.Default)
	base := c.base("forward", ruleset.TypeFilter, ruleset.Forward, 0)
	c.rule(base, own("ipmasq"), pass(), anyBit(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
	c.bridgedDiscovery(base)
	c.dispatch(base, from, defaultChain)
	c.rule(base, own("ipmasq"), pass())
}

// bridgedDiscovery lets IPv6 neighbour discovery pass that stays on a bridge,
// where br_netfilter shows it to these rules. No connection tracking knows it,
// and much of it comes from addresses of no zone. What is routed does not look
// like it: it has no hop limit of 255 any more (RFC 4861, 6.1).
func (c *compiler) bridgedDiscovery(base *ruleset.Chain) {
	const all, routerSolicitation, redirect = 255, 133, 137
	c.rule(base, own("ipmasq"), pass(), isFamily(1), equal(ruleset.IP6HopLimit, all), equal(ruleset.L4Proto, policy.ProtocolICMPv6),
		ruleset.Match{Fields: []ruleset.Field{ruleset.ICMPv6TypeField}, Op: ruleset.Between, Value: []byte{routerSolicitation}, High: []byte{redirect}})
}

func (c *compiler) defaultOrigin() ruleset.Origin {
	return origin("forward", "default", c.policy.Forward.Place)
}

// forwardFrom fills the chain for what comes from a zone.
func (c *compiler) forwardFrom(ch *ruleset.Chain, z *zone, forwards *forwards) {
	c.invalid(ch, z)
	for i := range c.rules {
		if r := &c.policy.Forward.Rules[i]; slices.Contains(c.rules[i].from, z) {
			o := ruleOrigin(r)
			c.verdict(ch, o, c.rules[i].when, r.Protocols, c.counter("forward_"+r.Name, o), r.Action)
		}
	}
	c.masqueradesFrom(z, func(m *policy.Masquerade, when []alternative) {
		if !m.NoForward {
			c.entryRules(ch, masqueradeOrigin(m), when, "", pass())
		}
	})
	if forwards.enters(z) {
		c.rule(ch, own("port_forward"), jumpTo(openedChain), anyBit(ruleset.CtStatusField, ruleset.CtDNAT))
	}
	c.rule(ch, c.defaultOrigin(), goTo(defaultChain))
}

// invalid drops what comes from a zone and is no part of any connection. What
// an entry would have translated is counted as a leak that was stopped.
func (c *compiler) invalid(ch *ruleset.Chain, z *zone) {
	o, when, drop := own("invalid"), anyBit(ruleset.CtStateField, ruleset.CtInvalid), ruleset.Action{Kind: ruleset.Drop}
	var leaks *ruleset.Chain
	c.masqueradesFrom(z, func(m *policy.Masquerade, condition []alternative) {
		if leaks == nil {
			leaks = c.chain("forward_invalid_from_"+z.Name, o)
		}
		c.entryRules(leaks, masqueradeOrigin(m), condition, c.leakCounter(m), drop)
	})
	if leaks != nil {
		c.rule(ch, o, goTo(leaks.Name), when)
		// Nobody else sends from the gateway's own addresses. IPv4 drops that
		// before it comes here, IPv6 does not, and the chains behind spare them.
		c.rule(ch, o, goTo(leaks.Name), equal(ruleset.FibSaddrType, 0, 0, 0, ruleset.RTNLocal))
		c.rule(leaks, o, drop).Counter = c.counter(counterInvalid, o)
		return
	}
	c.rule(ch, o, drop, when).Counter = c.counter(counterInvalid, o)
}

// verdict appends an entry's decision.
func (c *compiler) verdict(ch *ruleset.Chain, o ruleset.Origin, when []alternative, protocols []policy.Protocol, counter string, action policy.Action) {
	switch action {
	case policy.Accept:
		c.entryRules(ch, o, when, counter, pass())
	case policy.Drop:
		c.entryRules(ch, o, when, counter, ruleset.Action{Kind: ruleset.Drop})
	case policy.Reject:
		c.reject(ch, o, when, protocols, counter)
	}
}

// reject appends rules that answer in the way that each protocol understands.
func (c *compiler) reject(ch *ruleset.Chain, o ruleset.Origin, when []alternative, protocols []policy.Protocol, counter string) {
	if len(protocols) == 1 {
		c.entryRules(ch, o, when, counter, rejection(protocols[0].Number))
		return
	}
	apart := 0
	for _, proto := range []uint8{policy.ProtocolTCP, policy.ProtocolUDP, policy.ProtocolUDPLite} {
		if len(protocols) == 0 || hasProtocol(protocols, proto) {
			c.entryRules(ch, o, and(isProtocol(proto), when), counter, rejection(proto))
			apart++
		}
	}
	if apart < len(protocols) || len(protocols) == 0 {
		c.entryRules(ch, o, when, counter, rejection(0))
	}
}

// rejection is the answer: a reset for TCP; a UDP client understands that the
// port is unreachable, everyone else that an administrator forbids it.
func rejection(proto uint8) ruleset.Action {
	with := "admin-prohibited"
	switch proto {
	case policy.ProtocolTCP:
		with = "tcp reset"
	case policy.ProtocolUDP, policy.ProtocolUDPLite:
		with = "port-unreachable"
	}
	return ruleset.Action{Kind: ruleset.Reject, With: with}
}
