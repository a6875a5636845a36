// Package link tells what the host's links, addresses and routes are
// now, and enters network namespaces.
//
// [Read] looks at the network namespace of the calling thread; [NetNS.Do] is
// how a thread gets into another one. Reading needs no privilege, entering
// does. Interface names are all a policy knows, so no index leaves here but as
// a fact about a link.
package link

import (
	"net/netip"
	"slices"
	"strconv"
)

// Facts is one reading. Links stand in the order of their indexes, addresses
// IPv4 first and by number, default routes by family, metric, table,
// interface and gateway, local prefixes by number.
type Facts struct {
	Links    []Link
	Defaults []DefaultRoute
	// Own are the routes and rules that ipmasq has made.
	Own Routing
	// Connected are the networks of the main table that are reached directly.
	Connected []Route
	// Hops are the next hops of the other routes of all tables, each once, with
	// the lowest metric that it has.
	Hops []Hop
	// ForeignRules are the rules of others that look at the mark, ForeignTables
	// the tables with routes of others.
	ForeignRules  []Rule
	ForeignTables []TableOf
	// Local are the IPv4 prefixes that the host takes for itself: its addresses,
	// and what local routes add to them (ip-route(8), type local).
	Local []netip.Prefix
}

// Link is one interface.
type Link struct {
	Name    string
	Index   int
	Up      bool // set up by the administrator (IFF_UP)
	Carrier bool // and able to pass packets (IFF_LOWER_UP)
	// PointToPoint is a link with one other end, or one that resolves no
	// addresses (IFF_POINTOPOINT, IFF_NOARP).
	PointToPoint bool
	Master       string // the bridge, bond or VRF that it belongs to, or ""
	// Kind is the kernel's name for it: "bridge", "veth", "vlan", "wireguard";
	// "device" for hardware and lo.
	Kind      string
	MTU       int
	Addresses []Address
}

// Address is one address of a link. Prefix holds the address itself, host bits
// included; on a point-to-point link it is a single address, and Peer is the
// other side's.
type Address struct {
	Prefix     netip.Prefix
	Peer       netip.Prefix
	Secondary  bool // IPv4: not the one that the kernel chooses as a source
	Temporary  bool // IPv6 privacy address (RFC 8981)
	Deprecated bool // not for new connections
	// Tentative is an address whose duplicate detection is going on or has
	// failed: it receives nothing yet. Duplicate is one of which it has failed.
	Tentative, Duplicate bool
}

// Family is an IP version.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String gives "IPv4" or "IPv6".
func (f Family) String() string { return "IPv" + strconv.Itoa(int(f)) }

// Protocol is who made a route (rtm_protocol of rtnetlink(7)).
type Protocol uint8

// The protocols that ipmasq tells apart. RA routes come from router
// advertisements, whether the kernel handled them or a daemon did.
const (
	ProtocolRedirect Protocol = 1
	ProtocolKernel   Protocol = 2
	ProtocolBoot     Protocol = 3
	ProtocolStatic   Protocol = 4
	ProtocolRA       Protocol = 9
	ProtocolDHCP     Protocol = 16
)

// String gives the name as ip-route(8) prints it, or the number.
func (p Protocol) String() string {
	switch p {
	case ProtocolRedirect:
		return "redirect"
	case ProtocolKernel:
		return "kernel"
	case ProtocolBoot:
		return "boot"
	case ProtocolStatic:
		return "static"
	case ProtocolRA:
		return "ra"
	case ProtocolDHCP:
		return "dhcp"
	}
	return strconv.Itoa(int(p))
}

// MainTable is the routing table that is used when no rule says otherwise.
const MainTable = 254

// DefaultRoute is one way out for one family. A route over several next hops
// is several DefaultRoutes with all else the same. Gateway is not valid where
// the interface is the way, as on a point-to-point link; an IPv4 route may
// have an IPv6 gateway (RFC 5549).
type DefaultRoute struct {
	Family    Family
	Interface string
	Gateway   netip.Addr
	Metric    uint32 // lower is preferred
	Table     int    // MainTable, or one that a rule or a VRF selects
	Protocol  Protocol
	OnLink    bool // Gateway is on the link, whatever other routes say
}

// Link finds a link by name.
func (f Facts) Link(name string) (Link, bool) {
	i := slices.IndexFunc(f.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return f.Links[i], true
}

// RADefaultRouteLinks names the links that hold an IPv6 default route from a
// router advertisement, in any table, each once and in name order: the links
// that forwarding would cut off (see package sysctl).
func (f Facts) RADefaultRouteLinks() []string {
	var names []string
	for _, route := range f.Defaults {
		if route.Family == IPv6 && route.Protocol == ProtocolRA {
			names = append(names, route.Interface)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
