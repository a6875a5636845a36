package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Who may use a port forward: by address, prefix and set, and who may not.
func TestPortForwardSources(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 81, 82, 83, 84, 9005)
	each(t, func(t *testing.T, ip family) {
		uplinkNet, outsideNet := "203.0.113.0/24", "198.51.100.0/24"
		if ip.v6() {
			uplinkNet, outsideNet = "2001:db8:113::/64", "2001:db8:100::/64"
		}
		g.apply(t, zones+fmt.Sprintf("sets: {friends: [%q, 198.51.100.77, \"2001:db8:100::77\"], foes: [%q, 10.1.1.1, \"fd99::1\"]}\n", outsideNet, ip.neighbor)+ip.forwards(`
  - {name: one, from: wan, sources: "NEIGHBOR", protocol: [tcp, udp], ports: 80, to: "$lan1"}
  - {name: net, from: wan, sources: ["UPLINKNET", 192.0.2.0/24, "2001:db8:2::/64"], except_sources: "ISP", protocol: [tcp, udp], ports: 81, to: "$lan1"}
  - {name: set, from: wan, sources: "@friends", protocol: [tcp, udp], ports: 82, to: "$lan1"}
  - {name: not-set, from: wan, except_sources: "@foes", protocol: [tcp, udp], ports: 83, to: "$lan1"}
  - {name: both, from: wan, sources: ["@friends", "@foes"], except_sources: "@foes", protocol: [tcp, udp], ports: 84, to: "$lan1"}
  - {name: range, from: wan, sources: "NEIGHBOR", protocol: [tcp, udp], ports: 8000-8010, to: "$lan1:9000-9010"}
`, "NEIGHBOR", ip.neighbor, "UPLINKNET", uplinkNet, "ISP", ip.isp))
		for _, proto := range []string{"tcp", "udp"} {
			for _, c := range []struct {
				from *lab.Host
				port int
				ok   bool
			}{
				{topo.Neighbor, 80, true}, {topo.Server, 80, false}, {topo.ISP, 80, false},
				{topo.Neighbor, 81, true}, {topo.Server, 81, false}, {topo.ISP, 81, false},
				{topo.Neighbor, 82, false}, {topo.Server, 82, true}, {topo.ISP, 82, false},
				{topo.Neighbor, 83, false}, {topo.Server, 83, true}, {topo.ISP, 83, true},
				{topo.Neighbor, 84, false}, {topo.Server, 84, true}, {topo.ISP, 84, false},
				{topo.Neighbor, 8005, true}, {topo.Server, 8005, false},
			} {
				port := c.port
				if port == 8005 {
					port = 9005
				}
				if c.ok {
					lands(t, proto, c.from, at(ip.uplink, c.port), at(ip.lan1, port), "")
				} else if _, _, err := talk(proto, c.from, at(ip.uplink, c.port)); !lab.IsRefused(err) {
					t.Errorf("%s of %s to port %d: %v", proto, c.from.Name(), c.port, err)
				}
			}
		}
	})
	g.delete(t)
}

// The same port goes to different targets by who asks; the first entry that
// matches wins.
func TestPortForwardBySource(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	g := untouched(t, topo)
	for _, h := range []*lab.Host{topo.LAN1, topo.LAN2, topo.DMZ} {
		listens(h, 80, 90, 95)
	}
	each(t, func(t *testing.T, ip family) {
		everyoneNear := "203.0.113.0/24"
		if ip.v6() {
			everyoneNear = "2001:db8:113::/64"
		}
		order := func(entries ...string) string {
			return zones + "sets: {near: [\"" + everyoneNear + "\"]}\n" + ip.forwards("  - "+strings.Join(entries, "\n  - ")+"\n")
		}
		one := `{name: one, from: wan, sources: "` + ip.neighbor + `", protocol: [tcp, udp], ports: 80, to: "$lan1"}`
		near := `{name: near, from: wan, sources: "@near", protocol: [tcp, udp], ports: [80, 90-99], to: "$lan2"}`
		rest := `{name: rest, from: wan, protocol: [tcp, udp], ports: [80, 90-95], to: "$dmz"}`
		check := func(t *testing.T, from *lab.Host, port int, target string) {
			t.Helper()
			for _, proto := range []string{"tcp", "udp"} {
				lands(t, proto, from, at(ip.uplink, port), at(target, port), "")
			}
		}
		g.apply(t, order(one, near, rest))
		check(t, topo.Neighbor, 80, ip.lan1)
		check(t, topo.ISP, 80, ip.lan2)
		check(t, topo.Server, 80, ip.dmz)
		check(t, topo.Neighbor, 95, ip.lan2)
		check(t, topo.Server, 95, ip.dmz)
		check(t, topo.LAN1, 80, ip.dmz) // hairpin goes by the same order

		// The set before the one address: the address is never reached by the
		// neighbour, who is in the set.
		g.apply(t, order(near, one, rest))
		check(t, topo.Neighbor, 80, ip.lan2)
		check(t, topo.ISP, 80, ip.lan2)
		check(t, topo.Server, 80, ip.dmz)

		// By the address that they are aimed at, then by nothing.
		aimed := `{name: aimed, from: wan, address: "` + ip.uplink + `", protocol: [tcp, udp], ports: 90, to: "$lan1"}`
		g.apply(t, order(aimed, rest))
		check(t, topo.Neighbor, 90, ip.lan1)
		check(t, topo.Neighbor, 95, ip.dmz)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Server, at(ip.gwLAN, 90), at(ip.dmz, 90), "")
		}
	})
	g.delete(t)
}
