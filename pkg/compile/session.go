package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Session is a TCP connection to the host that somebody works over, such as
// SSH, and the interface that the way back to the client leaves by.
type Session struct {
	Client, Server netip.AddrPort
	Interface      string
}

// session warns where a new connection just like the session would not reach
// the host. The open one goes on where conntrack knows it, which it does not
// before the first apply: its next packet may then be as good as a new one.
func (c *compiler) session() {
	s := c.facts.Session
	if s == nil || !c.holds(s.Server.Addr()) {
		return
	}
	place, what := c.refuses(s)
	if what == "" {
		return
	}
	c.warning(place, fmt.Sprintf("this lets in no new connection like the one that the command runs over, from %s to %s, which is kept if conntrack knows it: %s",
		s.Client.Addr(), s.Server, what))
}

// holds says whether an address is one of the host's.
func (c *compiler) holds(a netip.Addr) bool {
	return slices.ContainsFunc(c.facts.Links, func(l Link) bool {
		return slices.ContainsFunc(l.Addresses, func(p Addr) bool { return p.Addr() == a.WithZone("") })
	})
}

// refuses says what keeps a new connection from the host's port, where, and
// what to do about it; "" where nothing does. It follows the order of the
// chains: what leads elsewhere, ports that are closed, rules, the default.
func (c *compiler) refuses(s *Session) (at policy.Place, what string) {
	z, named := c.sessionZone(s)
	if !named {
		return at, ""
	}
	port := s.Server.Port()
	for i := range c.policy.PortForward {
		if p := &c.policy.PortForward[i]; z != nil && names(p.From, z) && c.forwardTakes(p, s) {
			return p.Place, fmt.Sprintf("port_forward %s takes it elsewhere; have it take another port than %d", p.Name, port)
		}
	}
	for _, r := range c.redirects {
		if z != nil && slices.Contains(r.from, z) && hasProtocol(r.Protocols, policy.ProtocolTCP) && r.takes(port) && r.ToPort != 0 && r.ToPort != port &&
			c.between(s, r.Family, r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations) {
			return r.Place, fmt.Sprintf("redirect %s hands it to port %d; write `except_destinations: gateway` there", r.Name, r.ToPort)
		}
	}
	for _, r := range c.redirects {
		if r.ToPort == port && hasProtocol(r.Protocols, policy.ProtocolTCP) && c.closes(r, policy.ProtocolTCP) {
			return r.Place, fmt.Sprintf("redirect %s closes port %d to all but what it redirects there; add %d to its `ports`", r.Name, port, port)
		}
	}
	if c.inputRules == nil {
		return at, ""
	}
	action, at, name := c.policy.Input.Default, c.policy.Input.Place, "the default of `input`"
	for i := range c.inputRules.Rules {
		if r := &c.inputRules.Rules[i]; z != nil && slices.Contains(c.inputRules.conditions[i].from, z) && c.ruleMatches(r, s) {
			action, at, name = r.Action, r.Place, "input "+r.Name
			break
		}
	}
	if action == policy.Accept {
		return at, ""
	}
	verb := map[policy.Action]string{policy.Drop: "drops", policy.Reject: "rejects"}[action]
	advice := fmt.Sprintf("no zone on %s has the client's address: add it to the `networks` of one, and accept it by a rule", s.Interface)
	if z != nil {
		advice = fmt.Sprintf("accept it before with the rule {from: %s, protocol: tcp, ports: %d, action: accept}", z.Name, port)
	}
	return at, fmt.Sprintf("%s %s it; %s", name, verb, advice)
}

// sessionZone finds the zone that the client is in, and whether any zone names
// its interface: what comes from elsewhere is left alone.
func (c *compiler) sessionZone(s *Session) (z *zone, named bool) {
	client := s.Client.Addr().WithZone("")
	if z = c.zoneOf(s.Interface, span{client, client}); z != nil {
		return z, true
	}
	for i := range c.buckets {
		if b := &c.buckets[i]; b.pattern != anyInterface() && b.pattern.covers(pattern{name: s.Interface}) {
			if client.IsLinkLocalUnicast() {
				z = b.alone(familyIndex(client))
			}
			return z, true
		}
	}
	return nil, false
}

// forwardTakes says whether a port forward from the client's zone has a new
// destination for the session.
func (c *compiler) forwardTakes(p *policy.PortForward, s *Session) bool {
	f, port := familyIndex(s.Client.Addr()), s.Server.Port()
	has := func(list []policy.Ports) bool {
		return slices.ContainsFunc(list, func(x policy.Ports) bool { return x.First <= port && port <= x.Last })
	}
	takes := hasProtocol(p.Protocols, policy.ProtocolTCP) && (p.AllPorts || has(p.Ports)) && !has(p.ExceptPorts) && familyIndex(p.To.Addr) == f
	if p.Map != nil {
		takes = slices.ContainsFunc(p.Map.Lines, func(l policy.MapLine) bool {
			return l.Protocol == policy.ProtocolTCP && l.First <= port && port <= l.Last && familyIndex(l.Addr) == f
		})
	}
	return takes && c.between(s, p.Family, p.Sources, p.ExceptSources, p.Address, nil)
}

// ruleMatches says whether a rule of input matches a session from its zones.
func (c *compiler) ruleMatches(r *policy.Rule, s *Session) bool {
	has := func(list []policy.Ports, port uint16) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(x policy.Ports) bool { return x.First <= port && port <= x.Last })
	}
	return (len(r.Protocols) == 0 || hasProtocol(r.Protocols, policy.ProtocolTCP)) &&
		has(r.Ports, s.Server.Port()) && has(r.SourcePorts, s.Client.Port()) &&
		c.between(s, r.Family, r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations)
}

// between says whether a session is of a family, and between the addresses of
// lists, the first of each pair being any where it is empty.
func (c *compiler) between(s *Session, of policy.Family, sources, exceptSources, destinations, exceptDestinations []policy.Address) bool {
	client, server := s.Client.Addr().WithZone(""), s.Server.Addr().WithZone("")
	return family(of)[0].family.allows(familyIndex(client)) &&
		(len(sources) == 0 || c.lists(sources, client)) && !c.lists(exceptSources, client) &&
		(len(destinations) == 0 || c.lists(destinations, server)) && !c.lists(exceptDestinations, server)
}

// lists says whether an address is in a list.
func (c *compiler) lists(list []policy.Address, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(x policy.Address) bool {
		switch {
		case x.Gateway:
			return c.holds(a)
		case x.Set != "":
			return c.sets[x.Set].spans[familyIndex(a)].intersects(spans{{a, a}})
		}
		return x.Low.Is4() == a.Is4() && x.Low.Compare(a) <= 0 && a.Compare(x.High) <= 0
	})
}
