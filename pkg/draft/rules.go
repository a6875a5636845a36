package draft

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// forward says what passes besides what entries open.
func (w *writer) forward() {
	w.blank()
	w.comment(0, "What nothing opens does not pass: not from outside, and not from one zone to another.")
	w.line("forward:")
	w.line("  default: drop")
	rules := w.rules()
	refuse, open := w.examples()
	if len(rules) == 0 {
		w.choice("  rules:")
	} else {
		w.line("  rules:")
	}
	w.example(refuse)
	for _, r := range rules {
		w.comment(4, "%s", r.why)
		w.line("    - {%s}", r.text)
	}
	for _, r := range open {
		w.example(r)
	}
}

func (w *writer) example(r rule) {
	w.comment(4, "%s", r.why)
	w.choice("    - {%s}", r.text)
}

type rule struct{ why, text string }

// rules are those without which an apply would stop what works now.
func (w *writer) rules() []rule {
	var all []rule
	var docker []netip.Prefix
	for _, x := range w.alone {
		if x.docker {
			docker = append(docker, x.networks...)
		}
	}
	if len(docker) > 0 && len(w.uplinks) > 0 {
		all = append(all, rule{
			"Ports that containers publish: what goes to them is left to their engine's own rules, which come as well. Add networks that are new.",
			"name: containers, destinations: " + list(prefixes(docker)) + ", action: accept",
		})
	}
	for _, x := range slices.Concat(w.uplinks, w.insides) {
		if x.Kind == "bridge" && !w.oneArm {
			all = append(all, rule{
				"Hosts on the bridge " + x.Name + " reach each other, also where the kernel shows bridged packets to these rules (br_netfilter).",
				"name: " + fitted(x.zone, "-bridge") + ", from: " + x.zone + ", to: " + x.zone + ", action: accept",
			})
		}
	}
	if from := w.having(w.insides, isGlobal6); len(from) > 0 && w.leads6() != nil {
		all = append(all, rule{
			"IPv6 goes out as it is.",
			"name: ipv6-out, family: ipv6, from: " + list(zoneNames(from)) + ", to: " + list(zoneNames(w.leads6())) +
				", except_sources: \"fc00::/7\", action: accept",
		})
	}
	if from := w.having(w.insides, isGlobal4); len(from) > 0 && len(w.uplinks) > 0 && !w.oneArm {
		var public []netip.Prefix
		for _, x := range from {
			public = append(public, slices.DeleteFunc(slices.Clone(x.networks), func(p netip.Prefix) bool { return !isGlobal4(p) })...)
		}
		all = append(all, rule{
			"Public addresses go out as they are.",
			"name: public-out, from: " + list(zoneNames(from)) + ", to: " + list(w.wans()) + ", sources: " + list(prefixes(public)) + ", action: accept",
		})
	}
	return all
}

// fitted makes a name that is short enough.
func fitted(zone, suffix string) string { return zone[:min(len(zone), 63-len(suffix))] + suffix }

func (w *writer) having(sites []*site, is func(netip.Prefix) bool) []*site {
	return slices.DeleteFunc(slices.Clone(sites), func(x *site) bool { return !slices.ContainsFunc(x.networks, is) })
}

// leads6 are the uplinks with an IPv6 default route.
func (w *writer) leads6() []*site {
	return slices.DeleteFunc(slices.Clone(w.uplinks), func(x *site) bool { return !x.leads(link.IPv6) })
}

// examples are rules that this host may have a use for. What refuses comes
// first: the first rule that matches decides.
func (w *writer) examples() (refuse rule, all []rule) {
	from := "lan"
	if names := zoneNames(w.insides); len(names) > 0 {
		from = list(names)
	}
	refuse = rule{"The first rule that matches decides. An infected machine must not send spam:",
		"name: no-smtp, from: " + from + ", to: " + list(w.wans()) + ", protocol: tcp, ports: 25, action: reject"}
	if len(w.insides) > 1 {
		a, b := w.insides[0], w.insides[1]
		all = append(all, rule{"One inside network reaches another.",
			"name: " + fitted(a.zone, "-within") + ", from: " + a.zone + ", to: " + b.zone + ", action: accept"})
	}
	for _, x := range w.having(w.insides, isGlobal6) {
		all = append(all, rule{"A service of an inside host at its own IPv6 address; write the host's `destinations`.",
			"name: ipv6-in, family: ipv6, from: " + list(w.wans()) + ", to: " + x.zone + ", protocol: tcp, ports: 443, action: accept"})
		break
	}
	return refuse, all
}

// input is left out: no draft may close a host to whoever applies it.
func (w *writer) input() {
	w.blank()
	ssh, zones := "22", w.wans()
	if len(w.insides) > 0 {
		zones = []string{w.insides[0].zone}
	}
	w.comment(0, "The host's own ports are not touched: without `input` they are as open as they were.")
	if s := w.Session; s != nil {
		ssh = addrPort(s)
		zone := w.zoneOf(s.Client.Addr())
		if zone != "" && !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
		if zone != "" {
			w.comment(0, "To close them, begin with this, which keeps connections like yours from %s possible:", s.Client.Addr())
		} else {
			w.comment(0, "To close them, begin with this:")
		}
	} else {
		w.comment(0, "To close them, begin with this:")
	}
	inside := "lan"
	if len(w.insides) > 0 {
		inside = w.insides[0].zone
	}
	w.choice("input:")
	w.choice("  default: drop")
	w.choice("  rules:")
	w.choice("    - {name: ssh, from: %s, protocol: tcp, ports: %s, action: accept}", list(zones), ssh)
	w.choice("    - {name: dns, from: %s, protocol: [tcp, udp], ports: 53, action: accept}", inside)
	w.choice("    - {name: dhcp, from: %s, protocol: udp, ports: [67, 547], action: accept}", inside)
	w.choice("    - {name: ping, icmp_types: echo-request, action: accept, rate: 10/second}")
}

func addrPort(s *Session) string {
	return strconv.Itoa(int(s.Server.Port()))
}

// zoneOf finds the zone that a client's packets come from: that of its network,
// else the first uplink.
func (w *writer) zoneOf(client netip.Addr) string {
	best, bits := "", -1
	for _, x := range slices.Concat(w.insides, w.uplinks) {
		for _, p := range x.networks {
			if p.Contains(client.WithZone("")) && p.Bits() > bits {
				best, bits = x.zone, p.Bits()
			}
		}
	}
	if best == "" && client.Zone() != "" {
		for _, x := range slices.Concat(w.insides, w.uplinks) {
			if x.Name == client.Zone() {
				return x.zone
			}
		}
	}
	for _, x := range w.alone {
		if slices.ContainsFunc(x.networks, func(p netip.Prefix) bool { return p.Contains(client.WithZone("")) }) {
			return "" // it comes from no zone
		}
	}
	if best == "" && len(w.uplinks) > 0 {
		return w.uplinks[0].zone
	}
	return best
}
