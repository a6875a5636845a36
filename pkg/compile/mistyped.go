package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// warnMistyped warns of interfaces that are not there, where a link of the host
// that no zone names is called nearly so. Any other may well come later, as ppp0
// does.
func (c *compiler) warnMistyped() {
	var free []string
	for _, link := range c.facts.Links {
		named := slices.ContainsFunc(c.policy.Zones, func(z policy.Zone) bool {
			return slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(link.Name) })
		})
		if !named && link.Name != "lo" {
			free = append(free, link.Name)
		}
	}
	if len(free) == 0 {
		return
	}
	for _, z := range c.policy.Zones {
		for _, i := range z.Interfaces {
			there := slices.ContainsFunc(c.facts.Links, func(l Link) bool { return i.Matches(l.Name) })
			if there || i.Wildcard {
				continue
			}
			if near := policy.NearestLink(i.Name, free); near != "" {
				c.warning(i.Place, fmt.Sprintf("the host has no interface %s now, and %s is in no zone; did you mean %s?", i.Name, near, near))
			}
		}
	}
}
