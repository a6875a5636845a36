package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Nothing leaves untranslated by either uplink, whatever the sections that
// translate, mark and open are combined to.
func TestCombinedStrays(t *testing.T) {
	const marked = "    - {name: mark, from: lan, mark: 0x1/0xff, action: accept}\n"
	for _, c := range []struct{ name, zones, policy string }{
		{"pool and symmetric uplinks", viaISP2, `
snat: [{from: lan, to: [wan, wan2], addresses: ["$10-$12"]}]
forward: {default: accept}
`},
		{"a pool by one uplink, masquerade by the other, marked for it", viaISP2, `
snat: [{from: lan, to: wan, addresses: ["$10-$12"]}]
masquerade: [{from: lan, to: wan2}]
forward:
  rules:
` + marked},
		{"blocks, marked", "", `
snat: [{from: lan, to: [wan, wan2], addresses: ["$10"], ports_per_host: 1000, sources: ["$lan1-$lan2"]}]
forward:
  rules:
` + marked},
		{"one_to_one by one uplink, masquerade by the other, marked", viaISP2, `
masquerade: [{from: lan, to: wan2}]
one_to_one: [{name: host, zone: wan, outside: "$10", inside: "$lan1", expose: all}]
forward:
  default: accept
  rules:
` + marked},
		{"one_to_one and reserved ports", "", `
masquerade: [{from: lan, to: [wan, wan2]}]
one_to_one: [{name: host, zone: wan, outside: "$10", inside: "$lan1"}]
gateway: {reserved_ports: [4000-4500]}
forward:
  rules:
` + marked},
		{"no forward, attributes, reserved ports, an exception", viaISP2, `
snat:
  - {name: tcp, from: lan, to: [wan, wan2], addresses: ["$10-$12"], protocol: tcp, forward: false, max_connections: {per_host: 5}, except_destinations: "$isp"}
  - {name: rest, from: lan, to: [wan, wan2], addresses: ["$10-$12"], distribution: round-robin, timeouts: {udp: {replied: 1m}}, except_destinations: "$isp"}
gateway: {reserved_ports: [4000-4500]}
input: {default: drop}
forward:
  default: reject
  rules:
` + marked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
			pool(t, topo, 10, 12)
			answering(topo.Server)
			before := routing(t, topo.GW)
			g := untouched(t, topo)
			each(t, func(t *testing.T, ip family) {
				policy := strings.NewReplacer("$10", ip.public(10), "$12", ip.public(12), "$lan1", ip.lan1, "$lan2", ip.lan2, "$isp", ip.isp).Replace(c.policy)
				g.apply(t, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
  wan2: {interfaces: [eth3]`+c.zones+`}
`+policy)
				if _, err := g.LAN2.UDPExchange("", at(ip.outside, 53), "hello", lab.Patience); err != nil {
					t.Error(err)
				}
				leaks := g.leaks(t, "eth0", "eth3")
				send := func() {
					for _, packet := range strays(ip) {
						g.LAN1.SendPacket("eth0", packet)
					}
					leaks.none(t)
				}
				send()
				// The same flows by the other uplink: as the mark says, then as
				// the default route says.
				which := map[bool]string{false: "-4", true: "-6"}[ip.v6()]
				g.GW.Run(t, "ip", which, "route", "add", "default", "via", ip.isp2, "dev", "eth3", "table", "42")
				g.GW.Run(t, "ip", which, "rule", "add", "fwmark", "0x1/0xff", "lookup", "42")
				send()
				g.GW.Run(t, "ip", which, "rule", "del", "fwmark", "0x1/0xff", "lookup", "42")
				g.GW.Run(t, "ip", which, "route", "replace", "default", "via", ip.isp2, "dev", "eth3")
				send()
				g.GW.Run(t, "ip", which, "route", "replace", "default", "via", ip.isp, "dev", "eth0")
				g.GW.Run(t, "ip", which, "route", "flush", "table", "42")
				send()
				leaks.stop()
			})
			g.delete(t)
			if after := routing(t, topo.GW); after != before {
				t.Errorf("delete left routing behind\n%s", difference(before, after))
			}
		})
	}
}
