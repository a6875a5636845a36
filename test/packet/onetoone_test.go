package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// mapped is the section with the addresses of a family filled in: $lan1, $lan2
// and $dmz, and $10 to $12 outside. More are pairs of what to replace by what.
func (f family) mapped(entries string, more ...string) string {
	addresses := []string{"$lan1", f.lan1, "$lan2", f.lan2, "$dmz", f.dmz, "$10", f.public(10), "$11", f.public(11), "$12", f.public(12)}
	return "one_to_one:\n" + strings.NewReplacer(append(more, addresses...)...).Replace(entries)
}

// An inside host has an outside address of its own, in both directions. What
// is exposed comes in, to everybody; what is not does not, whatever the default.
func TestOneToOne(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	pool(t, topo, 10, 12)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.LAN1, 22, 53, 80, 8004, 8005, 8010, 8011)
	listens(topo.LAN2, 80)
	listens(topo.DMZ, 80)
	each(t, func(t *testing.T, ip family) {
		out1, out2 := ip.public(10), ip.public(11)
		icmp := map[bool]string{false: "icmp", true: "icmpv6"}[ip.v6()]
		entries := zones + "masquerade: [{from: [lan, dmz], to: wan}]\n" + ip.mapped(`
  - {name: web, zone: wan, outside: "$10", inside: "$lan1", expose: [tcp/80, tcp/8005-8010, udp/53, ICMP]}
  - {name: quiet, zone: wan, outside: "$11", inside: "$lan2"}
`, "ICMP", icmp)
		open := func(t *testing.T) {
			t.Helper()
			for _, h := range []*lab.Host{topo.Server, topo.Neighbor, topo.DMZ, topo.GW} {
				lands(t, "tcp", h, at(out1, 80), at(ip.lan1, 80), "")
				lands(t, "tcp", h, at(out1, 8005), at(ip.lan1, 8005), "")
				lands(t, "tcp", h, at(out1, 8010), at(ip.lan1, 8010), "")
				lands(t, "udp", h, at(out1, 53), at(ip.lan1, 53), "")
				pings(t, h, out1)
			}
			// The answer would go past the gateway.
			for _, h := range []*lab.Host{topo.LAN1, topo.LAN2} {
				lands(t, "tcp", h, at(out1, 80), at(ip.lan1, 80), ip.gwLAN)
				lands(t, "udp", h, at(out1, 53), at(ip.lan1, 53), ip.gwLAN)
				pings(t, h, out1)
			}
			for _, proto := range []string{"tcp", "udp"} {
				lands(t, proto, topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), out1)
				lands(t, proto, topo.LAN2, at(ip.outside, 80), at(ip.outside, 80), out2)
				lands(t, proto, topo.DMZ, at(ip.outside, 80), at(ip.outside, 80), ip.uplink)
			}
			pings(t, topo.LAN1, ip.outside)
			pings(t, topo.LAN2, ip.outside)
		}
		shut := []string{at(out1, 22), at(out1, 8004), at(out1, 8011), at(out2, 80)}
		closed := func(t *testing.T) {
			t.Helper()
			together(
				func() { unheard(t, topo.Server, shut...) },
				func() { unheard(t, topo.DMZ, shut...) },
				func() { unheard(t, topo.LAN2, shut[:3]...) },
				func() { unheard(t, topo.LAN1, at(out2, 80)) },
				func() { fails(t, topo.Neighbor, at(out1, 53), lab.IsTimeout) },
				func() { failsUDP(t, topo.Neighbor, at(out1, 80), lab.IsTimeout) },
				func() { failsPing(t, topo.Neighbor, out2) },
			)
		}
		leaks := g.leaks(t)
		defer leaks.stop()
		g.apply(t, entries)
		before := g.entry(t, "one_to_one web").NewFlows
		open(t)
		closed(t)
		if n := g.entry(t, "one_to_one web").NewFlows - before; n < 20 {
			t.Errorf("status counts %d flows of one_to_one web", n)
		}
		together( // straight to the inside, and to a zone that the entry is not for
			func() { unheard(t, topo.Neighbor, at(ip.lan1, 80), at(ip.lan2, 80)) },
			func() { unheard(t, topo.DMZ, at(ip.lan1, 80)) },
			func() { unheard(t, topo.LAN1, at(ip.dmz, 80)) },
		)

		g.apply(t, entries+"forward: {default: accept}\n")
		open(t)
		closed(t)
		lands(t, "tcp", topo.LAN1, at(ip.dmz, 80), at(ip.dmz, 80), "")

		g.apply(t, entries+"forward: {default: reject}\n")
		open(t)
		for _, remote := range shut {
			fails(t, topo.Server, remote, lab.IsRefused)
		}
		// Rules come first.
		g.apply(t, entries+"forward: {rules: [{from: wan, to: lan, protocol: tcp, ports: 22, action: accept}, {from: any, protocol: tcp, ports: 80, action: drop}]}\n")
		lands(t, "tcp", topo.Server, at(out1, 22), at(ip.lan1, 22), "")
		fails(t, topo.Server, at(out1, 80), lab.IsTimeout)
		fails(t, topo.LAN1, at(ip.outside, 80), lab.IsTimeout)
		leaks.none(t)
	})
	g.delete(t)
}

