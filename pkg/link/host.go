package link

import (
	"fmt"
	"net/netip"
	"slices"
)

// Host is a host that is described, and need not exist: what a packet would
// find there, without a kernel.
type Host struct {
	// Links have a name, whether they are up, and addresses. Indexes are given
	// out in their order, from 2 on; lo is added.
	Links  []Link
	Routes []HostRoute
	Rules  []Rule
}

// HostRoute is a route of a described host.
type HostRoute struct {
	To        netip.Prefix
	Gateway   netip.Addr
	OnLink    bool
	Interface string // not of a route that refuses
	Metric    uint32
	Table     int    // 0: the main table
	Kind      uint32 // 0: KindUnicast
}

// Family is that of its destination.
func (r HostRoute) Family() Family { return familyOf(r.To.Addr()) }

// lastPriorities are those of the rules that every host has.
const (
	mainPriority    = 32766
	defaultPriority = 32767
	defaultTable    = 253
)

// loopback is what every host has.
func loopback() Link {
	return Link{Name: "lo", Index: 1, Up: true, Carrier: true, Kind: "device", Addresses: []Address{
		{Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Prefix: netip.MustParsePrefix("::1/128")},
	}}
}

// Read tells of a described host what [ReadRoutes] would of a real one: what is
// described, and what the kernel adds to it (local and connected routes). No route
// leads over links that are not up.
func (h Host) Read() (*Routes, error) {
	facts, err := h.facts()
	if err != nil {
		return nil, err
	}
	out := &Routes{Facts: facts}
	for _, family := range []Family{IPv4, IPv6} {
		tables := newFIB(family, h.rules(family))
		for _, l := range facts.Links {
			for _, a := range l.Addresses {
				if familyOf(a.Prefix.Addr()) == family {
					tables.addAddress(l.Name, a.Prefix, l.Up)
				}
			}
		}
		for _, r := range h.Routes {
			if r.Family() != family || r.Interface != "" && !up(facts, r.Interface) {
				continue
			}
			var by []string
			if r.Interface != "" {
				by = []string{r.Interface}
			}
			tables.add(r.table(), r.To, uint8(r.kind()), r.Metric, false, by)
		}
		if family == IPv4 {
			out.ipv4 = tables.ranges4()
		} else {
			out.ipv6 = tables.ranges6()
		}
	}
	out.hold()
	return out, nil
}

func up(f Facts, name string) bool {
	l, ok := f.Link(name)
	return ok && l.Up
}

func (r HostRoute) kind() uint32 {
	if r.Kind == 0 {
		return KindUnicast
	}
	return r.Kind
}

func (r HostRoute) table() int {
	switch {
	case r.Table != 0:
		return r.Table
	case r.Kind == KindLocal:
		return localTable
	}
	return MainTable
}

// facts are those that Read would give of it.
func (h Host) facts() (Facts, error) {
	f := Facts{Links: []Link{loopback()}}
	for i, l := range h.Links {
		if _, taken := f.Link(l.Name); taken {
			return f, fmt.Errorf("the link %s is there twice", l.Name)
		}
		l.Index = i + 2
		l.Addresses = slices.Clone(l.Addresses)
		f.Links = append(f.Links, l)
	}
	for _, l := range f.Links {
		for _, a := range l.Addresses {
			p := a.Prefix
			if p.Addr().Is4() {
				f.Local = append(f.Local, netip.PrefixFrom(p.Addr(), 32))
			}
			if !l.Up {
				continue
			}
			if p.Addr().IsLoopback() {
				if p.Addr().Is4() {
					f.Local = append(f.Local, p.Masked())
				}
				continue
			}
			if p.Bits() < p.Addr().BitLen() || p.Addr().Is6() {
				f.Connected = append(f.Connected, Route{Family: familyOf(p.Addr()), Table: MainTable, To: p.Masked(), Interface: l.Name})
			}
		}
	}
	slices.SortStableFunc(f.Connected, func(a, b Route) int { return int(a.Family) - int(b.Family) })
	seen := routes{hops: map[Hop]uint32{}}
	for _, r := range h.Routes {
		if r.Interface != "" && !up(f, r.Interface) {
			if _, known := f.Link(r.Interface); !known {
				return f, fmt.Errorf("there is no link %s for the route to %s", r.Interface, r.To)
			}
			continue
		}
		f.take(r, &seen)
	}
	f.add(seen, IPv4)
	for _, r := range h.Rules {
		if r.Mask != 0 {
			f.ForeignRules = append(f.ForeignRules, r)
		}
	}
	f.sort()
	return f, nil
}

