package policytest

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// isUplink says whether a zone is one that the outside is behind: it has no
// networks, and is one by what it says, or by what is translated to it. Where no
// zone is, the last counts for those with networks too.
func (m *maker) isUplink(z *policy.Zone) bool {
	switch {
	case z.DefaultRoute || z.Symmetric != nil:
		return true
	case len(m.networks(z)) > 0 && !m.fallback:
		return false
	}
	names := func(refs []policy.ZoneRef) bool {
		return slices.ContainsFunc(refs, func(r policy.ZoneRef) bool { return r.Name == z.Name })
	}
	to, from, opened := false, false, false
	for i := range m.policy.Masquerade {
		to, from = to || names(m.policy.Masquerade[i].To), from || names(m.policy.Masquerade[i].From)
	}
	for i := range m.policy.SNAT {
		to, from = to || names(m.policy.SNAT[i].To), from || names(m.policy.SNAT[i].From)
	}
	for i := range m.policy.OneToOne {
		to = to || m.policy.OneToOne[i].Zone.Name == z.Name
	}
	for i := range m.policy.PortForward {
		opened = opened || names(m.policy.PortForward[i].From)
	}
	if m.fallback && len(m.networks(z)) > 0 {
		return to
	}
	return to || opened && !from || !from && !m.translates()
}

// translates says whether the policy tells an inside from an outside at all.
func (m *maker) translates() bool {
	p := m.policy
	return len(p.Masquerade)+len(p.SNAT)+len(p.OneToOne)+len(p.PortForward) > 0
}

// uplinks gives uplinks addresses, and the default routes.
func (m *maker) uplinks() {
	var later []func() // what leads out only where nothing else does
	metric := uint32(0)
	for i := range m.policy.Zones {
		z := &m.policy.Zones[i]
		if !m.isUplink(z) {
			continue
		}
		for _, l := range m.byZone[z.Name] {
			metric += 100
			m.uplink(z, l, metric, &later)
		}
	}
	for _, l := range m.links { // that no zone has
		if l.written != nil && len(l.written.Gateways) > 0 && !slices.ContainsFunc(m.routes, func(r link.HostRoute) bool { return r.To.Bits() == 0 && r.Interface == l.name }) {
			metric += 100
			for _, g := range l.written.Gateways {
				m.defaultRoute(l, g, metric)
			}
		}
	}
	for _, f := range later {
		f()
	}
}

func (m *maker) uplink(z *policy.Zone, l *made, metric uint32, later *[]func()) {
	for f, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if f == 1 && !m.ipv6 {
			continue
		}
		written := l.written != nil && (len(l.written.Addresses) > 0 || l.written.NoAddresses)
		gateway := netip.Addr{}
		if s := z.Symmetric; s != nil {
			gateway = []netip.Addr{s.Gateway4, s.Gateway6}[f]
		}
		chosen := gateway.IsValid()
		if l.written != nil {
			for _, g := range l.written.Gateways {
				if g.Is4() == any.Is4() {
					gateway, chosen = g, false
				}
			}
		}
		at := slices.IndexFunc(l.addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == any.Is4() })
		if at < 0 && !written {
			p := m.documentation(any.Is4(), gateway)
			if !gateway.IsValid() {
				gateway = p.Addr().Next()
			}
			own := gateway.Next()
			if !p.Contains(own) || own == policy.LastOf(p) {
				own = p.Addr().Next()
			}
			l.addresses = append(l.addresses, netip.PrefixFrom(own, p.Bits()))
			at = len(l.addresses) - 1
		}
		if at < 0 || l.written != nil && l.written.NoGateway {
			continue
		}
		if p := l.addresses[at]; !gateway.IsValid() && p.Addr().BitLen()-p.Bits() >= 2 {
			gateway = m.free(p)
		}
		if chosen { // it need not be the default route's
			*later = append(*later, func() {
				if m.unrouted[f] {
					m.defaultRoute(l, gateway, metric)
				}
			})
			continue
		}
		if !m.routed(any.Is4()) {
			m.defaultRouteOf(any.Is4(), l, gateway, metric)
		}
	}
}

// routed says whether default routes of a family are written.
func (m *maker) routed(is4 bool) bool {
	return slices.ContainsFunc(m.host.Routes, func(r Route) bool { return r.To.Bits() == 0 && r.To.Addr().Is4() == is4 && r.Table == 0 })
}

func (m *maker) defaultRoute(l *made, gateway netip.Addr, metric uint32) {
	m.defaultRouteOf(gateway.Is4(), l, gateway, metric)
}

func (m *maker) defaultRouteOf(is4 bool, l *made, gateway netip.Addr, metric uint32) {
	to, f := netip.PrefixFrom(netip.IPv4Unspecified(), 0), 0
	if !is4 {
		to, f = netip.PrefixFrom(netip.IPv6Unspecified(), 0), 1
	}
	m.unrouted[f] = false
	onLink := gateway.IsValid() && m.onLink(gateway) == ""
	m.routes = append(m.routes, link.HostRoute{To: to, Gateway: gateway, OnLink: onLink, Interface: l.name, Metric: metric})
}