// Prefixes keep the host bits. The outside ones are routed here, which needs no
// address on the host. An address of the gateway among the inside ones is
// exposed no more than the others are.
func TestOneToOnePrefix(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.DMZ, 80, 81)
	listens(topo.GW, 80, 81)
	for _, h := range []*lab.Host{topo.Neighbor, topo.ISP} {
		h.Route("198.18.7.0/24", lab.GatewayUplink)
		h.Route("2001:db8:777::/64", lab.GatewayUplinkv6)
	}
	each(t, func(t *testing.T, ip family) {
		public, own, entry := "198.18.7.10", "198.18.7.1", `{name: net, zone: wan, outside: 198.18.7.0/24, inside: 192.168.2.0/24, `
		if ip.v6() {
			public, own, entry = "2001:db8:777::10", "2001:db8:777::1", `{name: net, zone: wan, outside: "2001:db8:777::/64", inside: "fd00:2::/64", `
		}
		base := zones + "masquerade: [{from: [lan, dmz], to: wan}]\n"
		for _, more := range []string{"", "forward: {default: accept}\n"} {
			if said := g.apply(t, base+"one_to_one: ["+entry+"expose: tcp/80}]\n"+more); strings.Contains(said, "warning") {
				t.Errorf("a routed prefix: %s", said)
			}
			for _, h := range []*lab.Host{topo.Neighbor, topo.Server, topo.LAN1, topo.GW} {
				lands(t, "tcp", h, at(public, 80), at(ip.dmz, 80), "")
			}
			lands(t, "tcp", topo.DMZ, at(public, 80), at(ip.dmz, 80), ip.gwDMZ)
			for _, proto := range []string{"tcp", "udp"} {
				lands(t, proto, topo.DMZ, at(ip.outside, 80), at(ip.outside, 80), public)
			}
			pings(t, topo.DMZ, ip.outside)
			lands(t, "tcp", topo.Neighbor, at(own, 80), at(ip.gwDMZ, 80), "")
			lands(t, "tcp", topo.GW, at(own, 81), at(ip.gwDMZ, 81), "") // itself
			together(
				func() { unheard(t, topo.Server, at(own, 81), at(public, 81)) },
				func() { failsUDP(t, topo.Server, at(own, 80), lab.IsTimeout) },
				func() { failsPing(t, topo.Server, own) },
				func() { unheard(t, topo.LAN1, at(own, 81)) },
				func() { failsPing(t, topo.LAN1, public) },
			)
		}
		g.apply(t, base+"one_to_one: ["+entry+"expose: all}]\n")
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Server, at(public, 81), at(ip.dmz, 81), "")
			lands(t, proto, topo.Server, at(own, 81), at(ip.gwDMZ, 81), "")
		}
		pings(t, topo.Server, public)
		pings(t, topo.Server, own)
	})
	g.delete(t)
}

