package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// hairpinned is a policy with one port forward, from the outside to 8080 of
// lan1, with a masquerade as most have it.
func (f family) hairpinned(more string) string {
	return zones + "masquerade: [{from: [lan, dmz], to: wan}]\n" +
		f.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: [80, 90-95], to: \"$lan1:8080\""+more+"}\n")
}

// Inside hosts, and the gateway, reach a service at the outside address. Only
// where the target would answer past the gateway does it see the gateway.
func TestHairpin(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, ip.hairpinned(""))
		for _, proto := range []string{"tcp", "udp"} {
			for _, port := range []int{80, 90, 93} {
				remote, target := at(ip.uplink, port), at(ip.lan1, 8080)
				lands(t, proto, topo.LAN2, remote, target, ip.gwLAN)
				lands(t, proto, topo.LAN1, remote, target, ip.gwLAN) // the target itself
				lands(t, proto, topo.DMZ, remote, target, "")
				lands(t, proto, topo.GW, remote, target, "")
				lands(t, proto, topo.Neighbor, remote, target, "")
			}
		}
		// A network that no zone has is not our business.
		fails(t, topo.Guest, at(ip.uplink, 80), lab.IsRefused)

		g.apply(t, ip.hairpinned(", hairpin: false"))
		for _, h := range []*lab.Host{topo.LAN1, topo.LAN2, topo.DMZ, topo.GW} {
			fails(t, h, at(ip.uplink, 80), lab.IsRefused)
			failsUDP(t, h, at(ip.uplink, 93), lab.IsRefused)
		}
		lands(t, "tcp", topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 8080), "")

		g.apply(t, ip.hairpinned(", hairpin: {zones: [lan]}"))
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN2, at(ip.uplink, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 8080), "")
		}
		for _, h := range []*lab.Host{topo.DMZ, topo.GW} {
			fails(t, h, at(ip.uplink, 80), lab.IsRefused)
			failsUDP(t, h, at(ip.uplink, 80), lab.IsRefused)
		}
	})
	g.delete(t)
}

// The target may see the outside address instead of the gateway's inside one.
func TestHairpinSourceOutside(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	second := map[string]string{"IPv4": "203.0.113.5", "IPv6": "2001:db8:113::5"}
	topo.GW.Addr("eth0", second["IPv4"]+"/24", second["IPv6"]+"/64")
	each(t, func(t *testing.T, ip family) {
		for _, policy := range []string{
			ip.hairpinned(", hairpin: {source: outside}"),
			ip.hairpinned(", hairpin: {source: outside, zones: [lan, dmz]}"),
		} {
			g.apply(t, policy)
			for _, proto := range []string{"tcp", "udp"} {
				for _, outside := range []string{ip.uplink, second[ip.name]} {
					lands(t, proto, topo.LAN2, at(outside, 80), at(ip.lan1, 8080), outside)
					lands(t, proto, topo.LAN2, at(outside, 92), at(ip.lan1, 8080), outside)
					lands(t, proto, topo.DMZ, at(outside, 80), at(ip.lan1, 8080), "") // none is needed
					lands(t, proto, topo.Neighbor, at(outside, 80), at(ip.lan1, 8080), "")
				}
			}
		}
		lands(t, "tcp", topo.LAN2, at(ip.uplink, 80), at(ip.lan1, 8080), ip.uplink)
	})
	g.delete(t)
}

// The gateway's own pages at its inside addresses stay where they are, and
// what goes straight to the target is not touched.
func TestHairpinLeavesInsideAddresses(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.GW, 80)
	listens(topo.LAN1, 80, 8080)
	listens(topo.DMZ, 80)
	each(t, func(t *testing.T, ip family) {
		pages := func(t *testing.T) {
			t.Helper()
			for _, proto := range []string{"tcp", "udp"} {
				for _, h := range []*lab.Host{topo.LAN2, topo.DMZ, topo.GW} {
					lands(t, proto, h, at(ip.gwLAN, 80), at(ip.gwLAN, 80), "")
					lands(t, proto, h, at(ip.gwDMZ, 80), at(ip.gwDMZ, 80), "")
				}
			}
		}
		open := "forward: {rules: [{from: [lan, dmz], to: [lan, dmz], action: accept}]}\n"
		g.apply(t, ip.hairpinned("")+open)
		pages(t)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN2, at(ip.uplink, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, topo.DMZ, at(ip.lan1, 8080), at(ip.lan1, 8080), "")
			lands(t, proto, topo.DMZ, at(ip.lan1, 80), at(ip.lan1, 80), "")
			lands(t, proto, topo.LAN2, at(ip.dmz, 80), at(ip.dmz, 80), "")
			lands(t, proto, topo.GW, at(ip.lan1, 80), at(ip.lan1, 80), "")
		}
		loopback := map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()]
		lands(t, "tcp", topo.GW, at(loopback, 80), at(loopback, 80), "")

		// Whichever zones may use it, the addresses of the inside are not meant.
		g.apply(t, ip.hairpinned(", hairpin: {zones: [lan]}")+open)
		pages(t)
		g.apply(t, ip.hairpinned(", hairpin: {zones: [dmz]}")+open)
		pages(t)
		lands(t, "tcp", topo.DMZ, at(ip.uplink, 80), at(ip.lan1, 8080), "")
		lands(t, "tcp", topo.LAN2, at(ip.uplink, 80), at(ip.uplink, 80), "") // the gateway's own page
	})
	g.delete(t)
}

