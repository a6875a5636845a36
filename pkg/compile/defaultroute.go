package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// nobody stands for the interface with the default route where none is known.
// No interface can have a slash in its name (dev_valid_name), so that the rules
// for it match nothing.
const nobody = "default/route"

// Resolve gives a policy in which every zone names its interfaces: those that
// hold the host's default route are added to the zones that follow it.
func (f Facts) Resolve(p *policy.Policy) *policy.Policy {
	if !slices.ContainsFunc(p.Zones, func(z policy.Zone) bool { return z.DefaultRoute }) {
		return p
	}
	out := *p
	out.Zones = slices.Clone(p.Zones)
	for i := range out.Zones {
		z := &out.Zones[i]
		if !z.DefaultRoute {
			continue
		}
		z.Interfaces = slices.Clone(z.Interfaces)
		for _, name := range f.DefaultRoutes {
			if !slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(name) }) {
				z.Interfaces = append(z.Interfaces, policy.Interface{Place: z.Place, Name: name})
			}
		}
		if len(z.Interfaces) == 0 {
			z.Interfaces = []policy.Interface{{Place: z.Place, Name: nobody}}
		}
	}
	return &out
}

// Unresolved are the zones of which only the host knows the interfaces, where
// it was not asked.
func (f Facts) Unresolved(p *policy.Policy) []*policy.Zone {
	var out []*policy.Zone
	for i := range p.Zones {
		if z := &p.Zones[i]; z.DefaultRoute && !f.Host {
			out = append(out, z)
		}
	}
	return out
}

// warnWithoutRoute says of which zones the interface is missing on this host.
func (c *compiler) warnWithoutRoute() {
	if !c.facts.Host || len(c.facts.DefaultRoutes) > 0 {
		return
	}
	for i := range c.policy.Zones {
		if z := &c.policy.Zones[i]; z.DefaultRoute {
			c.warning(z.Place, fmt.Sprintf("the host has no default route now: nothing is in zone %s by it; apply again once there is one, or name the zone's `interfaces`", z.Name))
		}
	}
}
