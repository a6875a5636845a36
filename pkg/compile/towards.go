package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// region is interfaces by which the same addresses are in some zones.
type region struct {
	addresses [2]spans
	patterns  []pattern
	except    []pattern // narrower patterns that are not of the region
}

// toZones matches packets that go to any of the zones.
func (c *compiler) toZones(list []policy.ZoneRef) []alternative {
	if len(list) == 0 || list[0].Any {
		return anything()
	}
	return c.within(c.refs(list), ruleset.OIfName, destinations())
}

// within matches packets of which one end is in any of the zones: the interface
// there, and the address.
func (c *compiler) within(zones []*zone, iface ruleset.Field, end side) []alternative {
	base, o := "zones_"+zoneNames(zones, "_"), own("zones")
	if len(zones) == 1 {
		z := zones[0]
		base, o = "zone_"+z.Name, origin("zone", z.Name, z.Place)
	}
	var out []alternative
	for _, r := range c.regions(zones) {
		by := c.through(iface, r, base, o)
		if total(r.addresses) {
			out = append(out, by...)
			continue
		}
		for f, field := range end {
			to := alternative{only(f), nil}
			switch addresses := r.addresses[f]; {
			case len(addresses) == 0:
				continue
			case !addresses.equal(whole(f)):
				name, _ := c.nameOf(base+familySuffix(f), addresses.content())
				to.matches = []ruleset.Match{c.spansMatch(field, addresses, name, o)}
			}
			out = append(out, and(by, []alternative{to})...)
		}
	}
	return out
}

// through matches the interfaces of a region.
func (c *compiler) through(iface ruleset.Field, r region, base string, o ruleset.Origin) []alternative {
	if iface != ruleset.FibDaddrOIfName {
		by := c.interfaces(iface, r.patterns, base, o)
		if len(r.except) > 0 {
			m := c.interfaces(iface, r.except, base+"_except", o)
			by.matches = append(slices.Clone(by.matches), negated(m.matches[0]))
		}
		return []alternative{by}
	}
	c.asked = true
	// nft(8) takes no sets of what a look-up of routes gives.
	var not []ruleset.Match
	for _, p := range r.except {
		not = append(not, negated(interfaceIs(iface, p)[0]))
	}
	var out []alternative
	for _, p := range r.patterns {
		out = append(out, alternative{matches: append(interfaceIs(iface, p), not...)})
	}
	return out
}

// regions divides what goes to any of the zones by interfaces: one region for
// all that need the same look at the address, where it can be.
func (c *compiler) regions(zones []*zone) []region {
	areas := make([][2]spans, len(c.buckets))
	home := make([]int, len(c.buckets)) // the bucket whose pattern says it
	var out []region
	for i := len(c.buckets) - 1; i >= 0; i-- {
		b := &c.buckets[i]
		for _, x := range b.cells {
			if !slices.Contains(zones, x.zone) {
				continue
			}
			for f := range x.addresses {
				areas[i][f] = append(slices.Clone(areas[i][f]), x.addresses[f]...)
			}
		}
		for f := range areas[i] {
			areas[i][f] = merge(areas[i][f])
		}
		home[i] = i
		if b.wider < 0 {
			continue
		}
		if w := home[b.wider]; areas[i][0].equal(areas[w][0]) && areas[i][1].equal(areas[w][1]) {
			home[i] = w
		}
	}
	for i := range c.buckets {
		if home[i] != i || len(areas[i][0])+len(areas[i][1]) == 0 {
			continue
		}
		r := region{areas[i], []pattern{c.buckets[i].pattern}, nil}
		for j := range c.buckets[:i] {
			if home[j] == j && c.buckets[j].wider >= 0 && home[c.buckets[j].wider] == i {
				r.except = append(r.except, c.buckets[j].pattern)
			}
		}
		same := slices.IndexFunc(out, func(x region) bool {
			return len(x.except)+len(r.except) == 0 && x.addresses[0].equal(r.addresses[0]) && x.addresses[1].equal(r.addresses[1])
		})
		if same >= 0 {
			out[same].patterns = append(out[same].patterns, r.patterns...)
			continue
		}
		out = append(out, r)
	}
	return out
}

// interfaces matches any of the patterns, of which none covers another.
func (c *compiler) interfaces(side ruleset.Field, patterns []pattern, base string, o ruleset.Origin) alternative {
	if len(patterns) == 1 {
		return alternative{matches: interfaceIs(side, patterns[0])}
	}
	var content strings.Builder
	ranges := false
	for _, p := range patterns {
		fmt.Fprintf(&content, "%s %v/", p.name, p.wildcard)
		ranges = ranges || p.wildcard
	}
	name, _ := c.nameOf(base+"_interfaces", content.String())
	name = c.set(name, o, ranges, []ruleset.Type{ruleset.IfName}, func(s *ruleset.Set) {
		for _, p := range patterns {
			low, high := ifname(p.name), ifname(p.name)
			for i := len(p.name); p.wildcard && i < len(high); i++ {
				high[i] = 0xff
			}
			s.Add(low, high, nil, ruleset.NoOrigin)
		}
	})
	return alternative{matches: []ruleset.Match{in(name, side)}}
}

// ifname is an interface name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

// interfaceIs matches a pattern; any interface needs no match.
func interfaceIs(side ruleset.Field, p pattern) []ruleset.Match {
	switch {
	case !p.wildcard:
		return []ruleset.Match{equal(side, ifname(p.name)...)}
	case p.name == "":
		return nil
	}
	return []ruleset.Match{{Fields: []ruleset.Field{side}, Value: []byte(p.name), Bits: len(p.name) * 8}}
}
