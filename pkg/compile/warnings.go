package compile

import (
	"fmt"
	"net/netip"
	"slices"

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
		if p.Map == nil && !c.inZone(p.To.Addr) {
			c.warning(p.To.Place, fmt.Sprintf("the target %s of port_forward %s is in no zone: is the address right?", p.To.Addr, p.Name))
		}
	}
	for i := range c.policy.Forward.Rules {
		r := &c.policy.Forward.Rules[i]
		if c.opensUplink(r) {
			c.warning(r.Place, fmt.Sprintf("forward %s lets everything from an uplink pass to every inside host", r.Name))
		}
		for j := range min(i, mostCompared) {
			if s := &c.policy.Forward.Rules[j]; shadows(s, r) {
				c.warning(r.Place, fmt.Sprintf("forward %s is never reached: forward %s before it matches everything that it matches", r.Name, s.Name),
					policy.Note{Place: s.Place, Message: fmt.Sprintf("forward %s is here", s.Name)})
				break
			}
		}
	}
}

func (c *compiler) inZone(a netip.Addr) bool {
	f := familyIndex(a)
	return slices.ContainsFunc(c.zones, func(z *zone) bool {
		return z.networks[f].intersects(spans{{a, a}})
	})
}

// opensUplink says whether a rule accepts anything from a zone that others are
// masqueraded to.
func (c *compiler) opensUplink(r *policy.Rule) bool {
	open := r.Action == policy.Accept && len(r.Sources)+len(r.Destinations)+len(r.Protocols)+len(r.ICMPTypes) == 0 &&
		(len(r.To) == 0 || r.To[0].Any)
	if !open {
		return false
	}
	for _, m := range c.policy.Masquerade {
		for _, z := range c.refs(m.To) {
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
