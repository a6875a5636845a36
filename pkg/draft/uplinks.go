package draft

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// findUplinks takes the interfaces of default routes: those of the main table
// first, by metric. Without any, the one interface that looks like an uplink.
func (s *surveyed) findUplinks(free []*site) {
	for _, main := range []bool{true, false} {
		for _, r := range s.Defaults { // in order of families and metrics
			if (r.Table == link.MainTable) != main || r.Protocol == link.ProtocolOwn {
				continue
			}
			i := slices.IndexFunc(free, func(x *site) bool { return x.Name == r.Interface })
			if i < 0 {
				continue
			}
			x := free[i]
			x.routes = append(x.routes, r)
			if !slices.Contains(s.uplinks, x) {
				s.uplinks = append(s.uplinks, x)
			}
		}
	}
	if len(s.uplinks) > 0 {
		return
	}
	var like []*site
	for _, x := range free {
		public := slices.ContainsFunc(x.Addresses, func(a link.Address) bool {
			p := a.Prefix
			return p.Addr().Is4() && !isPrivate(p) && !p.Addr().IsLinkLocalUnicast()
		})
		if public || strings.HasPrefix(x.Name, "ppp") || strings.HasPrefix(x.Name, "wwan") {
			like = append(like, x)
		}
	}
	if len(like) == 1 {
		s.uplinks, s.guessed = like, true
	}
}

// oneArmed finds a host with one interface for both directions, as the NAT
// instance of a cloud network has.
func (s *surveyed) oneArmed() {
	if len(s.uplinks) != 1 || len(s.insides) > 0 || len(s.alone) > 0 || s.guessed || s.uplinks[0].tunnel {
		return
	}
	inside := *s.uplinks[0]
	inside.routes = nil
	inside.networks = slices.DeleteFunc(slices.Clone(inside.networks), func(p netip.Prefix) bool { return !p.Addr().Is4() || !isPrivate(p) })
	if len(inside.networks) > 0 {
		s.oneArm, s.insides = true, []*site{&inside}
	}
}

// followSymmetric finds the uplinks whose answers another one's default route
// would lead away.
func (s *surveyed) followSymmetric() {
	for _, x := range s.uplinks {
		for _, family := range []link.Family{link.IPv4, link.IPv6} {
			if !x.has(family) {
				continue
			}
			needs := slices.ContainsFunc(s.uplinks, func(other *site) bool {
				mine, ok := x.metric(family)
				theirs, leads := other.metric(family)
				return other != x && other.has(family) && leads && (!ok || mine >= theirs)
			})
			hop, _, known := s.NextHop(family, x.Name)
			switch {
			case needs && !known:
				x.lost = true
			case needs:
				x.symmetric = true
				x.hop = hop
			}
			x.noHop = x.noHop || !known
		}
	}
}

// has says whether the uplink has an address of a family that others can send
// to.
func (x *site) has(f link.Family) bool {
	return slices.ContainsFunc(x.Addresses, func(a link.Address) bool {
		return a.Prefix.Addr().Is4() == (f == link.IPv4) && !a.Prefix.Addr().IsLinkLocalUnicast()
	})
}

// metric is that of the uplink's default route in the main table.
func (x *site) metric(f link.Family) (uint32, bool) {
	for _, r := range x.routes {
		if r.Family == f && r.Table == link.MainTable {
			return r.Metric, true
		}
	}
	return 0, false
}

// leads says whether the uplink has a default route of a family.
func (x *site) leads(f link.Family) bool {
	return slices.ContainsFunc(x.routes, func(r link.DefaultRoute) bool { return r.Family == f })
}

// advertised says whether the uplink's IPv6 comes from a router or by DHCP: a
// prefix behind it is then the provider's to change.
func (x *site) advertised() bool {
	return slices.ContainsFunc(x.routes, func(r link.DefaultRoute) bool {
		return r.Family == link.IPv6 && (r.Protocol == link.ProtocolRA || r.Protocol == link.ProtocolDHCP)
	})
}
