package link

import (
	"fmt"
	"net/netip"
	"slices"
)

// ProtocolOwn marks the routes and rules that ipmasq makes, so that they can be
// told from everybody else's ("i"; no other program is known to use it, see
// etc/iproute2/rt_protos).
const ProtocolOwn Protocol = 'i'

// Routing is routes and the rules that lead to them (policy routing, ip-rule(8)).
type Routing struct {
	Rules  []Rule
	Routes []Route
}

// Rule sends packets with a mark to a table.
type Rule struct {
	Family     Family
	Priority   int // lower comes first; that of the main table is 32766
	Mark, Mask uint32
	Table      int
}

// String gives the rule as ip-rule(8) takes it, with the family behind it.
func (r Rule) String() string {
	return fmt.Sprintf("rule %d: fwmark %#x/%#x lookup %d (%s)", r.Priority, r.Mark, r.Mask, r.Table, r.Family)
}

// Route is a route through one interface, without a metric of its own. Gateway
// is not valid where To is reached directly.
type Route struct {
	Family    Family
	Table     int
	To        netip.Prefix
	Gateway   netip.Addr
	OnLink    bool // Gateway is on the link, whatever other routes say
	Interface string
}

// String gives the route as ip-route(8) takes it.
func (r Route) String() string {
	to, via, onlink := r.To.String(), "", ""
	if r.To.Bits() == 0 {
		to = "default"
	}
	if r.Gateway.IsValid() {
		via = " via " + r.Gateway.String()
	}
	if r.OnLink {
		onlink = " onlink"
	}
	return fmt.Sprintf("route %s%s dev %s%s table %d (%s)", to, via, r.Interface, onlink, r.Table, r.Family)
}

// TableOf is one family's part of a routing table.
type TableOf struct {
	Family Family
	Table  int
}

// Hop is a next hop of routes other than default routes.
type Hop struct {
	Family    Family
	Interface string
	Gateway   netip.Addr
	OnLink    bool
	Metric    uint32
}

// Without is what is in r and not in o.
func (r Routing) Without(o Routing) Routing {
	return Routing{
		Rules:  slices.DeleteFunc(slices.Clone(r.Rules), func(x Rule) bool { return slices.Contains(o.Rules, x) }),
		Routes: slices.DeleteFunc(slices.Clone(r.Routes), func(x Route) bool { return slices.Contains(o.Routes, x) }),
	}
}

// Empty says whether there is nothing.
func (r Routing) Empty() bool { return len(r.Rules)+len(r.Routes) == 0 }

// Lines are the routes and rules in the order in which they are made.
func (r Routing) Lines() []string {
	var out []string
	for _, x := range r.Routes {
		out = append(out, x.String())
	}
	for _, x := range r.Rules {
		out = append(out, x.String())
	}
	return out
}

// DefaultInterfaces names the interfaces that the host's default route leads
// through, each once and in name order: for each family those of the lowest
// metric in the main table, all of them where there are several next hops.
func (f Facts) DefaultInterfaces() []string {
	var names []string
	for _, family := range []Family{IPv4, IPv6} {
		lowest, found := uint32(0), false
		for _, r := range f.Defaults { // in order of metrics
			if r.Family != family || r.Table != MainTable || found && r.Metric != lowest {
				continue
			}
			lowest, found = r.Metric, true
			names = append(names, r.Interface)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// NextHop finds the way out through an interface: the next hop of a default
// route in any table, the lowest metric first; else of its other routes. Of a
// link between two ends that has addresses of the family it is the interface
// alone.
func (f Facts) NextHop(family Family, name string) (gateway netip.Addr, onLink, ok bool) {
	for _, r := range f.Defaults { // in order of metrics
		if r.Family == family && r.Interface == name && r.Protocol != ProtocolOwn {
			return r.Gateway, r.OnLink, true
		}
	}
	for _, h := range f.Hops {
		if h.Family == family && h.Interface == name {
			return h.Gateway, h.OnLink, true
		}
	}
	l, _ := f.Link(name)
	speaks := slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.Prefix.Addr().Is4() == (family == IPv4) })
	return netip.Addr{}, false, l.PointToPoint && speaks
}

// AnyAddress is the destination of a family's default route.
func AnyAddress(f Family) netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
