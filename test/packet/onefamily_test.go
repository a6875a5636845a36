package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An entry of one family leaves the other alone, though it names both.
func TestOneFamily(t *testing.T) {
	for i, ip := range families() {
		t.Run(ip.name, func(t *testing.T) {
			t.Parallel()
			other := families()[1-i]
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
			pool(t, topo, 10, 40)
			answering(topo.Server, topo.LAN1, topo.DMZ, topo.GW)
			listens(topo.LAN1, 8080)
			g := applied(t, topo, zones+strings.ReplaceAll(`
snat: {from: lan, to: wan, addresses: [203.0.113.40, "2001:db8:113::40"], family: FAMILY}
one_to_one: {name: host, zone: wan, outside: "`+ip.public(10)+`", inside: "`+ip.dmz+`", expose: all, family: FAMILY}
port_forward: {name: web, from: wan, protocol: tcp, ports: 8000, to: ["192.168.1.10:8080", "[fd00:1::10]:8080"], family: FAMILY}
forward: {rules: [{from: lan, to: dmz, family: FAMILY, action: accept}]}
input: {rules: [{from: [lan, wan], family: FAMILY, action: accept}]}
`, "FAMILY", strings.ToLower(ip.name)))
			leaks := g.leaks(t)
			tcp(g.LAN1, ip.outside, 80).sees(t, ip.public(40))
			tcp(g.DMZ, ip.outside, 80).sees(t, ip.public(10))
			tcp(g.Neighbor, ip.public(10), 80).sees(t, ip.neighbor)
			lands(t, "tcp", g.Neighbor, at(ip.uplink, 8000), at(ip.lan1, 8080), "")
			tcp(g.LAN1, ip.dmz, 80).sees(t, ip.lan1)
			tcp(g.LAN1, ip.gwLAN, 22).sees(t, ip.lan1)
			g.Forwarding(true)
			together(
				tcp(g.LAN1, other.outside, 80).drops(t), tcp(g.DMZ, other.outside, 80).drops(t), tcp(g.Neighbor, other.uplink, 8000).drops(t),
				tcp(g.LAN1, other.dmz, 80).drops(t), tcp(g.LAN1, other.gwLAN, 22).drops(t),
			)
			leaks.none(t)
		})
	}
}

// A family that the policy says to leave alone is not forwarded, though an
// entry would forward it; the other one is.
func TestForwardingOfOneFamily(t *testing.T) {
	for i, ip := range families() {
		t.Run(ip.name, func(t *testing.T) {
			t.Parallel()
			other := families()[1-i]
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server)
			g := applied(t, topo, lanToWAN+fmt.Sprintf("gateway: {forwarding: {ipv4: %t, ipv6: %t}}\n", !ip.v6(), ip.v6()))
			leaks := g.leaks(t)
			tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
			together(tcp(g.LAN1, other.outside, 80).drops(t), ping(g.LAN1, other.outside).drops(t))
			on := g.GW.GetSysctl("net.ipv4.ip_forward") + g.GW.GetSysctl("net.ipv6.conf.all.forwarding")
			if want := map[bool]string{false: "10", true: "01"}[ip.v6()]; on != want {
				t.Errorf("forwarding of IPv4 and IPv6 is %s, want %s", on, want)
			}
			leaks.none(t)
			g.delete(t)
		})
	}
}