// documentation is a network that the policy says nothing of (RFC 5737, 3849,
// 2544), or that of a gateway.
func (m *maker) documentation(is4 bool, gateway netip.Addr) netip.Prefix {
	switch {
	case gateway.IsValid() && is4:
		return netip.PrefixFrom(gateway, 24).Masked()
	case gateway.IsValid():
		return netip.PrefixFrom(gateway, 64).Masked()
	case !is4:
		for {
			b := netip.MustParseAddr("2001:db8:ffff::").As16()
			b[6], b[7] = byte(m.nets6>>8), byte(m.nets6)
			m.nets6++
			if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !m.overlaps(p) {
				return p
			}
		}
	}
	three := []netip.Addr{netip.MustParseAddr("203.0.113.0"), netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("198.51.100.0")}
	for {
		a := netip.AddrFrom4([4]byte{198, 19, byte(m.nets), 0})
		if m.nets < len(three) {
			a = three[m.nets]
		}
		m.nets++
		if p := netip.PrefixFrom(a, 24); m.nets > 250 || !m.overlaps(p) {
			return p
		}
	}
}

// overlaps says whether the policy or the host names anything of a network.
func (m *maker) overlaps(p netip.Prefix) bool {
	end := policy.LastOf(p)
	for _, a := range m.named {
		if a.Low.IsValid() && a.Low.Is4() == p.Addr().Is4() && !end.Less(a.Low) && !a.High.Less(p.Addr()) {
			if q, ok := a.Prefix(); !ok || q.Bits() > 8 { // what is as wide as that is not a place
				return true
			}
		}
	}
	for _, l := range m.host.Links {
		if slices.ContainsFunc(l.Addresses, func(q netip.Prefix) bool { return q.Overlaps(p) }) {
			return true
		}
	}
	return slices.ContainsFunc(m.policy.Zones, func(z policy.Zone) bool {
		return z.Symmetric != nil && (p.Contains(z.Symmetric.Gateway4) || p.Contains(z.Symmetric.Gateway6))
	})
}

// pool is outside addresses of an entry.
type pool struct {
	address policy.Address
	zones   []policy.ZoneRef
}

// pools are the outside addresses that entries name.
func (m *maker) pools() []pool {
	var out []pool
	for i := range m.policy.SNAT {
		for _, a := range m.policy.SNAT[i].Addresses {
			out = append(out, pool{a, m.policy.SNAT[i].To})
		}
	}
	for _, x := range m.policy.OneToOne {
		p := x.Outside.Masked()
		out = append(out, pool{policy.Address{Low: p.Addr(), High: policy.LastOf(p)}, []policy.ZoneRef{x.Zone}})
	}
	for i := range m.policy.PortForward {
		for _, a := range m.policy.PortForward[i].Address {
			if a.Set == "" && a.Low.IsValid() && !a.Low.IsLoopback() {
				out = append(out, pool{a, m.policy.PortForward[i].From})
			}
		}
	}
	return out
}

// outside has the host hold the outside addresses that lie in the network of
// an uplink; others are routed to it.
func (m *maker) outside() {
	for _, x := range m.pools() {
		for _, z := range x.zones {
			for _, l := range m.byZone[z.Name] {
				if l.written == nil || len(l.written.Addresses) == 0 && !l.written.NoAddresses {
					m.hold(l, x.address)
				}
			}
		}
	}
}

func (m *maker) hold(l *made, a policy.Address) {
	within := slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool {
		return p.Contains(a.Low) && p.Contains(a.High) && p.Bits() < p.Addr().BitLen()
	})
	switch {
	case !within:
	case a.Low == a.High:
		if !slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool { return p.Addr() == a.Low }) {
			l.addresses = append(l.addresses, netip.PrefixFrom(a.Low, a.Low.BitLen()))
		}
	default:
		for _, p := range prefixes(a.Low, a.High) {
			r := link.HostRoute{To: p, Interface: "lo", Kind: link.KindLocal}
			if !a.Low.Is4() {
				r.Metric = 1024
			}
			if !slices.Contains(m.routes, r) {
				m.routes = append(m.routes, r)
			}
		}
	}
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// prefixes are the fewest that a range is made of.
func prefixes(low, high netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for !high.Less(low) {
		bits := low.BitLen()
		for bits > 0 {
			p := netip.PrefixFrom(low, bits-1)
			if p.Masked().Addr() != low || high.Less(policy.LastOf(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(low, bits)
		out = append(out, p)
		if low = policy.LastOf(p).Next(); !low.IsValid() {
			break
		}
	}
	return out
}