// The same, where the zones are told by their networks alone, and where a part
// of the uplink's network is a zone of its own.
func TestHairpinZonesWithoutInterfaces(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.GW, 80)
	listens(topo.LAN1, 8080)
	each(t, func(t *testing.T, ip family) {
		web := ip.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: 80, to: \"$lan1:8080\"}\n")
		g.apply(t, `
zones:
  lan: {networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {networks: [203.0.113.0/24, 198.51.100.0/24, "2001:db8:113::/64", "2001:db8:100::/64"]}
`+web)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.LAN2, at(ip.uplink, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, topo.DMZ, at(ip.uplink, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.LAN2, at(ip.gwLAN, 80), at(ip.gwLAN, 80), "")
			lands(t, proto, topo.DMZ, at(ip.gwLAN, 80), at(ip.gwLAN, 80), "")
			lands(t, proto, topo.LAN2, at(ip.gwDMZ, 80), at(ip.gwDMZ, 80), "")
		}
		// A partner on the uplink's network does not make the uplink's address
		// one of the inside.
		g.apply(t, zones+"  partner: {interfaces: [eth0], networks: [203.0.113.1, \"2001:db8:113::1\"]}\n"+web)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.LAN2, at(ip.uplink, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, topo.DMZ, at(ip.uplink, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.GW, at(ip.uplink, 80), at(ip.lan1, 8080), "")
		}
	})
	g.delete(t)
}

// Hairpin goes by the address that the uplink has now.
func TestHairpinFollowsUplink(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, ip.hairpinned(""))
		before, after := ip.uplink+"/24", "203.0.113.99"
		suffix, gateway := "/24", ip.isp
		if ip.v6() {
			before, after, suffix = ip.uplink+"/64", "2001:db8:113::99", "/64"
		}
		rules := g.ruleset(t)
		topo.GW.DelAddr("eth0", before)
		topo.GW.Addr("eth0", after+suffix)
		topo.GW.Route("default", gateway)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN2, at(after, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, topo.DMZ, at(after, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.GW, at(after, 80), at(ip.lan1, 8080), "")
			lands(t, proto, topo.Neighbor, at(after, 80), at(ip.lan1, 8080), "")
		}
		// The old one is somewhere outside now.
		fails(t, topo.LAN2, at(ip.uplink, 80), func(err error) bool { return lab.IsTimeout(err) || lab.IsUnreachable(err) })
		if now := g.ruleset(t); now != rules {
			t.Errorf("the rules changed\n%s", difference(rules, now))
		}
		topo.GW.DelAddr("eth0", after+suffix)
		topo.GW.Addr("eth0", before)
		topo.GW.Route("default", gateway)
	})
	g.delete(t)
}

// Two networks of one zone are two networks: between them, the target sees who
// it is. The zone is told by a wildcard, or by networks alone.
func TestHairpinWithinZone(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{LAN: "br-a", DMZ: "br-b"}))
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	each(t, func(t *testing.T, ip family) {
		for _, inside := range []string{
			`{interfaces: ["br-*"]}`,
			`{interfaces: [br-a, br-b]}`,
			`{networks: [192.168.1.0/24, 192.168.2.0/24, "fd00:1::/64", "fd00:2::/64"]}`,
		} {
			wan := `{interfaces: [eth0], networks: [203.0.113.0/24, "2001:db8:113::/64"]}`
			g.apply(t, "zones:\n  wan: "+wan+"\n  inside: "+inside+"\n"+ip.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: [80, 90-95], to: \"$lan1:8080\"}\n"))
			for _, proto := range []string{"tcp", "udp"} {
				for _, port := range []int{80, 93} {
					lands(t, proto, topo.LAN2, at(ip.uplink, port), at(ip.lan1, 8080), ip.gwLAN)
					lands(t, proto, topo.DMZ, at(ip.uplink, port), at(ip.lan1, 8080), "")
					lands(t, proto, topo.Neighbor, at(ip.uplink, port), at(ip.lan1, 8080), "")
				}
			}
		}
	})
	g.delete(t)
}

// An interface of a wildcard that comes after the apply works as the others do.
func TestHairpinNewInterface(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{LAN: "br-a", DMZ: "br-b"}))
	g := untouched(t, topo)
	target, client := topo.Host("target"), topo.Host("client")
	policy := `
zones:
  wan: {interfaces: eth0}
  inside: {interfaces: ["br-*"]}
port_forward:
  - {name: web4, from: wan, protocol: [tcp, udp], ports: 80, to: "192.168.3.10:8080"}
  - {name: web6, from: wan, protocol: [tcp, udp], ports: 80, to: "[fd00:3::10]:8080"}
`
	g.apply(t, policy)
	topo.Switch("late", lab.Port{Host: topo.GW, Name: "br-c"}, lab.Port{Host: target, Name: "eth0"}, lab.Port{Host: client, Name: "eth0"})
	topo.GW.Addr("br-c", "192.168.3.1/24", "fd00:3::1/64")
	for last, h := range map[string]*lab.Host{"10": target, "11": client} {
		h.Addr("eth0", "192.168.3."+last+"/24", "fd00:3::"+last+"/64")
		h.Route("default", "192.168.3.1")
		h.Route("default", "fd00:3::1")
	}
	listens(target, 8080)
	check := func(t *testing.T) {
		t.Helper()
		each(t, func(t *testing.T, ip family) {
			service, gateway := at("192.168.3.10", 8080), "192.168.3.1"
			if ip.v6() {
				service, gateway = at("fd00:3::10", 8080), "fd00:3::1"
			}
			for _, proto := range []string{"tcp", "udp"} {
				lands(t, proto, client, at(ip.uplink, 80), service, gateway)
				lands(t, proto, topo.LAN1, at(ip.uplink, 80), service, "")
				lands(t, proto, topo.Neighbor, at(ip.uplink, 80), service, "")
			}
		})
	}
	check(t)
	g.apply(t, policy)
	check(t)
	g.ipmasq(t, 0, "delete") // the new interface brought settings of its own
}
