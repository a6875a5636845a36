package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// mostCompared bounds the search for rules that others shadow, which compares
// each with all before it.
const mostCompared = 3000

// warn finds what does as it says and may not be meant.
func (c *compiler) warn() {
	for i := range c.policy.PortForward {
		p := &c.policy.PortForward[i]
		if p.AnyAddress {
			c.warning(p.Place, fmt.Sprintf("port_forward %s takes traffic in transit too, whatever its destination (address: any)", p.Name))
		}
		if p.Map == nil {
			for _, to := range p.AllTargets() {
				switch {
				case to.MaybePort.IsValid():
					whole, port := to.Addr.String(), to.Addr.String()[strings.LastIndexByte(to.Addr.String(), ':')+1:]
					c.warning(to.Place, fmt.Sprintf("the target of port_forward %s is the address %s, and no port; for port %s write \"[%s]:%s\", else \"[%s]\"", p.Name, whole, port, to.MaybePort, port, whole))
				case !c.inZone(to.Addr):
					c.warning(to.Place, fmt.Sprintf("the target %s of port_forward %s is in no zone: is the address right?", to.Addr, p.Name))
				case to.Addr.IsPrivate() && !c.inOther(to.Addr, p.From):
					c.warning(to.Place, fmt.Sprintf("the target %s of port_forward %s is in no zone but where the entry takes from: is the address right?", to.Addr, p.Name))
				}
			}
		}
	}
	for i := range c.policy.OneToOne {
		o := &c.policy.OneToOne[i]
		for _, s := range o.Expose {
			if number := strconv.Itoa(int(s.Protocol)); len(s.Ports) == 0 && s.String() == number {
				c.warning(s.Place, fmt.Sprintf("one_to_one %s exposes the protocol with the number %s; for the port write tcp/%s or udp/%s", o.Name, number, number, number))
			}
		}
	}
	for i := range c.policy.Forward.Rules {
		if r := &c.policy.Forward.Rules[i]; c.opensUplink(r) {
			c.warning(r.Place, fmt.Sprintf("forward %s lets everything from an uplink pass to every inside host", r.Name))
		}
	}
	c.warnShadowed(c.rules)
	if c.inputRules != nil {
		c.warnShadowed(c.inputRules)
		c.warnClosed()
	}
}

// warnShadowed finds rules of forward or input that are never reached.
func (c *compiler) warnShadowed(x *filter) {
	for i := range x.Rules {
		r := &x.Rules[i]
		for j := range min(i, mostCompared) {
			// What was translated passes a rule with synproxy by.
			if s := &x.Rules[j]; s.Rate == nil && !s.Synproxy && shadows(s, r) {
				c.warning(r.Place, fmt.Sprintf("%s %s is never reached: %s %s before it matches everything that it matches", x.section, r.Name, x.section, s.Name),
					policy.Note{Place: s.Place, Message: fmt.Sprintf("%s %s is here", x.section, s.Name)})
				break
			}
		}
	}
}

// warnClosed finds rules of input that accept a port which redirect closes.
func (c *compiler) warnClosed() {
	for i := range c.inputRules.Rules {
		r := &c.inputRules.Rules[i]
		for _, x := range c.redirects {
			named := slices.ContainsFunc(r.Ports, func(p policy.Ports) bool { return p.First == x.ToPort && p.Last == x.ToPort })
			closed := slices.ContainsFunc(x.Protocols, func(p policy.Protocol) bool { return hasProtocol(r.Protocols, p.Number) && c.closes(x, p.Number) })
			if r.Action == policy.Accept && named && closed {
				c.warning(r.Place, fmt.Sprintf("input %s does not open port %d: it is for what redirect %s hands there; add %d to the `ports` of that entry", r.Name, x.ToPort, x.Name, x.ToPort),
					policy.Note{Place: x.Place, Message: fmt.Sprintf("redirect %s is here", x.Name)})
			}
		}
	}
}

// inOther says whether an address is in a zone that is not one of these.
func (c *compiler) inOther(a netip.Addr, refs []policy.ZoneRef) bool {
	from := c.refs(refs)
	return slices.ContainsFunc(c.zones, func(z *zone) bool {
		return !slices.Contains(from, z) && z.networks[familyIndex(a)].intersects(spans{{a, a}})
	})
}

func (c *compiler) inZone(a netip.Addr) bool {
	f := familyIndex(a)
	return slices.ContainsFunc(c.zones, func(z *zone) bool {
		return z.networks[f].intersects(spans{{a, a}})
	})
}

// opensUplink says whether a rule accepts anything from a zone that others are
// translated to.
func (c *compiler) opensUplink(r *policy.Rule) bool {
	open := r.Action == policy.Accept && len(r.Sources)+len(r.Destinations)+len(r.Protocols)+len(r.ICMPTypes) == 0 &&
		(len(r.To) == 0 || r.To[0].Any)
	if !open {
		return false
	}
	for _, t := range c.translators {
		if t.source == nil {
			continue
		}
		for _, z := range c.refs(t.source.To) {
			if len(r.From) == 0 || names(r.From, z) {
				return true
			}
		}
	}
	return false
}

func sameAddress(a, b policy.Address) bool {
	return a.Low == b.Low && a.High == b.High && a.Set == b.Set && a.Gateway == b.Gateway
}

// shadows says whether a surely matches all that b matches. It does not try to
// be clever: what it reports is true.
func shadows(a, b *policy.Rule) bool {
	zones := func(a, b []policy.ZoneRef) bool {
		if len(a) == 0 || a[0].Any {
			return true
		}
		return len(b) > 0 && !slices.ContainsFunc(b, func(x policy.ZoneRef) bool {
			return x.Any || !slices.ContainsFunc(a, func(y policy.ZoneRef) bool { return x.Name == y.Name })
		})
	}
	addresses := func(a, b []policy.Address) bool {
		return len(a) == 0 || slices.EqualFunc(a, b, sameAddress)
	}
	protocols := func(a, b []policy.Protocol) bool {
		return len(a) == 0 || len(b) > 0 && !slices.ContainsFunc(b, func(x policy.Protocol) bool {
			return !slices.ContainsFunc(a, func(y policy.Protocol) bool { return x.Number == y.Number })
		})
	}
	ports := func(a, b []policy.Ports) bool {
		return len(a) == 0 || len(b) > 0 && len(withoutPorts(b, a)) == 0
	}
	// The likeliest difference first: each rule is compared with many.
	return (a.Family == policy.AnyFamily || a.Family == b.Family) &&
		len(a.ExceptSources)+len(a.ExceptDestinations) == 0 &&
		addresses(a.Sources, b.Sources) && addresses(a.Destinations, b.Destinations) &&
		ports(a.Ports, b.Ports) && ports(a.SourcePorts, b.SourcePorts) &&
		protocols(a.Protocols, b.Protocols) && zones(a.From, b.From) && zones(a.To, b.To) &&
		(len(a.ICMPTypes) == 0 || slices.EqualFunc(a.ICMPTypes, b.ICMPTypes, func(x, y policy.ICMPType) bool { return x.Name == y.Name }))
}
