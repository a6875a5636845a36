package draft

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// zones are the sides of the host.
func (w *writer) zones() {
	w.blank()
	w.line("zones:")
	for _, x := range w.uplinks {
		w.uplink(x)
	}
	if len(w.uplinks) == 0 {
		w.comment(2, "Write the uplink's interface here.")
		w.line("  wan: {interfaces: [%s]}", plain(w.spare()))
	}
	for _, x := range w.insides {
		w.inside(x)
	}
	if len(w.insides) == 0 {
		w.comment(2, "No network is behind this host now. One that comes, on an interface eth1 say:")
		w.choice("  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}")
	}
	for _, x := range w.alone {
		w.comment(2, "Left alone: %s (%s). What no zone names goes on as it is.", x.name, x.why)
	}
}

// spare is an interface that nothing else is said of, where an uplink is
// wanted: one of the host's, or one that may come.
func (w *writer) spare() string {
	for _, l := range w.Links {
		inside := slices.ContainsFunc(w.insides, func(x *site) bool { return x.Name == l.Name })
		if why, _ := w.left(l); l.Name != "lo" && why == "" && !inside {
			return l.Name
		}
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("ppp%d", i)
		if _, there := w.Link(name); !there {
			return name
		}
	}
}

func (w *writer) uplink(x *site) {
	switch {
	case w.guessed:
		w.comment(2, "No default route tells the uplink. This is the only interface that looks like one.")
	case len(w.uplinks) > 1 && x == w.uplinks[0]:
		w.comment(2, "The first uplink: %s.", ways(x))
	case len(w.uplinks) > 1:
		w.comment(2, "Another uplink: %s.", ways(x))
	default:
		w.comment(2, "The uplink: %s. Its address may change. `default_route: true` in place of `interfaces` follows the default route to another interface.", ways(x))
	}
	var keys []string
	if x.tunnel {
		w.comment(2, "A line that takes less than 1500 bytes: TCP is told so.")
		keys = append(keys, "mss_clamp: pmtu")
	}
	switch {
	case x.symmetric && x.noHop && x.hop.IsValid():
		w.comment(2, "What comes in here is answered here, and not by another uplink, in the family of the next hop that is known. "+
			"That takes routes of its own, which `ipmasq plan` shows.")
		keys = append(keys, "symmetric: {gateway: "+plain(x.hop.String())+"}")
	case x.lost && !x.symmetric:
		w.comment(2, "What comes in here would be answered by another uplink. Write its next hop to change that: `symmetric: {gateway: 192.0.2.1}`.")
	case x.symmetric && !x.noHop:
		w.comment(2, "What comes in here is answered here, and not by another uplink. That takes routes of its own, which `ipmasq plan` shows.")
		keys = append(keys, "symmetric: true")
	}
	w.line("  %s: {%s}", x.zone, strings.Join(append([]string{"interfaces: [" + plain(x.Name) + "]"}, keys...), ", "))
}

