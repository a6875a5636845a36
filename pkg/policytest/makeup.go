package policytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Build gives the host that is described, and makes up what is left out from
// the policy: the links of its zones, on each the first address of the zone's
// networks, and on uplinks addresses for documentation, with a default route.
// A nil Host is made up wholly. The error is of type [policy.Errors], about the
// description.
func (h *Host) Build(p *policy.Policy) (*link.Host, error) {
	if h == nil {
		h = &Host{}
	}
	m := newMaker(h, p)
	for _, l := range h.Links {
		m.link(l.Name)
	}
	m.zones()
	m.fallback = !slices.ContainsFunc(p.Zones, func(z policy.Zone) bool { return m.isUplink(&z) })
	m.inside()
	m.uplinks()
	m.outside()
	return m.finish()
}

// maker makes a host up.
type maker struct {
	host   *Host
	policy *policy.Policy

	links  []*made
	byZone map[string][]*made
	routes []link.HostRoute

	named    []policy.Address    // what the policy says of the inside, and of others
	targets  map[netip.Addr]bool // hosts of the inside
	ipv6     bool
	nets     int // how many networks for documentation are in use
	nets6    int
	unrouted [2]bool // no default route yet, by family
	fallback bool    // no zone is plainly an uplink
}

// made is a link on its way.
type made struct {
	name      string
	written   *Link // nil: made up
	addresses []netip.Prefix
}

func newMaker(h *Host, p *policy.Policy) *maker {
	m := &maker{host: h, policy: p, byZone: map[string][]*made{}, targets: map[netip.Addr]bool{},
		unrouted: [2]bool{true, true}}
	for _, s := range p.Sets {
		m.named = append(m.named, s.Addresses...)
	}
	for _, z := range p.Zones {
		m.named = append(m.named, m.networks(&z)...)
	}
	for i := range p.Masquerade {
		m.mentions(&p.Masquerade[i])
	}
	for i := range p.SNAT {
		m.mentions(&p.SNAT[i].Masquerade)
	}
	rules := p.Forward.Rules
	if p.Input != nil {
		rules = slices.Concat(rules, p.Input.Rules)
	}
	for _, x := range rules {
		m.named = slices.Concat(m.named, x.Sources, x.Destinations, x.ExceptSources, x.ExceptDestinations)
	}
	for i := range p.PortForward {
		m.forward(&p.PortForward[i])
	}
	for _, x := range p.OneToOne {
		m.named = append(m.named, policy.Address{Low: x.Inside.Addr(), High: x.Inside.Addr()})
		m.targets[x.Inside.Addr()] = true
	}
	m.ipv6 = slices.ContainsFunc(m.named, func(a policy.Address) bool { return a.Low.Is6() })
	for _, a := range m.pools() {
		m.ipv6 = m.ipv6 || a.address.Low.Is6()
	}
	for _, l := range h.Links {
		for _, a := range l.Addresses {
			m.ipv6 = m.ipv6 || a.Addr().Is6()
		}
	}
	return m
}

func (m *maker) mentions(x *policy.Masquerade) {
	m.named = slices.Concat(m.named, x.Sources, x.Destinations, x.ExceptSources, x.ExceptDestinations)
}

func (m *maker) forward(x *policy.PortForward) {
	m.named = slices.Concat(m.named, x.Sources, x.ExceptSources)
	target := func(a netip.Addr) {
		if a.IsValid() && !m.targets[a] {
			m.targets[a] = true
			m.named = append(m.named, policy.Address{Low: a, High: a})
		}
	}
	target(x.To.Addr)
	for _, t := range x.Targets {
		target(t.Addr)
	}
	if x.Map != nil {
		for i := range x.Map.Lines {
			target(x.Map.Lines[i].Addr)
		}
	}
}

// networks are a zone's, sets written out. What is every address is none.
func (m *maker) networks(z *policy.Zone) []policy.Address {
	var out []policy.Address
	for _, a := range m.policy.NetworksOf(z) {
		if p, ok := a.Prefix(); !ok || p.Bits() > 0 {
			out = append(out, a)
		}
	}
	return out
}

// link gives the link of a name.
func (m *maker) link(name string) *made {
	if i := slices.IndexFunc(m.links, func(l *made) bool { return l.name == name }); i >= 0 {
		return m.links[i]
	}
	l := &made{name: name}
	if i := slices.IndexFunc(m.host.Links, func(w Link) bool { return w.Name == name }); i >= 0 {
		l.written = &m.host.Links[i]
		l.addresses = slices.Clone(l.written.Addresses)
	}
	m.links = append(m.links, l)
	return l
}

