package draft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// site is one interface that becomes a zone.
type site struct {
	link.Link
	zone     string
	networks []netip.Prefix // of an inside: its hosts
	routes   []link.DefaultRoute
	// symmetric: answers have to be led back to this uplink, and can be, over
	// hop. noHop: in some family no next hop is known; lost: where it is needed.
	symmetric, noHop, lost bool
	hop                    netip.Addr
	tunnel                 bool // a VPN, or a line that takes less than 1500 bytes
}

// alone is an interface that a draft does not touch, and why.
type alone struct {
	name, why string
	networks  []netip.Prefix
	docker    bool
}

// surveyed is a host as a draft sees it.
type surveyed struct {
	Host
	uplinks, insides []*site
	alone            []alone
	oneArm           bool // uplink and inside are one interface
	guessed          bool // no default route tells which the uplink is
	hints            []string
}

func (s *surveyed) hint(format string, args ...any) {
	s.hints = append(s.hints, fmt.Sprintf(format, args...))
}

func survey(h Host) (*surveyed, error) {
	s := &surveyed{Host: h}
	var free []*site
	seen := false
	for _, l := range h.Links {
		if l.Name == "lo" {
			continue
		}
		seen = true
		if why, docker := s.left(l); why != "" {
			if why != ignored {
				s.alone = append(s.alone, alone{l.Name, why, networksOf(h.Facts, l), docker})
			}
			continue
		}
		free = append(free, &site{Link: l, networks: networksOf(h.Facts, l), tunnel: isTunnel(l)})
	}
	if !seen {
		return nil, ErrNoLinks
	}
	s.findUplinks(free)
	for _, x := range free {
		if !slices.Contains(s.uplinks, x) && len(x.networks) > 0 {
			s.insides = append(s.insides, x)
		}
	}
	s.oneArmed()
	s.nameZones()
	s.followSymmetric()
	s.say()
	return s, nil
}

// ignored is why an interface is not even named: it carries no addresses of
// networks, or another one carries them for it.
const ignored = "-"

// left says why a draft leaves an interface alone, or gives "".
func (s *surveyed) left(l link.Link) (why string, docker bool) {
	hex := func(text string, length int) bool {
		return len(text) == length && strings.Trim(text, "0123456789abcdef") == ""
	}
	begins := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l.Name, p) })
	}
	rest, isBridge := strings.CutPrefix(l.Name, "br-")
	switch {
	case l.Name == "docker0", l.Name == "docker_gwbridge", isBridge && hex(rest, 12):
		return "Docker", true
	case begins("podman", "cni-podman", "nerdctl"):
		return "a container engine", true
	case begins("cali", "cni", "flannel", "kube-", "cilium_", "weave", "vxlan.calico", "nodelocaldns"):
		return "Kubernetes", false
	case begins("tailscale"):
		return "Tailscale", false
	case strings.HasSuffix(l.Name, "+"), strings.HasSuffix(l.Name, "*"), strings.ContainsAny(l.Name, "/:") || !utf8.ValidString(l.Name):
		return "a name that a policy cannot hold", false
	case l.Kind == "dummy", l.Kind == "ifb", l.Kind == "vrf":
		return ignored, false
	}
	if master, ok := s.Link(l.Master); ok {
		if master.Kind == "vrf" {
			return "a VRF, whose routes are its own", false
		}
		return ignored, false // a port: its bridge or bond has the addresses
	}
	return "", false
}

// networksOf are the networks that a link leads to directly, widest first,
// IPv4 before IPv6, none within another.
func networksOf(f link.Facts, l link.Link) []netip.Prefix {
	var all []netip.Prefix
	add := func(p netip.Prefix) {
		a := p.Addr()
		if p.IsSingleIP() || p.Bits() == 0 || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsLoopback() {
			return
		}
		all = append(all, p.Masked())
	}
	for _, a := range l.Addresses {
		add(a.Prefix)
	}
	for _, r := range f.Connected {
		if r.Interface == l.Name && !r.Gateway.IsValid() {
			add(r.To)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		switch {
		case a.Addr().Is4() != b.Addr().Is4():
			return b2i(b.Addr().Is4()) - b2i(a.Addr().Is4())
		case a.Bits() != b.Bits():
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range all {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Contains(p.Addr()) }) {
			out = append(out, p)
		}
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func isTunnel(l link.Link) bool {
	switch l.Kind {
	case "wireguard", "tun", "ipip", "gre", "sit", "ip6tnl", "vti", "xfrm", "ppp", "amneziawg":
		return true
	}
	return l.PointToPoint || strings.HasPrefix(l.Name, "ppp")
}

// isPrivate is true for what the internet does not route: RFC 1918, RFC 6598,
// RFC 4193.
func isPrivate(p netip.Prefix) bool {
	return p.Addr().IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(p.Addr())
}

// nameZones gives each zone a name of its own.
func (s *surveyed) nameZones() {
	taken := map[string]bool{"any": true, "gateway": true, "": true}
	name := func(x *site, first string) {
		fit := strings.Trim(strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
				return r
			case r >= 'A' && r <= 'Z':
				return r - 'A' + 'a'
			}
			return '-'
		}, x.Name), "-")
		for i := 2; taken[first]; i++ {
			if first = fit; taken[first] {
				first = fmt.Sprintf("%s-%d", fit, i)
			}
			if fit == "" {
				fit = "zone"
			}
		}
		taken[first] = true
		x.zone = first
	}
	for i, x := range s.uplinks {
		if i == 0 {
			name(x, "wan")
			continue
		}
		name(x, fmt.Sprintf("wan%d", i+1))
	}
	for _, x := range s.insides {
		switch {
		case x.tunnel:
			name(x, "vpn")
		case slices.ContainsFunc([]string{"virbr", "vmbr", "lxdbr", "lxcbr", "incusbr"}, func(p string) bool { return strings.HasPrefix(x.Name, p) }):
			name(x, "vms")
		default:
			name(x, "lan")
		}
	}
}

// say notes what nobody must miss.
func (s *surveyed) say() {
	switch {
	case len(s.uplinks) == 0:
		s.hint("no default route tells which interface is the uplink: all but the version is commented out; choose the uplink, and take the # away")
	case s.guessed:
		s.hint("no default route tells which interface is the uplink: %s is a guess", s.uplinks[0].Name)
	}
	switch {
	case s.oneArm:
		s.hint("there is one interface, %s: hosts of its network send through this host if their default route leads here; in a cloud, turn off its check of source and destination for this host",
			s.uplinks[0].Name)
	case len(s.insides) == 0 && len(s.uplinks) > 0:
		s.hint("no network is behind this host: the policy translates nothing until a zone for the inside is written")
	}
	for _, x := range s.insides {
		if len(s.uplinks) > 0 && slices.ContainsFunc(x.networks, func(p netip.Prefix) bool { return p.Addr().Is4() && !isPrivate(p) }) {
			s.hint("hosts behind %s have public addresses: they are not translated, and nothing reaches them from outside until a rule lets it in", x.Name)
		}
	}
	for _, x := range s.uplinks {
		if x.lost && !x.symmetric {
			s.hint("no route tells the next hop of %s: what comes in there is answered by another uplink until `symmetric` has one", x.Name)
		}
	}
}
