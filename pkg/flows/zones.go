package flows

import (
	"net/netip"
	"slices"
	"sort"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Zones finds the zone of an interface and address: the narrowest that has both.
type Zones struct {
	list []zone            // what lies inside another comes before it
	on   map[string][]zone // those of an interface
	last [2]struct {       // that were asked for last
		iface string
		list  []zone
	}
	next int
}

// zone is a zone with its networks resolved.
type zone struct {
	name       string
	interfaces []policy.Interface // none: any
	networks   []span             // ascending and apart; none: any
	anywhere   bool               // it has no networks
}

// span is a range of addresses of one family.
type span struct{ low, high netip.Addr }

// ZonesOf takes a policy whose zones are resolved (compile.Facts.Resolve).
func ZonesOf(p *policy.Policy) *Zones {
	z := &Zones{on: map[string][]zone{}}
	for i := range p.Zones {
		src := &p.Zones[i]
		x := zone{name: src.Name, interfaces: src.Interfaces, anywhere: len(src.Networks) == 0}
		for _, a := range p.NetworksOf(src) {
			x.networks = append(x.networks, span{a.Low, a.High})
		}
		x.networks = joined(x.networks)
		z.list = append(z.list, x)
	}
	// A zone is inside one more than each zone that it is inside of.
	depth := map[string]int{}
	for i := range z.list {
		for k := range z.list {
			if i != k && z.list[i].inside(&z.list[k]) {
				depth[z.list[i].name]++
			}
		}
	}
	slices.SortStableFunc(z.list, func(a, b zone) int { return depth[b.name] - depth[a.name] })
	return z
}

// joined sorts ranges and joins those that meet.
func joined(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.low.Compare(b.low) })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && out[n-1].low.Is4() == s.low.Is4() && (s.low.Compare(out[n-1].high) <= 0 || out[n-1].high.Next() == s.low) {
			if out[n-1].high.Less(s.high) {
				out[n-1].high = s.high
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// has says whether a zone has all of a range.
func (z *zone) has(s span) bool {
	if z.anywhere {
		return true
	}
	i := sort.Search(len(z.networks), func(i int) bool { return s.low.Less(z.networks[i].low) }) - 1
	return i >= 0 && z.networks[i].low.Is4() == s.low.Is4() && s.high.Compare(z.networks[i].high) <= 0
}

// inside says whether all that is in a zone is in another one too.
func (z *zone) inside(w *zone) bool {
	if len(w.interfaces) > 0 {
		if len(z.interfaces) == 0 {
			return false
		}
		for _, i := range z.interfaces {
			if !slices.ContainsFunc(w.interfaces, func(o policy.Interface) bool { return o.Matches(i.Name) && (o.Wildcard || !i.Wildcard) }) {
				return false
			}
		}
	}
	if z.anywhere {
		return w.anywhere
	}
	for _, s := range z.networks {
		if !w.has(s) {
			return false
		}
	}
	return true
}

// Of gives the zone of what goes through an interface with an address, or "".
func (z *Zones) Of(iface string, a netip.Addr) string {
	list := z.onto(iface)
	for i := range list {
		if list[i].has(span{a, a}) {
			return list[i].name
		}
	}
	// Link-local addresses are on no list of networks. They count as those of the
	// zone that alone has the interface, as they do for the rules of input.
	if a.IsLinkLocalUnicast() && len(list) == 1 && len(list[0].interfaces) > 0 {
		return list[0].name
	}
	return ""
}

// onto gives the zones that an interface is in.
func (z *Zones) onto(iface string) []zone {
	for i := range z.last {
		if l := &z.last[i]; l.iface == iface && l.list != nil {
			return l.list
		}
	}
	list, ok := z.on[iface]
	if !ok {
		list = []zone{}
		for i := range z.list {
			if x := &z.list[i]; len(x.interfaces) == 0 || slices.ContainsFunc(x.interfaces, func(p policy.Interface) bool { return p.Matches(iface) }) {
				list = append(list, *x)
			}
		}
		z.on[iface] = list
	}
	z.last[z.next].iface, z.last[z.next].list = iface, list
	z.next = 1 - z.next
	return list
}