// zones gives each zone its links.
func (m *maker) zones() {
	for i := range m.policy.Zones {
		z := &m.policy.Zones[i]
		for _, name := range m.names(z) {
			if l := m.link(name); !slices.Contains(m.byZone[z.Name], l) {
				m.byZone[z.Name] = append(m.byZone[z.Name], l)
			}
		}
	}
}

func (m *maker) names(z *policy.Zone) []string {
	var out []string
	for _, i := range z.Interfaces {
		before := len(out)
		for _, l := range m.host.Links {
			if i.Matches(l.Name) {
				out = append(out, l.Name)
			}
		}
		switch {
		case len(out) > before:
		case i.Wildcard && len(i.Name) < 15:
			out = append(out, i.Name+"0")
		default:
			out = append(out, i.Name)
		}
	}
	switch {
	case z.DefaultRoute:
		out = append(out, m.defaultLink()...)
	case len(z.Interfaces) == 0 && !m.described(z):
		out = append(out, z.Name[:min(len(z.Name), 15)])
	}
	return out
}

// defaultLink names what is to hold the default route: what is written so, else
// a link that no zone has.
func (m *maker) defaultLink() []string {
	var out []string
	for _, l := range m.host.Links {
		if len(l.Gateways) > 0 {
			out = append(out, l.Name)
		}
	}
	for _, r := range m.host.Routes {
		if r.To.Bits() == 0 && r.Link != "" && r.Table == 0 && !slices.Contains(out, r.Link) {
			out = append(out, r.Link)
		}
	}
	for i := 0; len(out) == 0; i++ {
		name := "eth" + strconv.Itoa(i)
		if !m.inZone(name) {
			out = append(out, name)
		}
	}
	return out
}

func (m *maker) inZone(name string) bool {
	return slices.ContainsFunc(m.policy.Zones, func(z policy.Zone) bool {
		return slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(name) })
	})
}

// described says whether links that are written have a zone's networks.
func (m *maker) described(z *policy.Zone) bool {
	for _, a := range m.networks(z) {
		if !slices.ContainsFunc(m.host.Links, func(l Link) bool {
			return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(a.Low) })
		}) {
			return false
		}
	}
	return true
}

// inside gives links the addresses of their zones' networks, each network to
// the next link of the zone.
func (m *maker) inside() {
	for i := range m.policy.Zones {
		z := &m.policy.Zones[i]
		links, networks := m.byZone[z.Name], m.networks(z)
		if len(networks) == 0 && !m.isUplink(z) {
			for _, l := range links {
				if len(l.addresses) == 0 {
					for _, a := range m.inventNetworks() {
						m.give(l, a)
					}
				}
			}
		}
		at := [2]int{}
		for _, a := range networks {
			if len(links) == 0 || known(links, a) {
				continue
			}
			f := familyOf(a.Low)
			l := links[min(at[f], len(links)-1)]
			at[f]++
			m.give(l, a)
		}
	}
}

// known says whether one of several links has the network already.
func known(links []*made, a policy.Address) bool {
	return slices.ContainsFunc(links, func(l *made) bool {
		return slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool { return p.Contains(a.Low) && p.Contains(a.High) })
	})
}

// inventNetworks are those of a link of an inside zone that names none: where the targets
// are that no network has, else one of our own choice.
func (m *maker) inventNetworks() []policy.Address {
	var out []policy.Address
	taken := func(a netip.Addr) bool {
		holds := func(x policy.Address) bool { return x.Low.IsValid() && !a.Less(x.Low) && !x.High.Less(a) }
		return slices.ContainsFunc(out, holds) || slices.ContainsFunc(m.policy.Zones, func(z policy.Zone) bool {
			return slices.ContainsFunc(m.networks(&z), holds)
		}) || known(m.links, policy.Address{Low: a, High: a})
	}
	targets := make([]netip.Addr, 0, len(m.targets))
	for a := range m.targets {
		targets = append(targets, a)
	}
	slices.SortFunc(targets, netip.Addr.Compare)
	for _, a := range targets {
		if !taken(a) && !a.IsLoopback() {
			bits := 24
			if a.Is6() {
				bits = 64
			}
			p := netip.PrefixFrom(a, bits).Masked()
			out = append(out, policy.Address{Low: p.Addr(), High: policy.LastOf(p)})
		}
	}
	if len(out) > 0 {
		return out
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i), 0}), 24)
		if !m.overlaps(p) && !known(m.links, policy.Address{Low: p.Addr(), High: policy.LastOf(p)}) {
			return append(out, policy.Address{Low: p.Addr(), High: policy.LastOf(p)})
		}
	}
	return out
}