// ways tells the default routes of an uplink.
func ways(x *site) string {
	var parts []string
	for _, r := range x.routes {
		part := r.Family.String()
		if r.Gateway.IsValid() {
			part += " by " + r.Gateway.String()
		}
		if r.Metric > 0 {
			part += fmt.Sprintf(", metric %d", r.Metric)
		}
		if r.Table != link.MainTable {
			part += fmt.Sprintf(", table %d", r.Table)
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "it has no default route now"
	}
	return "the default route leads through " + x.Name + " (" + strings.Join(parts, "; ") + ")"
}

func (w *writer) inside(x *site) {
	networks := slices.Clone(x.networks)
	switch {
	case w.oneArm:
		w.comment(2, "The inside is on the same interface: its networks tell the two apart, and the narrower zone wins. Write all networks of hosts "+
			"that send through here, as 10.0.0.0/16 for the whole of a cloud network.")
	case x.tunnel:
		w.comment(2, "A VPN.")
	case x.Kind == "bridge" && x.zone != "lan":
		w.comment(2, "Virtual machines. libvirt translates networks of mode nat itself, and refuses what is forwarded to them: "+
			"`<forward mode='open'/>` leaves the network to this policy.")
	default:
		w.comment(2, "The inside. A packet comes from here when it arrives on %s with a source in these networks.", x.Name)
	}
	global := slices.ContainsFunc(networks, isGlobal6)
	if global && slices.ContainsFunc(w.uplinks, (*site).advertised) {
		var now []string
		for _, p := range networks {
			if isGlobal6(p) {
				now = append(now, p.String())
			}
		}
		w.comment(2, "2000::/3 is every IPv6 address of the internet. The prefix here is the provider's to change (%s now); "+
			"sources that are not routed back to %s are dropped all the same (`antispoof`).", words(now), x.Name)
		networks = append(slices.DeleteFunc(networks, isGlobal6), netip.MustParsePrefix("2000::/3"))
	}
	clamp := ""
	if x.tunnel {
		clamp = ", mss_clamp: pmtu"
	}
	w.line("  %s: {interfaces: [%s], networks: %s%s}", x.zone, plain(x.Name), bracketed(prefixes(networks)), clamp)
}

// isGlobal6 is true for IPv6 that the internet routes.
func isGlobal6(p netip.Prefix) bool { return p.Addr().Is6() && !isPrivate(p) }

func isGlobal4(p netip.Prefix) bool { return p.Addr().Is4() && !isPrivate(p) }

// translated are the insides that masquerade is for, tunnels aside.
func (w *writer) translated() []*site {
	return slices.DeleteFunc(slices.Clone(w.insides), func(x *site) bool { return x.tunnel || !slices.ContainsFunc(x.networks, isPrivate) })
}

// global says whether inside hosts have IPv6 addresses of their own.
func (w *writer) global() bool {
	return slices.ContainsFunc(w.insides, func(x *site) bool { return slices.ContainsFunc(x.networks, isGlobal6) })
}

func (w *writer) wans() []string {
	if len(w.uplinks) == 0 {
		return []string{"wan"}
	}
	return zoneNames(w.uplinks)
}

func (w *writer) masquerade() {
	w.blank()
	from := w.translated()
	if len(from) == 0 {
		w.comment(0, "Hosts of the inside share the address of the uplink. Here nobody has to:")
		w.choice("masquerade:")
		zone := "lan"
		if len(w.insides) > 0 {
			zone = w.insides[0].zone
		}
		w.choice("  - {name: out, from: %s, to: %s}", zone, list(w.wans()))
		return
	}
	w.comment(0, "Hosts of the inside share the address that the uplink has at the moment. What should be translated and is not, is dropped.")
	family := ""
	switch {
	case w.global():
		w.comment(0, "IPv6 hosts have addresses of their own: nothing is translated there.")
		family = ", family: ipv4"
	case slices.ContainsFunc(from, func(x *site) bool { return slices.ContainsFunc(x.networks, netip6) }):
		w.comment(0, "The inside's IPv6 addresses (fd00::/8) are for the inside alone, so IPv6 is translated too.")
	}
	var public []netip.Prefix
	for _, x := range from {
		public = append(public, slices.DeleteFunc(slices.Clone(x.networks), func(p netip.Prefix) bool { return !isGlobal4(p) })...)
	}
	except := ""
	if len(public) > 0 {
		w.comment(0, "Public addresses are not translated.")
		except = ", except_sources: " + list(prefixes(public))
	}
	w.line("masquerade:")
	w.line("  - {name: out, from: %s, to: %s%s%s}", list(zoneNames(from)), list(w.wans()), family, except)
	for _, x := range w.insides {
		if x.tunnel {
			w.comment(2, "Those at the other end of the VPN use the uplink, too:")
			w.choice("  - {name: %s, from: %s, to: %s}", x.zone, x.zone, list(w.wans()))
		}
	}
}

func netip6(p netip.Prefix) bool { return p.Addr().Is6() }

// target is a host for examples: a neighbour that has answered, else the tenth
// address of the first network.
func (w *writer) target() (netip.Addr, bool) {
	for _, x := range w.insides {
		own := func(a netip.Addr) bool {
			return slices.ContainsFunc(x.Addresses, func(o link.Address) bool { return o.Prefix.Addr() == a }) ||
				slices.ContainsFunc(x.routes, func(r link.DefaultRoute) bool { return r.Gateway == a }) ||
				slices.ContainsFunc(w.Defaults, func(r link.DefaultRoute) bool { return r.Gateway == a })
		}
		for _, n := range w.Neighbors {
			inside := slices.ContainsFunc(x.networks, func(p netip.Prefix) bool { return p.Contains(n.Address) })
			if n.State.Answered() && n.Interface == x.Name && n.Address.Is4() && inside && !own(n.Address) {
				return n.Address, true
			}
		}
	}
	for _, ipv4 := range []bool{true, false} {
		for _, x := range w.insides {
			for _, p := range only(x.networks, ipv4) {
				if p.Addr().BitLen()-p.Bits() >= 5 {
					return tenth(p), false
				}
			}
		}
	}
	return netip.MustParseAddr("192.168.1.10"), false
}

// tenth is the address that ends in 10, or in the IPv6 way of writing it.
func tenth(p netip.Prefix) netip.Addr {
	a, steps := p.Addr(), 10
	if a.Is6() {
		steps = 0x10
	}
	for range steps {
		a = a.Next()
	}
	return a
}

// service is a target with a port.
func service(a netip.Addr, port uint16) string {
	text := netip.AddrPortFrom(a, port).String()
	if a.Is6() {
		return strconv.Quote(text)
	}
	return text
}

func (w *writer) portForward() {
	w.blank()
	to, real := w.target()
	if real {
		w.comment(0, "The outside reaches a service inside. %s is a host that has answered this one lately.", to)
	} else {
		w.comment(0, "The outside reaches a service inside.")
	}
	w.choice("port_forward:")
	host, office := plain(to.String()), "198.51.100.0/24"
	if to.Is6() {
		office = "\"2001:db8:f::/48\""
	}
	w.choice("  - {name: web, from: %s, protocol: tcp, ports: [80, 443], to: %s}", list(w.wans()), host)
	port := 2222
	if w.Session != nil && w.Session.Server.Port() == 2222 {
		port = 2022 // the other one is this host's own
	}
	w.choice("  - {name: ssh, from: %s, protocol: tcp, ports: %d, to: %s, sources: %s}", list(w.wans()), port, service(to, 22), office)
}
