package compile

import "github.com/ipmasq/ipmasq/pkg/ruleset"

// networksBehind tells what the zones have behind which interfaces, where rules ask which
// way leads to an address. A zone without networks has any address.
func (c *compiler) networksBehind() {
	if !c.asked {
		return
	}
	for i := range c.buckets {
		b := &c.buckets[i]
		w := ruleset.Way{Interface: b.pattern.name, Wildcard: b.pattern.wildcard}
		for f := range w.Addresses {
			var all spans
			for _, x := range b.cells {
				all = append(all, x.addresses[f]...)
			}
			all = merge(all)
			if w.Any[f] = all.equal(whole(f)); w.Any[f] {
				continue
			}
			w.Addresses[f] = addrRanges(all)
		}
		for _, x := range b.cells {
			w.Zones = append(w.Zones, x.zone.Name)
		}
		c.out.Ways = append(c.out.Ways, w)
	}
}

func addrRanges(list spans) []ruleset.AddrRange {
	var out []ruleset.AddrRange
	for _, s := range list {
		out = append(out, ruleset.AddrRange{Low: s.lo, High: s.hi})
	}
	return out
}
