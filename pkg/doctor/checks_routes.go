package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// outward are the uplink zones that lead to everywhere: the others name what is
// behind them.
func (h *Host) outward() (out []*policy.Zone) {
	for _, z := range h.uplinkZones() {
		if len(z.Networks) == 0 {
			out = append(out, z)
		}
	}
	return out
}

// ready says whether a link could carry a family.
func ready(l link.Link, f link.Family) bool { return l.Up && l.Carrier && len(global(l, f)) > 0 }

// defaults are the default routes of a family that no rule has to lead to.
func (h *Host) defaults(f link.Family) (out []link.DefaultRoute) {
	for _, r := range h.facts().Defaults {
		if r.Family == f && r.Table == link.MainTable {
			out = append(out, r)
		}
	}
	return out
}

// noDefaultRoute is about a host that knows no way out. Where an uplink is not
// ready, that is the reason, and another finding.
func noDefaultRoute(h *Host) (out []Finding) {
	for _, f := range families() {
		if len(h.outward()) == 0 || !h.needsUplink(f) || h.anyDefault(f) {
			continue
		}
		able := slices.DeleteFunc(h.linksOfAll(h.outward()), func(l link.Link) bool { return !ready(l, f) })
		nowhere := slices.ContainsFunc(h.outward(), func(z *policy.Zone) bool { return slices.ContainsFunc(z.Interfaces, nowhere) })
		if len(able) == 0 && !(nowhere && f == link.IPv4) || f == link.IPv6 && h.lost(able) != "" {
			continue
		}
		x := Finding{
			Severity: Broken, Weight: 780,
			Title:    fmt.Sprintf("the host has no default route of %s", f),
			Evidence: []string{fmt.Sprintf("route: no default of %s in any table", f)},
		}
		if f == link.IPv6 {
			x.Weight--
		}
		for _, l := range able {
			x.Evidence = append(x.Evidence, fmt.Sprintf("link: the uplink %s is up and holds %s", l.Name, addressesOf(l)))
			if l.PointToPoint {
				x.Mend = append(x.Mend, fmt.Sprintf("ip %sroute add default dev %s", dash6(f), l.Name))
				break
			}
			x.Mend = append(x.Mend, fmt.Sprintf("# ip %sroute add default via ROUTER dev %s, or have its configuration do so", dash6(f), l.Name))
		}
		if len(able) == 0 {
			x.Mend = []string{"# ip route add default via ROUTER dev LINK, or have the configuration of the links do so; the zone follows when the policy is applied again"}
		}
		out = append(out, x)
	}
	return out
}

func dash6(f link.Family) string {
	if f == link.IPv6 {
		return "-6 "
	}
	return ""
}

// anyDefault says whether there is a default route in any table: rules may lead
// to others than the main one.
func (h *Host) anyDefault(f link.Family) bool {
	return slices.ContainsFunc(h.facts().Defaults, func(r link.DefaultRoute) bool { return r.Family == f && r.Protocol != link.ProtocolOwn }) || h.halves(f)
}

// halves says whether two routes stand for a default route, as VPNs make them:
// the whole Internet has a way all the same.
func (h *Host) halves(f link.Family) bool {
	return h.Routes != nil && !slices.ContainsFunc(internet(f), func(a netip.Addr) bool { return len(h.Routes.Leaves(a)) == 0 })
}

// internet are addresses of both halves, or of two parts that are in use.
func internet(f link.Family) []netip.Addr {
	if f == link.IPv6 {
		return []netip.Addr{netip.MustParseAddr("2001:4860::1"), netip.MustParseAddr("2a00:1450::1")}
	}
	return []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("193.0.0.1")}
}

// past finds the link by which all of the Internet leaves past the uplinks and
// the default route of the main table: by longer prefixes, or a table that a
// rule leads to before.
func (h *Host) past(f link.Family, uplinks []link.Link) string {
	name := ""
	for _, a := range internet(f) {
		leaves := h.Routes.Leaves(a)
		if len(leaves) == 0 || slices.ContainsFunc(uplinks, func(l link.Link) bool { return l.Name == leaves[0] }) {
			return ""
		}
		name = leaves[0]
	}
	return name
}

