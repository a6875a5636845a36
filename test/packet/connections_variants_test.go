package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The less usual forms of entries: ports of other ranges and in blocks, what
// translates and does not let pass, prefixes, one address of several, sticky
// targets, a hairpin with the outside address, the gateway's own flows
// redirected, and zones that only their networks tell apart.
func TestConnectionsVariants(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	pool(t, topo, 10, 12)
	pool(t, topo, 40, 40)
	for _, h := range []*lab.Host{topo.Neighbor, topo.ISP} {
		h.Route("198.18.7.0/24", lab.GatewayUplink)
		h.Route("2001:db8:777::/64", lab.GatewayUplinkv6)
	}
	for _, h := range []*lab.Host{topo.Server, topo.Neighbor, topo.LAN1, topo.LAN2, topo.DMZ, topo.GW} {
		listens(h, 80, 81)
	}
	listens(topo.GW, 3128)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		mapping := "outside: 198.18.7.0/24, inside: 192.168.2.0/24"
		public, own, hosts := "198.18.7.10", "198.18.7.1", "192.168.1.11"
		if ip.v6() {
			mapping = `outside: "2001:db8:777::/64", inside: "fd00:2::/64"`
			public, own, hosts = "2001:db8:777::10", "2001:db8:777::1", `"fd00:1::11"`
		}
		g.apply(t, strings.NewReplacer("$hosts", hosts, "$mapping", mapping, "$40", ip.public(40), "$11", ip.public(11), "$server", ip.outside, "$neighbor", ip.neighbor).Replace(`
zones:
  office: {interfaces: [eth1], networks: [$hosts]}
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: ["eth0*"]}
snat:
  - {name: blocks, from: office, to: wan, addresses: ["$40"], ports_per_host: 1000}
masquerade:
  - {name: high, from: lan, to: wan, protocol: [tcp, udp], ports: 80, outside_ports: 50000-50099}
  - {name: quiet, from: lan, to: wan, forward: false, port_selection: fully-random}
one_to_one:
  - {name: net, zone: wan, $mapping, expose: [tcp/80]}
redirect:
  - {name: own, from: office, protocol: tcp, ports: 8888, to_port: 3128, local: true}
forward:
  rules:
    - {name: told, from: lan, to: wan, protocol: [tcp, udp], ports: 81, action: accept}
    - {name: inner, from: [lan, office], to: dmz, sources: [192.168.1.0/25, "fd00:1::/64"], protocol: [tcp, udp], ports: [80-81], action: accept}
`)+ip.forwards(`
  - {name: near, from: wan, address: "$11", sources: "$neighbor", protocol: [tcp, udp], ports: 80, to: "$lan1"}
  - {name: far, from: wan, address: "$11", protocol: [tcp, udp], ports: 80, to: "$lan2:81"}
  - {name: sticky, from: wan, protocol: [tcp, udp], ports: 8081, to: ["$lan1:80", "$lan2:81"], sticky: true}
  - {name: back, from: wan, protocol: [tcp, udp], ports: 8082, to: "$lan1:80", hairpin: {source: outside}}
  - {name: none, from: wan, protocol: [tcp, udp], ports: 8083, to: "$lan2:80", hairpin: false}
`, "$11", ip.public(11), "$neighbor", ip.neighbor))
		var l ledger
		l.both(t, g.LAN2, at(ip.outside, 80), "snat blocks", "office", "wan")
		l.pinged(t, g.LAN2, ip.lan2, ip.outside, ends{Source: ip.public(40), Destination: ip.outside}, "snat blocks", "office", "wan")
		l.both(t, g.LAN1, at(ip.outside, 80), "masquerade high", "lan", "wan")
		l.both(t, g.LAN1, at(ip.outside, 81), "masquerade quiet", "lan", "wan")
		l.both(t, g.LAN1, at(ip.dmz, 80), "forward inner", "lan", "dmz")
		l.both(t, g.LAN2, at(ip.dmz, 81), "forward inner", "office", "dmz")

		for _, h := range []*lab.Host{g.Server, g.Neighbor} {
			l.add(t, "tcp", h, at(public, 80), "one_to_one net", "wan", "dmz")
		}
		l.add(t, "tcp", g.LAN1, at(public, 80), "one_to_one net", "lan", "dmz")
		l.add(t, "tcp", g.GW, at(public, 80), "one_to_one net", "gateway", "dmz")
		l.add(t, "tcp", g.Neighbor, at(own, 80), "one_to_one net", "wan", "gateway")
		l.both(t, g.DMZ, at(ip.outside, 80), "one_to_one net", "dmz", "wan")
		l.add(t, "tcp", g.DMZ, at(public, 80), "one_to_one net", "dmz", "dmz")

		l.both(t, g.Neighbor, at(ip.public(11), 80), "port_forward near", "wan", "lan")
		l.both(t, g.Server, at(ip.public(11), 80), "port_forward far", "wan", "office")
		for _, h := range []*lab.Host{g.Server, g.Neighbor, g.DMZ, g.LAN2} {
			from := map[*lab.Host]string{g.DMZ: "dmz", g.LAN2: "office"}[h]
			if from == "" {
				from = "wan"
			}
			for _, protocol := range []string{"tcp", "udp"} {
				if a := l.add(t, protocol, h, at(ip.uplink, 8081), "port_forward sticky", from, "lan"); a != nil && a.after.Destination == ip.lan2 {
					a.to = "office"
				}
			}
			l.both(t, h, at(ip.uplink, 8082), "port_forward back", from, "lan")
		}
		l.both(t, g.Server, at(ip.uplink, 8083), "port_forward none", "wan", "office")

		l.add(t, "tcp", g.LAN2, at(ip.outside, 8888), "redirect own", "office", "gateway")
		l.add(t, "tcp", g.GW, at(ip.outside, 8888), "redirect own", "gateway", "gateway")
		if !t.Failed() {
			l.check(t, g.connections(t))
		}
	})
	g.delete(t)
}