// give puts a network on a link: an address of it where there is room for one,
// else a route.
func (m *maker) give(l *made, a policy.Address) {
	if l.written != nil && (len(l.written.Addresses) > 0 || l.written.NoAddresses) {
		return
	}
	p, ok := a.Prefix()
	if ok && p.Addr().BitLen()-p.Bits() >= 2 {
		if own := m.free(p); own.IsValid() {
			l.addresses = append(l.addresses, netip.PrefixFrom(own, p.Bits()))
			return
		}
	}
	for _, p := range prefixes(a.Low, a.High) {
		m.routes = append(m.routes, link.HostRoute{To: p, Interface: l.name, Metric: routeMetric})
	}
}

// routeMetric is that of routes to networks that are made up; those of a real
// host would have 0 in IPv4 and 1024 in IPv6.
const routeMetric = 10

// free is the first address of a network that is nobody's.
func (m *maker) free(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().Next()
	for range 4096 {
		taken := m.targets[a] || m.isGateway(a) || slices.ContainsFunc(m.links, func(l *made) bool {
			return slices.ContainsFunc(l.addresses, func(q netip.Prefix) bool { return q.Addr() == a })
		})
		if !taken && p.Contains(a.Next()) {
			return a
		}
		if a = a.Next(); !p.Contains(a) {
			break
		}
	}
	return netip.Addr{}
}

// isGateway says whether an address is that of a next hop that is written.
func (m *maker) isGateway(a netip.Addr) bool {
	for _, l := range m.host.Links {
		if slices.Contains(l.Gateways, a) {
			return true
		}
	}
	for _, z := range m.policy.Zones {
		if z.Symmetric != nil && (z.Symmetric.Gateway4 == a || z.Symmetric.Gateway6 == a) {
			return true
		}
	}
	return slices.ContainsFunc(m.host.Routes, func(r Route) bool { return r.Via == a })
}

// finish puts all together.
func (m *maker) finish() (*link.Host, error) {
	out := &link.Host{Routes: m.routes}
	for _, l := range m.links {
		x := link.Link{Name: l.name, Up: true, Carrier: true, Kind: "device"}
		if l.written != nil {
			x.PointToPoint, x.Up = l.written.PointToPoint, !l.written.Down
			x.Carrier = x.Up
		} else if m.ipv6 {
			l.addresses = append(l.addresses, netip.MustParsePrefix("fe80::1/64"))
		}
		for _, p := range l.addresses {
			x.Addresses = append(x.Addresses, link.Address{Prefix: p, Peer: netip.PrefixFrom(p.Addr(), p.Bits())})
		}
		out.Links = append(out.Links, x)
	}
	var errs policy.Errors
	for _, r := range m.host.Routes {
		x := link.HostRoute{To: r.To, Gateway: r.Via, Interface: r.Link, Metric: r.Metric, Table: r.Table, Kind: r.Kind}
		if x.Metric == 0 && x.To.Addr().Is6() {
			x.Metric = 1024 // IP6_RT_PRIO_USER
		}
		if x.Interface == "" && x.Gateway.IsValid() {
			x.Interface = m.onLink(x.Gateway)
		}
		x.OnLink = x.Gateway.IsValid() && !x.Gateway.IsLinkLocalUnicast() && m.onLink(x.Gateway) == ""
		switch {
		case x.Interface == "" && x.Gateway.IsValid():
			errs = append(errs, &policy.Error{Place: r.Place, Message: fmt.Sprintf("no link leads to %s; name one with `link`", x.Gateway)})
		case x.Interface != "" && x.Interface != "lo" && !slices.ContainsFunc(m.links, func(l *made) bool { return l.name == x.Interface }):
			errs = append(errs, &policy.Error{Place: r.Place, Message: fmt.Sprintf("there is no link %q", x.Interface)})
		}
		out.Routes = append(out.Routes, x)
	}
	for _, r := range m.host.Rules {
		for _, f := range []link.Family{link.IPv4, link.IPv6} {
			out.Rules = append(out.Rules, link.Rule{Family: f, Priority: r.Priority, Mark: r.Mark.Value, Mask: r.Mark.Mask, Table: r.Table})
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return out, nil
}

// onLink names the link that an address is reached by directly.
func (m *maker) onLink(a netip.Addr) string {
	for _, l := range m.links {
		if slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return l.name
		}
	}
	return ""
}