// defaultElsewhere is about default routes by links that nothing is translated
// to.
func defaultElsewhere(h *Host) (out []Finding) {
	for _, f := range families() {
		routes := h.defaults(f)
		if len(h.outward()) == 0 || !h.needsUplink(f) || len(routes) == 0 {
			continue
		}
		first := routes[0]
		uplinks := slices.DeleteFunc(h.uplinkLinks(), func(l link.Link) bool { return h.strayed(l.Name) })
		leads := slices.ContainsFunc(routes, func(r link.DefaultRoute) bool {
			return r.Metric == first.Metric && slices.ContainsFunc(uplinks, func(l link.Link) bool { return l.Name == r.Interface })
		})
		past := h.past(f, uplinks)
		if leads && past == "" || slices.ContainsFunc(h.outward(), func(z *policy.Zone) bool { return z.Symmetric != nil }) {
			continue
		}
		if !slices.ContainsFunc(uplinks, func(l link.Link) bool { return ready(l, f) }) {
			continue // the uplink is not ready, and this is what is left
		}
		x := Finding{
			Severity: Broken, Weight: 770,
			Title:    fmt.Sprintf("the default route of %s leads by %s, which no entry translates to", f, first.Interface),
			Evidence: []string{fmt.Sprintf("route: default%s dev %s metric %d (%s)", via(first.Gateway), first.Interface, first.Metric, first.Protocol)},
			Mend:     []string{fmt.Sprintf("# have the route lead by the uplink, or write %s into its zone at %s, and apply", first.Interface, h.outward()[0].Place)},
		}
		name := first.Interface
		if leads {
			name = past
			x.Title = fmt.Sprintf("all that goes to the Internet by %s leaves by %s, which no entry translates to, and not by the default route", f, name)
			x.Evidence = append(x.Evidence, fmt.Sprintf("route: %s leaves by %s", internet(f)[0], name))
			x.Mend = []string{fmt.Sprintf("# if that is meant, as of a VPN, write %s into the zone at %s, and apply; else take away its routes and rules (ip route get %s)", name, h.outward()[0].Place, internet(f)[0])}
		}
		for _, l := range uplinks {
			x.Evidence = append(x.Evidence, fmt.Sprintf("policy: %s is what entries translate to", l.Name))
		}
		switch {
		case h.strayed(name):
			x.Title = fmt.Sprintf("the default route of %s leads by %s, which is inside", f, name)
			x.Mend = []string{"# have the route lead by the uplink again, or write the interfaces of the zone instead of default_route"}
		case slices.ContainsFunc(h.zoneLinks(), func(l link.Link) bool { return l.Name == name }):
			x.Severity = Risk // a zone that is not translated to by design
		}
		out = append(out, x)
	}
	return out
}

// strayed says whether a link is in an uplink zone only since the default route
// leads by it, and in another zone by its name.
func (h *Host) strayed(name string) bool {
	matches := func(i policy.Interface) bool { return i.Matches(name) }
	return slices.ContainsFunc(h.uplinkZones(), func(z *policy.Zone) bool {
		i := slices.IndexFunc(z.Interfaces, matches)
		return i >= 0 && z.Interfaces[i].Place == z.Place
	}) && slices.ContainsFunc(h.insideZones(), func(z *policy.Zone) bool { return slices.ContainsFunc(z.Interfaces, matches) })
}

func via(gateway netip.Addr) string {
	if !gateway.IsValid() {
		return ""
	}
	return " via " + gateway.String()
}

// lost finds the link whose advertised default route went when the host began
// to forward: it takes no more advertisements unless accept_ra is 2
// (net/ipv6/ndisc.c, ipv6_accept_ra).
func (h *Host) lost(links []link.Link) string {
	for _, l := range links {
		conf := "net/ipv6/conf/" + l.Name + "/"
		if h.Sysctls[conf+"accept_ra"] == "1" && h.Sysctls[conf+"forwarding"] == "1" &&
			!slices.ContainsFunc(h.facts().Defaults, func(r link.DefaultRoute) bool {
				return r.Family == link.IPv6 && r.Interface == l.Name && r.Protocol != link.ProtocolOwn
			}) {
			return l.Name
		}
	}
	return ""
}

// ipv6DefaultLost is about that.
func ipv6DefaultLost(h *Host) (out []Finding) {
	if !h.needsUplink(link.IPv6) || h.anyDefault(link.IPv6) {
		return nil
	}
	able := slices.DeleteFunc(h.linksOfAll(h.outward()), func(l link.Link) bool { return !ready(l, link.IPv6) })
	name := h.lost(able)
	if name == "" {
		return nil
	}
	conf := "net/ipv6/conf/" + name + "/"
	return []Finding{{
		Severity: Broken, Weight: 785,
		Title:    fmt.Sprintf("%s takes no router advertisements since the host forwards, and there is no default route of IPv6", name),
		Evidence: []string{h.sysctl(conf + "accept_ra"), h.sysctl(conf + "forwarding"), "route: no default of IPv6 in any table"},
		Mend:     []string{"sysctl -w " + dotted(conf+"accept_ra") + "=2", "# the route comes with the next advertisement; ip link set " + name + " down, then up, asks for one"},
	}}
}
