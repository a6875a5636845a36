package compile

import (
	"slices"
	"strings"
)

// bucket is everything that arrives on, or leaves by, the interfaces of a
// pattern and of no narrower one. Each packet belongs to at most one bucket,
// and within it to at most one cell.
type bucket struct {
	pattern pattern
	wider   int // index of the bucket whose pattern is the next wider; -1: none
	cells   []cell
}

// cell is what belongs to one zone of a bucket: the addresses that no narrower
// zone has there.
type cell struct {
	zone      *zone
	addresses [2]spans
	name      string // tells cells with other addresses apart
}

// resolveBuckets divides all traffic by interface patterns, the narrowest
// first.
func (c *compiler) resolveBuckets() {
	seen := map[pattern]bool{}
	var patterns []pattern
	for _, z := range c.zones {
		for _, p := range z.patterns {
			if !seen[p] {
				seen[p] = true
				patterns = append(patterns, p)
			}
		}
	}
	slices.SortFunc(patterns, func(p, q pattern) int {
		if p.wildcard != q.wildcard {
			if q.wildcard {
				return -1
			}
			return 1
		}
		if p.wildcard && len(p.name) != len(q.name) {
			return len(q.name) - len(p.name)
		}
		return strings.Compare(p.name, q.name)
	})
	c.buckets = make([]bucket, len(patterns))
	for i, p := range patterns {
		b := &c.buckets[i]
		b.pattern = p
		b.wider = slices.IndexFunc(patterns[i+1:], func(q pattern) bool { return q.covers(p) })
		if b.wider >= 0 {
			b.wider += i + 1
		}
		for _, z := range c.zones {
			if z.on(p) {
				b.cells = append(b.cells, z.cell(p))
			}
		}
	}
}

// cell is what of a zone is left to it on the interfaces of a pattern by the
// zones that are narrower there.
func (z *zone) cell(p pattern) cell {
	x := cell{zone: z, addresses: z.networks, name: z.Name}
	for _, n := range z.narrower {
		if !n.on(p) {
			continue
		}
		x.name += "!" + n.Name
		for f := range x.addresses {
			x.addresses[f] = x.addresses[f].minus(n.networks[f])
		}
	}
	for f := range z.left {
		if !z.left[f].covers(x.addresses[f]) {
			z.left[f] = merge(append(slices.Clone(z.left[f]), x.addresses[f]...))
		}
	}
	return x
}

// empty says whether nothing is left.
func (x *cell) empty() bool { return len(x.addresses[0])+len(x.addresses[1]) == 0 }

// total says whether these are every address of both families.
func total(a [2]spans) bool { return a[0].equal(whole(0)) && a[1].equal(whole(1)) }

// zoneOf finds the zone that a packet with an address at an interface belongs
// to, or nil.
func (c *compiler) zoneOf(name string, address span) *zone {
	f := familyIndex(address.lo)
	for i := range c.buckets {
		b := &c.buckets[i]
		if !b.pattern.covers(pattern{name: name}) {
			continue
		}
		for _, x := range b.cells {
			if x.addresses[f].intersects(spans{address}) {
				return x.zone
			}
		}
		return nil
	}
	return nil
}
