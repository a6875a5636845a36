package compile

import (
	"fmt"
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

// filter is the rules of forward or of input, with their conditions.
type filter struct {
	section string
	*policy.Forward
	conditions []condition // by index of Rules
}

// resolveRules compiles when each rule applies, and finds those that can match
// nothing. A rule of forward that accepts makes the host forward.
func (c *compiler) resolveRules(section string, p *policy.Forward) *filter {
	x := &filter{section, p, make([]condition, len(p.Rules))}
	for i := range p.Rules {
		r := &p.Rules[i]
		o := x.origin(r)
		if r.Mark != nil && r.Rate != nil {
			c.fail(r.Mark.Place, fmt.Sprintf("`mark` and `rate` do not go together: every packet of a flow is marked, and the rate of %s is of new flows; make a rule of `mark` without `rate`", o.Entry))
		}
		when := c.ruleCondition(x, r, ruleset.OIfName)
		from := c.zones
		if len(r.From) > 0 {
			from = c.refs(r.From)
		}
		x.conditions[i] = condition{when, from}
		families := c.matching(&traffic{r.Family, from, r.To, r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations}, when, o.Entry, r.Place)
		if r.Action == policy.Accept && section == "forward" {
			c.forwardsFamilies(families)
		}
	}
	return x
}

// ruleCondition is when a rule applies, where out tells the interface that a
// packet leaves by.
func (c *compiler) ruleCondition(x *filter, r *policy.Rule, out ruleset.Field) []alternative {
	o, what := x.origin(r), x.object(r)
	when := and(family(r.Family), c.protocols(upper{r.Protocols, r.SourcePorts, r.Ports, r.ICMPTypes}, what, o))
	if to := c.towards(r.To); to != nil {
		when = and(when, c.within(to, out, destinations()))
	}
	when = and(when, c.address(sources(), r.Sources, r.ExceptSources, what+"_sources", o))
	return and(when, c.address(destinations(), r.Destinations, r.ExceptDestinations, what+"_destinations", o))
}

func (x *filter) origin(r *policy.Rule) ruleset.Origin { return origin(x.section, r.Name, r.Place) }

// object is what the names of a rule's objects begin with.
func (x *filter) object(r *policy.Rule) string { return x.section + "_" + r.Name }

// rulesFrom appends the rules that look at what comes from a zone.
func (c *compiler) rulesFrom(ch *ruleset.Chain, z *zone, x *filter) {
	for i := range x.Rules {
		if slices.Contains(x.conditions[i].from, z) {
			c.decide(ch, x, &x.Rules[i], x.conditions[i])
		}
	}
}

// decide appends a rule's decision, behind what it asks for new flows.
func (c *compiler) decide(ch *ruleset.Chain, x *filter, r *policy.Rule, on condition) {
	when, o, object := on.when, x.origin(r), x.object(r)
	if r.Synproxy {
		c.keptAlive(ch, o, when)
		return
	}
	counter := c.counter(object, o)
	a := attributes{limits: r.Limits, log: r.Log, families: on.families()}
	if r.Rate == nil && !a.any() {
		c.verdict(ch, o, when, r.Protocols, counter, r.Action)
		return
	}
	name := fit("flows_of_" + object)
	if !c.chains[name] {
		flows := c.chain(name, o)
		c.begun(flows, o, r)
		c.above(flows, o, object, r.Rate, a.families)
		c.give(flows, o, object, a)
		which := anything()
		if len(r.Protocols) == 1 && r.Action == policy.Reject {
			which = c.protocols(upper{protocols: r.Protocols}, object, o)
		}
		c.verdict(flows, o, which, r.Protocols, counter, r.Action)
	}
	// Above its rate a rule does not match, and the next one is tried.
	do := goTo(name)
	if r.Rate != nil {
		do = jumpTo(name)
	}
	c.entryRules(ch, o, when, "", do)
}

// begun spares what a flow sends after its first packet, and before the answer
// that makes it established: limits and rates are of flows, and lines of a log
// are about flows. What a rule accepts then passes; a rule with a rate that
// refuses has been passed by already.
func (c *compiler) begun(ch *ruleset.Chain, o ruleset.Origin, r *policy.Rule) {
	do := pass()
	switch {
	case r.Action == policy.Accept:
	case r.Rate != nil:
		do = ruleset.Action{Kind: ruleset.Return}
	default:
		return
	}
	c.rule(ch, o, do, anyBit(ruleset.CtStatusField, ruleset.CtConfirmed))
}

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
	c.offload(base)
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
	c.handshakes(ch, z, c.rules)
	c.invalid(ch, z)
	c.rulesFrom(ch, z, c.rules)
	c.translatorsFrom(z, func(t *translator) {
		if t.opens {
			c.entryRules(ch, t.origin, t.when, "", pass())
		}
	})
	if forwards.enters(z) {
		c.rule(ch, own("port_forward"), jumpTo(openedChain), anyBit(ruleset.CtStatusField, ruleset.CtDNAT))
	}
	c.letIn(ch, c.policy.Forward.Default == policy.Accept)
	c.rule(ch, c.defaultOrigin(), goTo(defaultChain))
}

// invalid drops what comes from a zone and is no part of any connection. What
// an entry would have translated is counted as a leak that was stopped.
func (c *compiler) invalid(ch *ruleset.Chain, z *zone) {
	o, when, drop := own("invalid"), anyBit(ruleset.CtStateField, ruleset.CtInvalid), ruleset.Action{Kind: ruleset.Drop}
	var leaks *ruleset.Chain
	c.translatorsFrom(z, func(t *translator) {
		if leaks == nil {
			leaks = c.chain("forward_invalid_from_"+z.Name, o)
		}
		c.stopLeaks(leaks, t, t.when)
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
