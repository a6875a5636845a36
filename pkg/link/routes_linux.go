package link

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func number(family Family) int {
	if family == IPv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// readRoutes looks at the routes of all tables. The answer is one value, as a
// list for dump.
//
// With into, they go there as well.
func readRoutes(handle *netlink.Handle, family Family, names map[int]string, into *fib) ([]routes, error) {
	if into != nil {
		into.reset()
	}
	seen := routes{hops: map[Hop]uint32{}, foreign: map[int]bool{}}
	// A filter on the unspecified table is all tables; none is the main one.
	anyTable := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	err := handle.RouteListFilteredIter(number(family), anyTable, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		switch to, ok := toPrefix(r.Dst); {
		case r.Type == unix.RTN_UNICAST:
			seen.add(r, family, names)
		case r.Type == unix.RTN_LOCAL && family == IPv4 && ok:
			seen.local = append(seen.local, to)
		}
		if into != nil {
			into.take(r, names)
		}
		return true
	})
	return []routes{seen}, err
}

func (s *routes) add(r netlink.Route, family Family, names map[int]string) {
	if r.Protocol != netlink.RouteProtocol(ProtocolOwn) {
		s.foreign[r.Table] = true
	}
	to, ok := toPrefix(r.Dst)
	if !ok {
		return
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
	}
	for _, hop := range hops {
		name, known := names[hop.LinkIndex]
		if !known {
			continue
		}
		gateway, _ := netip.AddrFromSlice(hop.Gw)
		if via, ok := hop.Via.(*netlink.Via); ok && via != nil {
			gateway, _ = netip.AddrFromSlice(via.Addr)
		}
		gateway = gateway.Unmap()
		onLink := hop.Flags&int(netlink.FLAG_ONLINK) != 0
		route := Route{Family: family, Table: r.Table, To: to, Gateway: gateway, OnLink: onLink, Interface: name}
		switch {
		case r.Protocol == netlink.RouteProtocol(ProtocolOwn):
			s.own = append(s.own, route)
		case to.Bits() == 0:
			s.defaults = append(s.defaults, DefaultRoute{
				Family: family, Interface: name, Gateway: gateway, Metric: uint32(r.Priority),
				Table: r.Table, Protocol: Protocol(r.Protocol), OnLink: onLink,
			})
		case gateway.IsValid():
			h := Hop{Family: family, Interface: name, Gateway: gateway, OnLink: onLink}
			if metric, known := s.hops[h]; !known || uint32(r.Priority) < metric {
				s.hops[h] = uint32(r.Priority)
			}
		case r.Table == MainTable:
			s.connected = append(s.connected, route)
		}
	}
}

func (f *Facts) addRules(rules []seenRule) {
	for _, r := range rules {
		switch {
		case r.protocol == ProtocolOwn:
			f.Own.Rules = append(f.Own.Rules, r.rule)
		case r.rule.Mask != 0:
			f.ForeignRules = append(f.ForeignRules, r.rule)
		}
	}
}

// take adds a route. One whose interface came or went in between is left out,
// and so are next hops that are dead.
func (f *fib) take(r netlink.Route, names map[int]string) {
	to, ok := toPrefix(r.Dst)
	if !ok {
		return
	}
	var interfaces []string
	switch {
	case len(r.MultiPath) > 0:
		for _, hop := range r.MultiPath {
			if name, known := names[hop.LinkIndex]; known && hop.Flags&unix.RTNH_F_DEAD == 0 {
				interfaces = append(interfaces, name)
			}
		}
		if len(interfaces) == 0 {
			return
		}
	case r.LinkIndex != 0:
		name, known := names[r.LinkIndex]
		if !known || r.Flags&unix.RTNH_F_DEAD != 0 {
			return
		}
		interfaces = []string{name}
	}
	if kind := uint32(r.Type); kind >= KindBlackhole && kind <= KindProhibit && r.Protocol != unix.RTPROT_KERNEL && len(f.refusals) < mostRefusals {
		f.refusals = append(f.refusals, Refusal{Family: f.family, Table: r.Table, To: to, Kind: kind, Metric: uint32(r.Priority)})
	}
	f.add(r.Table, to, uint8(r.Type), uint32(r.Priority), f.family == IPv4 && r.Tos != 0, interfaces)
}