// With two uplinks an inside host has an outside address at each, or at one and
// what masquerade gives it at the other.
func TestOneToOneTwoUplinks(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutGuest())
	pool(t, topo, 10, 10)
	for _, second := range []string{"192.0.2.10", "2001:db8:2::10"} {
		topo.GW.Run(t, "ip", "address", "add", second, "dev", "eth3", "nodad", "preferred_lft", "0")
	}
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.ISP2, 80)
	listens(topo.LAN1, 80)
	each(t, func(t *testing.T, ip family) {
		second := map[bool]string{false: "192.0.2.10", true: "2001:db8:2::10"}[ip.v6()]
		base := zones + "  wan2: {interfaces: [eth3]}\nmasquerade: [{from: [lan, dmz], to: [wan, wan2]}]\n"
		first := ip.mapped("  - {name: first, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: all}\n")
		leaks := g.leaks(t, "eth0", "eth3")
		defer leaks.stop()
		g.apply(t, base+first+"  - {name: second, zone: wan2, outside: \""+second+"\", inside: \""+ip.lan1+"\", expose: tcp/80}\n")
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.public(10))
			lands(t, proto, topo.LAN1, at(ip.isp2, 80), at(ip.isp2, 80), second)
			lands(t, proto, topo.Server, at(ip.public(10), 80), at(ip.lan1, 80), "")
		}
		lands(t, "tcp", topo.ISP2, at(second, 80), at(ip.lan1, 80), "")
		failsUDP(t, topo.ISP2, at(second, 80), lab.IsTimeout)
		lands(t, "tcp", topo.DMZ, at(second, 80), at(ip.lan1, 80), "")
		lands(t, "tcp", topo.LAN2, at(second, 80), at(ip.lan1, 80), ip.gwLAN)

		g.apply(t, base+first)
		lands(t, "tcp", topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.public(10))
		lands(t, "tcp", topo.LAN1, at(ip.isp2, 80), at(ip.isp2, 80), ip.uplink2)
		leaks.none(t)
	})
	g.delete(t)
}

// What comes in is for port_forward first, then for redirect, and the rest for
// one_to_one.
func TestOneToOneOrder(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	pool(t, topo, 10, 12)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 81, 82, 83)
	listens(topo.LAN2, 80, 81)
	listens(topo.GW, 8000)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: all}\n")+
			ip.forwards(`
  - {name: there, from: wan, address: "PUBLIC", protocol: [tcp, udp], ports: 81, to: "$lan2"}
  - {name: anywhere, from: wan, protocol: [tcp, udp], ports: 82, to: "$lan2:80"}
`, "PUBLIC", ip.public(10))+
			"redirect: [{name: handed, from: [wan, dmz], protocol: [tcp, udp], ports: 83, to_port: 8000}]\n")
		for _, proto := range []string{"tcp", "udp"} {
			for _, h := range []*lab.Host{topo.Server, topo.DMZ} {
				lands(t, proto, h, at(ip.public(10), 80), at(ip.lan1, 80), "")
				lands(t, proto, h, at(ip.public(10), 81), at(ip.lan2, 81), "")
				lands(t, proto, h, at(ip.public(10), 82), at(ip.lan2, 80), "")
			}
			for _, h := range []*lab.Host{topo.Server, topo.DMZ} {
				// By IPv6 the kernel redirects to any address of the interface.
				if seen, _, err := talk(proto, h, at(ip.public(10), 83)); err != nil || seen.Local.Port() != 8000 {
					t.Errorf("%s to %s 83: answered at %s, %v; want the gateway's port 8000", h.Name(), proto, seen.Local, err)
				}
			}
		}
	})
	g.delete(t)
}

