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
	for i := range c.policy.Masquerade {
		m := &c.policy.Masquerade[i]
		t := c.sourceTranslator("masquerade", m, [2]bool{true, true})
		t.borrows = true
		t.translate = func(ch *ruleset.Chain, when []alternative) { c.masquerade(ch, t, when) }
		c.translators = append(c.translators, t)
	}
}

// sourceTranslator resolves what masquerade and snat have in common. There are
// new sources in some families.
func (c *compiler) sourceTranslator(section string, m *policy.Masquerade, families [2]bool) *translator {
	o, what := origin(section, m.Name, m.Place), section+"_"+m.Name
	when := and(family(m.Family), c.protocols(upper{protocols: m.Protocols, toPort: m.Ports}, what, o))
	when = and(when, c.toZones(m.To))
	when = and(when, c.address(sources(), m.Sources, m.ExceptSources, what+"_sources", o))
	when = and(when, c.address(destinations(), m.Destinations, m.ExceptDestinations, what+"_destinations", o))
	from := c.refs(m.From)
	matches := c.matching(&traffic{m.Family, from, m.To, m.Sources, m.ExceptSources, m.Destinations, m.ExceptDestinations}, when, o.Entry, m.Place)
	when = c.inFamilies(when, matches, families, m, o.Entry)
	families = [2]bool{matches[0] && families[0], matches[1] && families[1]}
	if !m.NoForward {
		c.forwardsFamilies(families)
	}
	if families != [2]bool{} {
		c.helpersFit(m.Helpers, o.Entry, len(m.Ports) > 0, services(m.Protocols, m.Ports, families))
	}
	return &translator{
		condition: condition{when, from}, origin: o, object: what, to: c.refs(m.To), opens: !m.NoForward, source: m,
		outside:    c.outsidePorts(m, o.Entry),
		attributes: attributes{m.Limits, m.Timeouts, m.Helpers, m.Log, m.Protocols, families},
	}
}

// postrouting builds the chain that gives packets a new source. It is there
// without entries too: the kernel translates as long as there is any chain of
// type nat, and flows that an earlier policy translated would leave as they are
// from the moment that the last one goes.
func (c *compiler) postrouting(forwards *forwards) {
	from := c.translated("nat_postrouting_from_", func(ch *ruleset.Chain, t *translator) {
		c.attributed(ch, t.origin, t.object, t.when, t.attributes, t.translate)
	})
	base := c.base("nat_postrouting", ruleset.TypeNAT, ruleset.Postrouting, prioritySrcNAT)
	c.sourceOfForwards(base, forwards)
	if len(from) > 0 {
		c.dispatch(base, from, "")
	}
	c.rule(base, own("ipmasq"), pass())
}

// masquerade appends the rules of an entry.
func (c *compiler) masquerade(ch *ruleset.Chain, t *translator, when []alternative) {
	c.translateFrom(ch, t, 0, when, false, func(ports policy.Ports) ruleset.Action {
		return ruleset.Action{Kind: ruleset.Masquerade, NAT: natPorts(t.source, ports)}
	})
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
