package link

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// routes is what is kept of one family's routes, of which there may be a
// million.
type routes struct {
	defaults       []DefaultRoute
	own, connected []Route
	hops           map[Hop]uint32 // without a metric, to the lowest
	foreign        map[int]bool
	local          []netip.Prefix
}

func (f *Facts) add(s routes, family Family) {
	f.Defaults = append(f.Defaults, s.defaults...)
	f.Own.Routes = append(f.Own.Routes, s.own...)
	f.Connected = append(f.Connected, s.connected...)
	f.Local = append(f.Local, s.local...)
	for h, metric := range s.hops {
		h.Metric = metric
		f.Hops = append(f.Hops, h)
	}
	slices.SortFunc(f.Hops, func(a, b Hop) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Metric, b.Metric),
			cmp.Compare(a.Interface, b.Interface), a.Gateway.Compare(b.Gateway))
	})
	for _, table := range slices.Sorted(maps.Keys(s.foreign)) {
		f.ForeignTables = append(f.ForeignTables, TableOf{family, table})
	}
}

// sort gives the order that Facts promises.
func (f *Facts) sort() {
	slices.SortFunc(f.Links, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	for _, l := range f.Links {
		slices.SortFunc(l.Addresses, func(a, b Address) int {
			return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
				a.Peer.Addr().Compare(b.Peer.Addr()))
		})
	}
	slices.SortFunc(f.Defaults, func(a, b DefaultRoute) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Table, b.Table),
			cmp.Compare(a.Interface, b.Interface), a.Gateway.Compare(b.Gateway), cmp.Compare(a.Protocol, b.Protocol))
	})
	slices.SortFunc(f.Local, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
}