// A gateway with one interface: the inside host sees who comes from outside, and
// a neighbour of the inside comes by the gateway.
func TestOneToOneOneInterface(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	listens(topo.LAN2, 80)
	// lan2 is the outside: its way to the outside addresses is the gateway, and
	// it has no other to the inside.
	topo.LAN2.Route("203.0.113.10", lab.GatewayLAN)
	topo.LAN2.Route("2001:db8:113::10", lab.GatewayLANv6)
	topo.LAN2.Addr("eth0", "198.18.0.2/24", "2001:db8:18::2/64")
	topo.GW.Addr("eth1", "198.18.0.1/24", "2001:db8:18::1/64")
	g.rules, g.sysctl = g.ruleset(t), g.sysctls(t)
	each(t, func(t *testing.T, ip family) {
		stranger := map[bool]string{false: "198.18.0.2", true: "2001:db8:18::2"}[ip.v6()]
		g.apply(t, `
zones:
  vpc: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  internet: {interfaces: [eth1]}
`+ip.mapped("  - {name: host, zone: internet, outside: \"$10\", inside: \"$lan1\", expose: all}\n"))
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN2, at(ip.public(10), 80), at(ip.lan1, 80), "", lab.From(stranger))
			lands(t, proto, topo.LAN1, at(stranger, 80), at(stranger, 80), ip.public(10))
			lands(t, proto, topo.LAN1, at(ip.public(10), 80), at(ip.lan1, 80), ip.gwLAN)
			lands(t, proto, topo.LAN2, at(ip.public(10), 80), at(ip.lan1, 80), ip.gwLAN, lab.From(ip.lan2))
		}
	})
	g.delete(t)
}

// Where the LAN is a bridge whose packets br_netfilter shows to the rules, its
// hosts reach an outside address too.
func TestOneToOneBridgedLAN(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.BrNetfilter())
	topo := lab.Gateway(t, lab.BridgedLAN(), lab.WithoutGuest())
	topo.GW.Sysctl("net.bridge.bridge-nf-call-iptables", "1")
	topo.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", "1")
	pool(t, topo, 10, 10)
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: tcp/80}\n")+
			"forward: {rules: [{name: nd, from: lan, protocol: icmpv6, action: accept}, {from: lan, to: lan, action: accept}]}\n")
		lands(t, "tcp", topo.LAN2, at(ip.public(10), 80), at(ip.lan1, 80), ip.gwLAN)
		lands(t, "tcp", topo.LAN2, at(ip.lan1, 80), at(ip.lan1, 80), "")
		lands(t, "tcp", topo.DMZ, at(ip.public(10), 80), at(ip.lan1, 80), "")
		lands(t, "tcp", topo.Server, at(ip.public(10), 80), at(ip.lan1, 80), "")
	})
	g.delete(t)
}

// Zones without networks: an inside host may be on any interface that is not an
// uplink's, and nobody passes from one uplink to the other as if he were it.
func TestOneToOneZonesWithoutNetworks(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutGuest())
	pool(t, topo, 10, 10)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.LAN1, 80)
	second := map[string]string{"IPv4": "198.18.2.10", "IPv6": "2001:db8:18::10"}
	each(t, func(t *testing.T, ip family) {
		g.apply(t, `
zones:
  lan: {interfaces: [eth1]}
  dmz: {interfaces: [eth2]}
  wan: {interfaces: [eth0]}
  wan2: {interfaces: [eth3]}
`+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: tcp/80}\n")+
			"  - {name: second, zone: wan2, outside: \""+second[ip.name]+"\", inside: \""+ip.lan1+"\", expose: tcp/80}\n")
		for _, h := range []*lab.Host{topo.Server, topo.DMZ, topo.GW} {
			lands(t, "tcp", h, at(ip.public(10), 80), at(ip.lan1, 80), "")
		}
		lands(t, "tcp", topo.LAN2, at(ip.public(10), 80), at(ip.lan1, 80), ip.gwLAN)
		lands(t, "tcp", topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.public(10))
		unheard(t, topo.LAN2, at(ip.outside, 80))
		passed := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.IsUDP))
		topo.ISP2.SendPacketTo("eth0", topo.GW.MAC("eth3"), lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 53, DstPort: 5353, Payload: []byte("forged")}.Bytes())
		g.Settle()
		passed.Sync()
		if passed.Count() != 0 {
			t.Errorf("it passed from one uplink to the other: %v", passed)
		}
		passed.Stop()
	})
	g.delete(t)
}