// What is neither TCP nor UDP nor ICMP has no ports, or has them too.
func TestConnectionsOtherProtocols(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // see TestPortForwardOtherProtocols
	g := applied(t, topo, zones+`
masquerade: {from: lan, to: wan}
forward:
  rules:
    - {name: ported, from: lan, to: dmz, protocol: [sctp, udplite], ports: 5000, action: accept}
    - {name: tunnel, from: lan, to: dmz, protocol: gre, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		for _, c := range []struct {
			number    uint8
			protocol  string
			to        *lab.Host
			remote    string
			from      uint16
			after     string
			entry, in string
		}{
			{protoSCTP, "sctp", g.DMZ, ip.dmz, 1000, ip.lan1, "forward ported", "dmz"},
			{protoUDPLite, "udplite", g.DMZ, ip.dmz, 1001, ip.lan1, "forward ported", "dmz"},
			{protoGRE, "gre", g.DMZ, ip.dmz, 0, ip.lan1, "forward tunnel", "dmz"},
			{protoSCTP, "sctp", g.Server, ip.outside, 1002, ip.uplink, "masquerade lan-wan", "wan"},
			{protoESP, "esp", g.Server, ip.outside, 0, ip.uplink, "masquerade lan-wan", "wan"},
		} {
			payload, port := []byte{0, 0, 8, 0, 1, 2, 3, 4}, 0
			if c.from != 0 {
				payload, port = portedPayload(ip, c.number, c.from, 5000), 5000
			}
			p := g.sent(g.LAN1, c.to, c.number, ip.lan1, c.remote, c.remote, payload)
			if p == nil {
				t.Errorf("%s to %s did not arrive", c.protocol, c.remote)
				continue
			}
			if p.Src.String() != c.after {
				t.Errorf("%s to %s left as %s, want %s", c.protocol, c.remote, p.Src, c.after)
			}
			found := 0
			for _, x := range g.connections(t, "--protocol", c.protocol, "--source", ip.lan1, "--destination", c.remote) {
				found++
				want := ends{Source: ip.lan1, SourcePort: int(c.from), Destination: c.remote, DestinationPort: port}
				if x.Before != want || x.After.Source != c.after || x.After.Destination != c.remote || x.After.DestinationPort != port ||
					x.Protocol != c.protocol || x.Entry != c.entry || x.From != "lan" || x.To != c.in {
					t.Errorf("%s, want %s of %s, lan to %s", x, want, c.entry, c.in)
				}
			}
			if found != 1 {
				t.Errorf("%d flows of %s to %s", found, c.protocol, c.remote)
			}
		}
	})
	g.delete(t)
}
