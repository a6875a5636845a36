package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// overlap is about networks that are on two links: of their addresses the host
// finds one part only.
func overlap(h *Host) (out []Finding) {
	links := h.zoneLinks()
	for i, a := range links {
		for _, b := range links[i+1:] {
			if a.Master != "" || b.Master != "" || !a.Up || !b.Up {
				continue
			}
			for _, x := range a.Addresses {
				for _, y := range b.Addresses {
					if x.Prefix.Addr().IsLinkLocalUnicast() || x.Prefix.IsSingleIP() || y.Prefix.IsSingleIP() || !network(x).Overlaps(network(y)) {
						continue
					}
					f := Finding{
						Severity: Broken, Weight: 760,
						Title:    fmt.Sprintf("%s on %s and %s on %s are one network to the host: it sends to one of the links only", network(x), a.Name, network(y), b.Name),
						Evidence: []string{fmt.Sprintf("link: %s holds %s", a.Name, x.Prefix), fmt.Sprintf("link: %s holds %s", b.Name, y.Prefix)},
						Mend:     []string{fmt.Sprintf("# give the hosts on one of the links other addresses, as 192.168.%d.0/24", h.freeNetwork())},
					}
					if x.Prefix.Bits() != y.Prefix.Bits() {
						f.Severity = Risk // the longer prefix has what is its own
					}
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// freeNetwork is the third byte of a private network that no link is in.
func (h *Host) freeNetwork() int {
	for n := 10; n < 255; n++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(n), 0}), 24)
		if !slices.ContainsFunc(h.facts().Links, func(l link.Link) bool {
			return slices.ContainsFunc(l.Addresses, func(a link.Address) bool { return a.Prefix.Addr().Is4() && network(a).Overlaps(p) })
		}) {
			return n
		}
	}
	return 10
}

// insideUnrouted is about networks of a zone that the host sends elsewhere, or
// nowhere: answers do not come back.
func insideUnrouted(h *Host) (out []Finding) {
	for _, z := range h.insideZones() {
		links := h.linksOf(z)
		for _, f := range families() {
			if !slices.ContainsFunc(links, func(l link.Link) bool { return h.able(l, f) }) {
				continue // that is the reason
			}
			for _, n := range h.networks(z, f) {
				if h.reaches(links, n) {
					continue
				}
				probe, leaves := h.probe(n)
				x := Finding{
					Severity: Broken, Weight: 750,
					Title: fmt.Sprintf("the host has no route to %s of zone %s", n, z.Name),
					Evidence: []string{fmt.Sprintf("route: none to %s", probe),
						fmt.Sprintf("policy %s: %s is a network of zone %s, on %s", z.Place, n, z.Name, names(links))},
					Mend: []string{fmt.Sprintf("# if a router leads there: ip %sroute add %s via ROUTER dev %s", dash6(f), n, links[0].Name),
						fmt.Sprintf("# if it is on the link itself: ip address add ADDRESS/LENGTH dev %s; else take it out of the zone", links[0].Name)},
				}
				if len(leaves) > 0 {
					x.Title = fmt.Sprintf("the host sends what is for %s of zone %s out by %s", n, z.Name, leaves[0])
					x.Evidence[0] = fmt.Sprintf("route: %s leaves by %s", probe, strings.Join(leaves, ", "))
				}
				if slices.ContainsFunc(links, func(l link.Link) bool { return len(global(l, f)) > 0 }) &&
					slices.ContainsFunc(h.networks(z, f), func(o policy.Address) bool { return o != n && h.reaches(links, o) }) {
					x.Severity = Risk // other networks of the zone are there
					if wide(n) {
						x.Severity = Note
					}
				}
				out = append(out, x)
			}
		}
	}
	return out
}

// able says whether nothing but a route is missing for a link to lead anywhere.
func (h *Host) able(l link.Link, f link.Family) bool {
	off := f == link.IPv6 && (h.lacksIPv6() || h.Sysctls["net/ipv6/conf/"+l.Name+"/disable_ipv6"] == "1")
	return l.Up && l.Carrier && l.Master == "" && !off && len(global(l, link.IPv4))+len(global(l, link.IPv6)) > 0
}

// wide says whether a network is one of which people name the whole and use a
// part, as 10.0.0.0/8.
func wide(n policy.Address) bool {
	bits := 16
	if n.Low.Is6() {
		bits = 48
	}
	p, err := n.Low.Prefix(bits)
	return err == nil && n.Low == p.Addr() && n.High.Compare(policy.LastOf(p)) >= 0
}

func names(links []link.Link) string {
	var out []string
	for _, l := range links {
		out = append(out, l.Name)
	}
	return strings.Join(out, ", ")
}

// reaches says whether any part of a network is on links, or is sent there. A
// zone may name more than there is.
func (h *Host) reaches(links []link.Link, n policy.Address) bool {
	on := func(name string) bool {
		return slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == name })
	}
	for _, l := range links {
		if slices.ContainsFunc(l.Addresses, func(a link.Address) bool {
			return a.Prefix.Addr().Is4() == n.Low.Is4() && meets(n, a)
		}) {
			return true
		}
	}
	for _, r := range h.facts().Connected {
		if r.To.Addr().Is4() == n.Low.Is4() && on(r.Interface) && n.Low.Compare(policy.LastOf(r.To)) <= 0 && n.High.Compare(r.To.Addr()) >= 0 {
			return true
		}
	}
	for _, a := range samples(n) {
		if slices.ContainsFunc(h.Routes.Leaves(a), on) {
			return true
		}
	}
	return false
}

// probe is an address of a network, and where the host sends it.
func (h *Host) probe(n policy.Address) (netip.Addr, []string) {
	for _, a := range samples(n) {
		if leaves := h.Routes.Leaves(a); len(leaves) > 0 {
			return a, leaves
		}
	}
	return samples(n)[0], nil
}

// samples are addresses of a network that hosts may have.
func samples(n policy.Address) []netip.Addr {
	out := []netip.Addr{n.Low, n.High}
	for a, i := n.Low, 0; i < 3 && a.Less(n.High); i++ {
		a = a.Next()
		out = slices.Insert(out, 0, a)
	}
	return out
}
