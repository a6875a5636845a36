package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// zone is a zone with its networks resolved.
type zone struct {
	*policy.Zone
	index    int
	patterns []pattern
	networks [2]spans // every address where it has no networks
	// narrower are the zones that lie wholly inside this one, and win.
	narrower []*zone
	// left is the addresses that they leave to it on one interface or another.
	left [2]spans
}

// pattern is an interface name, a prefix of names, or any interface.
type pattern struct {
	name     string
	wildcard bool // all names that begin with name; any interface where that is ""
}

// anyInterface is the pattern of zones that name no interface.
func anyInterface() pattern { return pattern{wildcard: true} }

func (p pattern) covers(q pattern) bool {
	if p.wildcard {
		return strings.HasPrefix(q.name, p.name)
	}
	return !q.wildcard && p.name == q.name
}

// longestInterface is the longest name that the kernel allows (IFNAMSIZ - 1).
const longestInterface = 15

func patternsOf(z *policy.Zone) []pattern {
	if len(z.Interfaces) == 0 {
		return []pattern{anyInterface()}
	}
	var out []pattern
	for _, i := range z.Interfaces {
		// Nothing can follow a prefix that is as long as a name can be.
		p := pattern{i.Name, i.Wildcard && len(i.Name) < longestInterface}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// on says whether a zone has the interfaces of a pattern.
func (z *zone) on(p pattern) bool {
	return slices.ContainsFunc(z.patterns, func(q pattern) bool { return q.covers(p) })
}

func (c *compiler) resolveZones() {
	for i := range c.policy.Zones {
		p := &c.policy.Zones[i]
		z := &zone{Zone: p, patterns: patternsOf(p)}
		list := split(p.Networks)
		for f := range z.networks {
			z.networks[f] = c.flat(&list, f)
		}
		if name := c.emptySet(p.Networks); name != "" && len(z.networks[0])+len(z.networks[1]) == 0 {
			c.warning(p.Place, fmt.Sprintf("no host is in zone %s as long as the set @%s is empty", p.Name, name))
		}
		c.zones = append(c.zones, z)
		c.byName[p.Name] = z
	}
	for i, a := range c.zones {
		for _, b := range c.zones[i+1:] {
			c.compareZones(a, b)
		}
	}
	// The order in which a policy declares its zones means nothing.
	slices.SortFunc(c.zones, func(a, b *zone) int { return cmp.Compare(a.Name, b.Name) })
	for i, z := range c.zones {
		z.index = i
		slices.SortFunc(z.narrower, func(a, b *zone) int { return cmp.Compare(a.Name, b.Name) })
	}
	if len(c.errs) > 0 {
		return
	}
	c.resolveBuckets()
	for _, z := range c.zones {
		if len(z.left[0])+len(z.left[1]) == 0 && len(z.networks[0])+len(z.networks[1]) > 0 {
			c.fail(z.Place, fmt.Sprintf("zone %s can match nothing: the narrower zones inside it (%s) take all of it; take it out, or widen it",
				z.Name, zoneNames(z.narrower, ", ")))
		}
	}
}

// compareZones finds out which of two zones that overlap is the narrower one.
func (c *compiler) compareZones(a, b *zone) {
	if !interfacesMeet(a, b) || !(a.networks[0].intersects(b.networks[0]) || a.networks[1].intersects(b.networks[1])) {
		return
	}
	aInB, bInA := a.inside(b), b.inside(a)
	note := []policy.Note{{Place: a.Place, Message: fmt.Sprintf("zone %s is declared here", a.Name)}}
	for _, z := range []*zone{a, b} {
		if z.DefaultRoute && len(c.facts.DefaultRoutes) > 0 {
			note = append(note, policy.Note{Place: z.Place, Message: fmt.Sprintf("zone %s follows the default route, which leads through %s now", z.Name, strings.Join(c.facts.DefaultRoutes, ", "))})
		}
	}
	switch {
	case aInB && !bInA:
		b.narrower = append(b.narrower, a)
	case bInA && !aInB:
		a.narrower = append(a.narrower, b)
	case aInB:
		c.fail(b.Place, fmt.Sprintf("zone %s is the same as zone %s; give one of them other interfaces or networks, or make one zone of them", b.Name, a.Name), note...)
	default:
		c.fail(b.Place, fmt.Sprintf("zones %s and %s overlap: a packet on %s from %s could come from both; set them apart, or make one lie wholly inside the other (which then wins)",
			a.Name, b.Name, commonInterface(a, b), commonAddress(a, b)), note...)
	}
}

func interfacesMeet(a, b *zone) bool {
	return slices.ContainsFunc(a.patterns, func(p pattern) bool {
		return slices.ContainsFunc(b.patterns, func(q pattern) bool { return p.covers(q) || q.covers(p) })
	})
}

// inside says whether every packet that matches z matches w.
func (z *zone) inside(w *zone) bool {
	for _, p := range z.patterns {
		if !w.on(p) {
			return false
		}
	}
	return w.networks[0].covers(z.networks[0]) && w.networks[1].covers(z.networks[1])
}

// commonInterface and commonAddress give an example of what two zones share.
func commonInterface(a, b *zone) string {
	for _, p := range a.patterns {
		for _, q := range b.patterns {
			if p.covers(q) {
				p = q
			} else if !q.covers(p) {
				continue
			}
			switch {
			case p == anyInterface():
				return "any interface"
			case p.wildcard:
				return p.name + "*"
			}
			return p.name
		}
	}
	return ""
}

func commonAddress(a, b *zone) string {
	for f := range 2 {
		if common := a.networks[f].and(b.networks[f]); len(common) > 0 {
			if common.equal(whole(f)) {
				return "any address"
			}
			return policy.Address{Low: common[0].lo, High: common[0].hi}.String()
		}
	}
	return ""
}

// refs gives the zones that a list of references names, in order of names; any
// is all of them.
func (c *compiler) refs(list []policy.ZoneRef) []*zone {
	var out []*zone
	for _, z := range c.zones {
		if names(list, z) {
			out = append(out, z)
		}
	}
	return out
}

// names says whether a list of references names a zone.
func names(list []policy.ZoneRef, z *zone) bool {
	return slices.ContainsFunc(list, func(r policy.ZoneRef) bool { return r.Any || r.Name == z.Name })
}

// zoneFamilies says of which families a packet of these zones can be.
func zoneFamilies(zones []*zone) [2]bool {
	var out [2]bool
	for _, z := range zones {
		for f := range out {
			out[f] = out[f] || len(z.left[f]) > 0
		}
	}
	return out
}

func zoneNames(zones []*zone, separator string) string {
	list := make([]string, len(zones))
	for i, z := range zones {
		list[i] = z.Name
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), separator)
}
