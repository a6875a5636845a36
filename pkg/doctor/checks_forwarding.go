package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// families are both.
func families() []link.Family { return []link.Family{link.IPv4, link.IPv6} }

// forwards says whether the policy needs the host to forward a family.
func (h *Host) forwards(f link.Family) bool {
	if h.Compiled == nil {
		return false
	}
	return f == link.IPv4 && h.Compiled.IPv4 || f == link.IPv6 && h.Compiled.IPv6
}

// forwardingSwitch is the sysctl that turns a family on for all links.
func forwardingSwitch(f link.Family) string {
	if f == link.IPv6 {
		return "net/ipv6/conf/all/forwarding"
	}
	return "net/ipv4/ip_forward"
}

// forwardingOff is about a host that forwards a family nowhere. Apply turns it
// on, so a policy that is not in force yet does not miss it.
func forwardingOff(h *Host) (out []Finding) {
	if h.Given {
		return nil
	}
	for _, f := range families() {
		name := forwardingSwitch(f)
		on, _ := h.forwardingLinks()
		if !h.forwards(f) || h.Sysctls[name] != "0" || f == link.IPv4 && len(on) > 0 {
			continue
		}
		weight := 900
		if f == link.IPv6 {
			weight--
		}
		out = append(out, Finding{
			Severity: Broken, Weight: weight,
			Title:    fmt.Sprintf("the host forwards no %s, and the policy needs it to", f),
			Evidence: []string{h.sysctl(name)},
			Mend:     append(h.applyAgain("sysctl -w "+dotted(name)+"=1"), h.keeps(name)...),
		})
	}
	return out
}

// forwardingLinks tells the links of zones that forward IPv4 from those that do
// not: the kernel asks the link alone by which a packet arrives
// (ip_route_input_slow), whatever net.ipv4.ip_forward says.
func (h *Host) forwardingLinks() (on, off []string) {
	for _, l := range h.zoneLinks() {
		switch h.Sysctls["net/ipv4/conf/"+l.Name+"/forwarding"] {
		case "1":
			on = append(on, l.Name)
		case "0":
			off = append(off, l.Name)
		}
	}
	return on, off
}

// forwardingOffOnLinks is about links that do not forward while others do.
func forwardingOffOnLinks(h *Host) (out []Finding) {
	on, off := h.forwardingLinks()
	if !h.forwards(link.IPv4) || len(off) == 0 || len(on) == 0 && (h.Given || h.Sysctls["net/ipv4/ip_forward"] != "1") {
		return nil
	}
	for _, name := range off {
		key := "net/ipv4/conf/" + name + "/forwarding"
		out = append(out, Finding{
			Severity: Broken, Weight: 890,
			Title:    fmt.Sprintf("the host forwards no IPv4 that arrives by %s, though it does by others", name),
			Evidence: []string{h.sysctl(key), h.sysctl("net/ipv4/ip_forward")},
			Mend:     append([]string{"sysctl -w " + dotted(key) + "=1"}, h.keeps(key)...),
		})
	}
	return out
}

// hostLinks is about links that forward IPv6 and are no router's: neighbours are
// told so in advertisements, and hosts that took the gateway for their router
// give it up (RFC 4861 7.2.5). Packets themselves pass.
func hostLinks(h *Host) (out []Finding) {
	if !h.forwards(link.IPv6) || h.Sysctls[forwardingSwitch(link.IPv6)] != "1" {
		return nil
	}
	uplinks := h.uplinkLinks()
	for _, l := range h.zoneLinks() {
		key := "net/ipv6/conf/" + l.Name + "/forwarding"
		if h.Sysctls[key] != "0" || slices.ContainsFunc(uplinks, func(u link.Link) bool { return u.Name == l.Name }) {
			continue
		}
		out = append(out, Finding{
			Severity: Risk, Weight: 400,
			Title:    fmt.Sprintf("hosts on %s are told that the gateway is no IPv6 router", l.Name),
			Evidence: []string{h.sysctl(key), h.sysctl(forwardingSwitch(link.IPv6))},
			Mend:     append([]string{"sysctl -w " + dotted(key) + "=1"}, h.keeps(key)...),
		})
	}
	return out
}

// ipv6Disabled is about links of zones that have IPv6 networks, and about a kernel
// that has no IPv6 at all.
func ipv6Disabled(h *Host) (out []Finding) {
	if h.Policy == nil || !h.forwards(link.IPv6) {
		return nil
	}
	none := h.lacksIPv6()
	for i := range h.Policy.Zones {
		z := &h.Policy.Zones[i]
		has := h.networks(z, link.IPv6)
		if len(has) == 0 {
			continue
		}
		named := fmt.Sprintf("policy %s: zone %s has %s", z.Place, z.Name, joined(has))
		if none {
			return []Finding{{
				Severity: Broken, Weight: 880,
				Title:    fmt.Sprintf("the kernel has no IPv6, and zone %s has IPv6 networks", z.Name),
				Evidence: []string{"sysctl net.ipv6.conf.all.forwarding: not there", named},
				Mend:     []string{"# boot without ipv6.disable=1; or have the policy say that there is none: gateway: {forwarding: {ipv6: false}}"},
			}}
		}
		for _, l := range h.linksOf(z) {
			key := "net/ipv6/conf/" + l.Name + "/disable_ipv6"
			if h.Sysctls[key] == "1" {
				out = append(out, Finding{
					Severity: Broken, Weight: 880,
					Title:    fmt.Sprintf("IPv6 is turned off on %s, and zone %s has IPv6 networks there", l.Name, z.Name),
					Evidence: []string{h.sysctl(key), named},
					Mend:     append([]string{"sysctl -w " + dotted(key) + "=0", "# the link's addresses come back with its configuration"}, h.keeps(key)...),
				})
			}
		}
	}
	return out
}

// lacksIPv6 says whether the kernel has sysctls of IPv4 alone.
func (h *Host) lacksIPv6() bool {
	_, v4 := h.Sysctls["net/ipv4/conf/all/forwarding"]
	_, v6 := h.Sysctls["net/ipv6/conf/all/forwarding"]
	return v4 && !v6
}

// bridgedFiltered is about bridges whose own traffic br_netfilter shows to rules
// that do not let it pass.
func bridgedFiltered(h *Host) (out []Finding) {
	var keys []string
	for _, f := range []string{"iptables", "ip6tables"} {
		if name := "net/bridge/bridge-nf-call-" + f; h.Sysctls[name] == "1" {
			keys = append(keys, name)
		}
	}
	if h.Policy == nil || len(keys) == 0 {
		return nil
	}
	for _, b := range engine.Bridges(h.Policy, h.facts()) {
		ports := h.ports(b.Name)
		if len(ports) < 2 {
			continue // nothing stays on it
		}
		f := Finding{
			Severity: Broken, Weight: 700,
			Title:    fmt.Sprintf("what stays on the bridge %s meets the rules, and none lets it pass: its hosts do not reach each other", b.Name),
			Evidence: []string{fmt.Sprintf("link: %s has the ports %s", b.Name, strings.Join(ports, ", ")), fmt.Sprintf("policy: no forward rule accepts from %s to %s", b.Zone, b.Zone)},
		}
		for _, k := range keys {
			f.Evidence = append(f.Evidence, h.sysctl(k))
			f.Mend = append(append(f.Mend, "sysctl -w "+dotted(k)+"=0"), h.keeps(k)...)
		}
		f.Mend = append(f.Mend, fmt.Sprintf("# or, where others need br_netfilter, add the forward rule {from: %s, to: %s, action: accept}", b.Zone, b.Zone))
		out = append(out, f)
	}
	return out
}