// take adds a route to the facts.
func (f *Facts) take(r HostRoute, seen *routes) {
	family := r.Family()
	if t := (TableOf{family, r.table()}); r.kind() == KindUnicast && !slices.Contains(f.ForeignTables, t) {
		f.ForeignTables = append(f.ForeignTables, t)
	}
	switch {
	case r.kind() == KindLocal && family == IPv4:
		f.Local = append(f.Local, r.To)
	case r.kind() != KindUnicast:
	case r.To.Bits() == 0:
		f.Defaults = append(f.Defaults, DefaultRoute{Family: family, Interface: r.Interface, Gateway: r.Gateway,
			Metric: r.Metric, Table: r.table(), Protocol: ProtocolStatic, OnLink: r.OnLink})
	case r.Gateway.IsValid():
		hop := Hop{Family: family, Interface: r.Interface, Gateway: r.Gateway, OnLink: r.OnLink}
		if metric, known := seen.hops[hop]; !known || r.Metric < metric {
			seen.hops[hop] = r.Metric
		}
	case r.table() == MainTable:
		f.Connected = append(f.Connected, Route{Family: family, Table: MainTable, To: r.To, Interface: r.Interface})
	}
}

// rules are those that look at addresses, in their order: the kernel's own and
// the described ones.
func (h Host) rules(family Family) []fibRule {
	look := func(priority, table int) fibRule {
		return fibRule{priority: priority, action: actLookup, tables: []int{table}, suppress: -1}
	}
	out := []fibRule{look(0, localTable), look(mainPriority, MainTable)}
	if family == IPv4 {
		out = append(out, look(defaultPriority, defaultTable))
	}
	for _, r := range h.Rules {
		if r.Family == family {
			x := look(r.Priority, r.Table)
			x.asks = r.Mask != 0
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b fibRule) int { return a.priority - b.priority })
	return out
}

// addAddress adds the routes that the kernel makes for an address
// (fib_add_ifaddr of net/ipv4/fib_frontend.c, addrconf_prefix_route and
// __ipv6_dev_ac_inc of net/ipv6). That of a link that is down is the host's own
// too, in IPv4.
func (f *fib) addAddress(name string, p netip.Prefix, up bool) {
	by, own := []string{name}, p.Addr()
	if !up && own.Is6() {
		return
	}
	f.add(localTable, netip.PrefixFrom(own, own.BitLen()), uint8(KindLocal), 0, false, by)
	if !up {
		return
	}
	const metric6 = 256 // IP6_RT_PRIO_ADDRCONF
	switch {
	case own.Is6():
		f.add(MainTable, p.Masked(), uint8(KindUnicast), metric6, false, by)
		if !own.IsLoopback() {
			f.add(localTable, netip.MustParsePrefix("ff00::/8"), uint8(KindMulticast), metric6, false, by)
		}
		return
	case own.IsLoopback():
		f.add(localTable, p.Masked(), uint8(KindLocal), 0, false, by)
	case p.Bits() < 32:
		f.add(MainTable, p.Masked(), uint8(KindUnicast), 0, false, by)
	}
	if p.Bits() < 31 {
		f.add(localTable, netip.PrefixFrom(lastOf(p), 32), uint8(KindBroadcast), 0, false, by)
	}
}

// lastOf is the highest address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}
