package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// redirect is a redirect entry with its condition resolved.
type redirect struct {
	*policy.Redirect
	condition
	attributes
	origin ruleset.Origin
	object string
}

func (c *compiler) resolveRedirects() {
	for i := range c.policy.Redirect {
		p := &c.policy.Redirect[i]
		r := &redirect{Redirect: p, attributes: attributes{log: p.Log}, origin: origin("redirect", p.Name, p.Place), object: "redirect_" + p.Name}
		when := and(family(p.Family), c.redirectable(r, p.Ports))
		when = and(when, c.address(sources(), p.Sources, p.ExceptSources, r.object+"_sources", r.origin))
		when = and(when, c.address(destinations(), p.Destinations, p.ExceptDestinations, r.object+"_destinations", r.origin))
		r.condition = condition{when, c.refs(p.From)}
		c.matching(&traffic{p.Family, r.from, nil, p.Sources, p.ExceptSources, p.Destinations, p.ExceptDestinations}, when, r.origin.Entry, p.Place)
		c.redirects = append(c.redirects, r)
	}
}

// redirectsFrom appends the entries that take what comes from a zone.
func (c *compiler) redirectsFrom(ch *ruleset.Chain, z *zone) {
	for _, r := range c.redirects {
		if slices.Contains(r.from, z) {
			c.redirect(ch, r, r.when)
		}
	}
}

// redirect appends the rules that hand flows to the gateway's own port.
func (c *compiler) redirect(ch *ruleset.Chain, r *redirect, when []alternative) {
	when = and(when, r.elsewhere())
	c.attributed(ch, r.origin, r.object, when, r.attributes, func(ch *ruleset.Chain, when []alternative) {
		do := ruleset.Action{Kind: ruleset.Redirect, NAT: ruleset.NAT{PortMin: r.ToPort, PortMax: r.ToPort}}
		if r.ToPort != 0 && r.attributes.any() {
			when = and(c.redirectable(r, nil), when)
		}
		c.entryRules(ch, r.origin, when, c.counter(r.object, r.origin), do)
	})
}

// redirectable matches the protocols of an entry, and ports. Where it names the
// port to go to, nft(8) wants a rule for each protocol.
func (c *compiler) redirectable(r *redirect, ports []policy.Ports) []alternative {
	if r.ToPort == 0 {
		return c.protocols(upper{protocols: r.Protocols, toPort: ports}, r.object, r.origin)
	}
	var out []alternative
	for i := range r.Protocols {
		out = append(out, c.protocols(upper{protocols: r.Protocols[i : i+1], toPort: ports}, r.object, r.origin)...)
	}
	return out
}

// elsewhere leaves out what is aimed at the very port of the gateway: if that
// was translated too, a direct connection would look like one that was
// redirected. What is for all on a link, such as DHCP, is left out as well: it
// does not pass through.
func (r *redirect) elsewhere() []alternative {
	not := func(kind byte) ruleset.Match { return negated(equal(ruleset.FibDaddrType, 0, 0, 0, kind)) }
	out := []alternative{{matches: []ruleset.Match{not(ruleset.RTNBroadcast), not(ruleset.RTNMulticast)}}}
	switch at := portBytes(r.ToPort); {
	case !r.takes(r.ToPort):
		return out
	case r.ToPort == 0 || r.names(r.ToPort) && len(r.Ports) == 1:
		return and(out, []alternative{{matches: []ruleset.Match{not(ruleset.RTNLocal)}}})
	default:
		return and(out, []alternative{{matches: []ruleset.Match{negated(equal(ruleset.DstPort, at...))}}, {matches: []ruleset.Match{not(ruleset.RTNLocal)}}})
	}
}

// takes says whether an entry is for flows to a port; 0 is the port that they
// have.
func (r *redirect) takes(port uint16) bool {
	return port == 0 || len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p policy.Ports) bool { return p.First <= port && port <= p.Last })
}

// names says whether the ports of an entry have a port by itself: it is then
// the port of a service that the gateway has anyway, such as its DNS.
func (r *redirect) names(port uint16) bool {
	return slices.ContainsFunc(r.Ports, func(p policy.Ports) bool { return p.First == port && p.Last == port })
}

// redirected builds the chain of input that lets flows reach the port that they
// were redirected to, and nobody else; "" where it would do nothing. What
// it lets pass has its first destination in conntrack, which a direct
// connection cannot have.
func (c *compiler) redirected() string {
	closed := c.closedPorts()
	if closed == "" && (len(c.redirects) == 0 || c.inputRules == nil) {
		return ""
	}
	ch := c.chain("input_redirected", own("redirect"))
	for _, r := range c.redirects {
		m, ports := []ruleset.Match{anyBit(ruleset.CtStatusField, ruleset.CtDNAT)}, r.Ports
		if r.ToPort != 0 {
			ports = nil
			m = append(m, equal(ruleset.DstPort, portBytes(r.ToPort)...))
			if len(r.Ports) > 0 {
				m = append(m, c.ports(ruleset.CtOrigProtoDst, r.Ports, r.object+"_ports", r.origin))
			}
		}
		c.entryRules(ch, r.origin, and(c.redirectable(r, ports), []alternative{{matches: m}}), "", pass())
	}
	if closed != "" {
		o := own("closed redirect ports")
		c.rule(ch, o, ruleset.Action{Kind: ruleset.Drop}, in(closed, ruleset.L4Proto, ruleset.DstPort)).Counter = c.counter(counterClosed, o)
	}
	return ch.Name
}

// counterClosed counts packets straight to a port that is for redirected flows.
const counterClosed = "closed_redirect_ports"

// closes says whether an entry closes a port of the gateway to all but what it
// redirects there.
func (c *compiler) closes(r *redirect, proto uint8) bool {
	return r.ToPort != 0 && !slices.ContainsFunc(c.redirects, func(x *redirect) bool {
		return (x.ToPort == 0 || x.ToPort == r.ToPort) && x.names(r.ToPort) && hasProtocol(x.Protocols, proto)
	})
}

// closedPorts makes the set of the ports that are for redirected flows only;
// "" where there are none.
func (c *compiler) closedPorts() string {
	var keys [][]byte
	for _, r := range c.redirects {
		for _, p := range r.Protocols {
			key := append([]byte{p.Number, 0, 0, 0}, append(portBytes(r.ToPort), 0, 0)...)
			if c.closes(r, p.Number) && !slices.ContainsFunc(keys, func(k []byte) bool { return slices.Equal(k, key) }) {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return ""
	}
	return c.set("redirect_ports", own("redirect"), false, []ruleset.Type{ruleset.InetProto, ruleset.InetService}, func(s *ruleset.Set) {
		for _, key := range keys {
			s.Add(key, nil, nil, ruleset.NoOrigin)
		}
	})
}
