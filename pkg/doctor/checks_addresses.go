package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// noAddress is about links that are up and cannot be spoken to: an uplink has no
// address to translate to, or the inside none to reach the gateway by.
func noAddress(h *Host) (out []Finding) {
	uplinks := h.uplinkLinks()
	for _, l := range uplinks {
		if !l.Up || l.Master != "" {
			continue
		}
		for _, f := range families() {
			if !h.needsUplink(f) || len(global(l, f)) > 0 {
				continue
			}
			x := Finding{
				Severity: Broken, Weight: 800,
				Title:    fmt.Sprintf("the uplink %s has no %s address", l.Name, f),
				Evidence: []string{fmt.Sprintf("link: %s holds %s", l.Name, addressesOf(l))},
				Mend: []string{"# see why its configuration gave it none: networkctl status " + l.Name + ", nmcli device show " + l.Name + ", or the log of the DHCP client or pppd",
					"# or by hand: ip address add ADDRESS/LENGTH dev " + l.Name},
			}
			switch {
			case f == link.IPv6 && len(global(l, link.IPv4)) > 0:
				// Many providers have none. What the inside tries by public addresses of its
				// own fails then; unique local ones it does not try (RFC 6724).
				x.Severity, x.Weight = Risk, 515
				if !h.insidePublic() {
					x.Severity = Note
				}
				x.Mend = append(x.Mend, "# or, if the provider has no IPv6, give the inside none either")
			case h.replaced(l):
				x.Severity = Risk
			}
			out = append(out, x)
		}
	}
	for _, z := range h.insideZones() {
		for _, l := range h.linksOf(z) {
			if !l.Up || !l.Carrier || l.Master != "" || len(global(l, link.IPv4))+len(global(l, link.IPv6)) > 0 || l.PointToPoint {
				continue
			}
			out = append(out, Finding{
				Severity: Broken, Weight: 790,
				Title:    fmt.Sprintf("the link %s of zone %s has no address: its hosts cannot reach the gateway", l.Name, z.Name),
				Evidence: []string{fmt.Sprintf("link: %s holds %s", l.Name, addressesOf(l))},
				Mend:     []string{"# give it the address that its hosts have as their router: ip address add ADDRESS/LENGTH dev " + l.Name},
			})
		}
	}
	return out
}

// insidePublic says whether the inside has IPv6 addresses that are not unique
// local.
func (h *Host) insidePublic() bool {
	return slices.ContainsFunc(h.linksOfAll(h.insideZones()), func(l link.Link) bool {
		return slices.ContainsFunc(global(l, link.IPv6), func(a link.Address) bool { return !a.Prefix.Addr().IsPrivate() })
	})
}

func addressesOf(l link.Link) string {
	if len(l.Addresses) == 0 {
		return "no address"
	}
	var names []string
	for _, a := range l.Addresses {
		names = append(names, a.Prefix.String())
	}
	return strings.Join(names, ", ")
}

// duplicate is about addresses that somebody else has: the kernel does not use
// them.
func duplicate(h *Host) (out []Finding) {
	for _, l := range h.zoneLinks() {
		for _, a := range l.Addresses {
			if !a.Duplicate {
				continue
			}
			out = append(out, Finding{
				Severity: Broken, Weight: 805,
				Title:    fmt.Sprintf("somebody else on %s has the address %s, and the kernel does not use it", l.Name, a.Prefix.Addr()),
				Evidence: []string{fmt.Sprintf("link: %s on %s is dadfailed (ip -6 address show dev %s)", a.Prefix, l.Name, l.Name)},
				Mend:     []string{fmt.Sprintf("# take it from the other host, then: ip -6 address delete %s dev %s; ip -6 address add %s dev %s", a.Prefix, l.Name, a.Prefix, l.Name)},
			})
		}
	}
	return out
}

// notHeld is about outside addresses that the host does not hold.
func notHeld(h *Host) (out []Finding) {
	if h.Compiled == nil {
		return nil
	}
	for _, u := range h.Compiled.NotHeld {
		f := Finding{
			Severity: Risk, Weight: 440,
			Title: fmt.Sprintf("the host does not hold %s of the %s: answers come back only if a router sends them here", strings.Join(u.Addresses, ", "), u.What),
			Evidence: []string{fmt.Sprintf("policy %s: %s in the %s", u.Place, strings.Join(u.Addresses, ", "), u.What),
				"link: no address, and no local route, is one of these"},
			Mend: slices.Clone(u.Commands),
		}
		if u.OnLink {
			f.Severity, f.Weight = Broken, 745
			f.Title = fmt.Sprintf("the host does not hold %s of the %s: nobody answers the neighbours who ask for it", strings.Join(u.Addresses, ", "), u.What)
		}
		out = append(out, f)
	}
	return out
}

// noZone is about networks on a zone's link that the zone does not name: their
// hosts are in no zone.
func noZone(h *Host) (out []Finding) {
	for _, z := range h.insideZones() {
		for _, l := range h.linksOf(z) {
			for _, f := range families() {
				named := h.networks(z, f)
				if len(z.Networks) == 0 {
					continue
				}
				for _, a := range global(l, f) {
					if a.Prefix.IsSingleIP() || slices.ContainsFunc(named, func(n policy.Address) bool { return meets(n, a) }) || h.elsewhere(z, l, a) {
						continue
					}
					x := Finding{
						Severity: Broken, Weight: 755,
						Title: fmt.Sprintf("the hosts of %s on %s are in no zone", network(a), l.Name),
						Evidence: []string{fmt.Sprintf("link: %s holds %s", l.Name, a.Prefix),
							fmt.Sprintf("policy %s: zone %s on it has %s", z.Place, z.Name, joined(z.Networks))},
						Mend: []string{fmt.Sprintf("# write %s into the networks of zone %s at %s, and apply", network(a), z.Name, z.Place)},
					}
					if len(named) == 0 || slices.ContainsFunc(global(l, f), func(o link.Address) bool {
						return slices.ContainsFunc(named, func(n policy.Address) bool { return meets(n, o) })
					}) {
						x.Severity = Note // other networks of the link, or the other family, are named: this one may be left out on purpose
					}
					out = append(out, x)
				}
			}
		}
	}
	return out
}

// elsewhere says whether the network of an address is in another zone on the
// link.
func (h *Host) elsewhere(not *policy.Zone, l link.Link, a link.Address) bool {
	for i := range h.Policy.Zones {
		z := &h.Policy.Zones[i]
		if z.Name == not.Name || !slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) }) {
			continue
		}
		f := link.IPv6
		if a.Prefix.Addr().Is4() {
			f = link.IPv4
		}
		if len(z.Networks) == 0 || slices.ContainsFunc(h.networks(z, f), func(n policy.Address) bool { return meets(n, a) }) {
			return true
		}
	}
	return false
}

// meets says whether a network of a policy has any address in common with that
// of a link.
func meets(n policy.Address, a link.Address) bool {
	p := network(a)
	return n.Low.Compare(policy.LastOf(p)) <= 0 && n.High.Compare(p.Addr()) >= 0
}
