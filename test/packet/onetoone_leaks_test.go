package packet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What an inside host sends that is the beginning of nothing does not leave,
// though a masquerade for the same uplink would let it try once more.
func TestOneToOneStrays(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"alone", ""},
		{"beside a masquerade", "masquerade: [{from: lan, to: wan}]\n"},
		{"default accept", "forward: {default: accept}\n"},
		{"a rule accepts", "forward: {rules: [{from: lan, action: accept}]}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
			pool(t, topo, 10, 12)
			listens(topo.Server, 80)
			g := untouched(t, topo)
			each(t, func(t *testing.T, ip family) {
				g.apply(t, zones+c.policy+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: tcp/80}\n"))
				pings(t, g.LAN1, ip.outside)
				leaks := g.leaks(t)
				before := g.entry(t, "one_to_one host").LeaksStopped
				for _, packet := range strays(ip) {
					g.LAN1.SendPacket("eth0", packet)
				}
				leaks.none(t)
				leaks.stop()
				if g.entry(t, "one_to_one host").LeaksStopped == before {
					t.Error("status counts no leak that was stopped")
				}
			})
		})
	}
}

// Flows of both directions are cut by delete, and nothing of them leaves as it is.
func TestOneToOneDelete(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 10, 12)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.LAN1, 80)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: tcp/80}\n"))
		in := opens(t, topo.Server, at(ip.public(10), 80), ip.outside)
		out := opens(t, topo.LAN1, at(ip.outside, 80), ip.public(10))
		if in == nil || out == nil {
			return
		}
		leaks := g.leaks(t)
		defer leaks.stop()
		var cut struct {
			Flows int `json:"flows_cut"`
		}
		said := g.ipmasq(t, 0, "delete", "-o", "json")
		if err := json.Unmarshal([]byte(said), &cut); err != nil || cut.Flows != 2 {
			t.Errorf("delete cuts %d flows, want 2 (%v)", cut.Flows, err)
		}
		together(
			func() {
				if err := in.Echo(lab.Silence, "still there?"); err == nil {
					t.Error("a connection that came in outlived delete")
				}
			},
			func() {
				if err := out.Echo(lab.Silence, "still there?"); err == nil {
					t.Error("a connection that went out outlived delete")
				}
			},
		)
		leaks.none(t)
	})
}

// What another tool translated to an inside host is not let in, and not given
// another source.
func TestOneToOneForeignTranslation(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	pool(t, topo, 10, 12)
	topo.GW.Feed(t, `
		table inet foreign {
			chain pre {
				type nat hook prerouting priority dstnat - 5; policy accept
				ip daddr 203.0.113.2 meta l4proto { tcp, udp } th dport { 80, 2222 } dnat ip to 192.168.1.10
				ip6 daddr 2001:db8:113::2 meta l4proto { tcp, udp } th dport { 80, 2222 } dnat ip6 to [fd00:1::10]
			}
		}`, "nft", "-f", "-")
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 2222)
	each(t, func(t *testing.T, ip family) {
		policy := zones + ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \"$lan1\", expose: [tcp/80, udp]}\n")
		g.apply(t, policy)
		lands(t, "tcp", topo.Neighbor, at(ip.public(10), 80), at(ip.lan1, 80), "")
		lands(t, "udp", topo.Neighbor, at(ip.public(10), 2222), at(ip.lan1, 2222), "")
		unheard(t, topo.Neighbor, at(ip.uplink, 80), at(ip.uplink, 2222))
		g.apply(t, policy+"forward: {default: accept}\n")
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 80), "")
		}
		fails(t, topo.Neighbor, at(ip.public(10), 2222), lab.IsTimeout)
	})
	g.delete(t)
}

// What either end, or a router on the way, says about a packet reaches the other
// one as if the outside address had said it.
func TestOneToOneErrors(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	pool(t, topo, 10, 10)
	server, addrs := deep(t, topo)
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	listens(server, 80)
	topo.Neighbor.NoOffload("eth0")
	each(t, func(t *testing.T, ip family) {
		networks := strings.NewReplacer("192.168.1.0/24", "192.168.1.0/24, 10.5.0.0/16", `"fd00:1::/64"`, `"fd00:1::/64", "fd00:5::/64"`).Replace(zones)
		for _, c := range []struct {
			host   *lab.Host
			inside string
		}{{topo.LAN1, ip.lan1}, {server, addrs[ip.name]}} {
			host, inside := c.host, c.inside
			t.Run(host.Name(), func(t *testing.T) {
				g.apply(t, networks+ip.mapped("  - {name: host, zone: wan, outside: \"$10\", inside: \""+inside+"\", expose: all}\n"))
				leaks := g.leaks(t)
				defer leaks.stop()
				remote := at(ip.public(10), 9)
				said := topo.Neighbor.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, lab.SrcIn(ip.public(10))))
				failsUDP(t, topo.Neighbor, remote, lab.IsRefused)
				complaint(t, said, ip.public(10), remote)
				fails(t, topo.Neighbor, remote, lab.IsRefused)
				lands(t, "tcp", topo.Neighbor, at(ip.public(10), 80), at(inside, 80), "")
				failsUDP(t, host, at(ip.neighbor, 9), lab.IsRefused) // what the outside says comes in
				if host == server {
					// The narrow link behind lan1, and a hop limit that ends there.
					if c := opens(t, topo.Neighbor, at(ip.public(10), 80), ip.neighbor); c != nil {
						if err := c.Echo(lab.Patience, strings.Repeat("x", 100_000)); err != nil {
							t.Errorf("a target behind a narrow link: %v", err)
						}
					}
					said := topo.Neighbor.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, lab.SrcIn(ip.public(10))))
					if _, _, err := talk("udp", topo.Neighbor, at(ip.public(10), 80), lab.TTL(2)); !lab.IsUnreachable(err) {
						t.Errorf("a datagram that expires inside: %v", err)
					}
					complaint(t, said, ip.public(10), at(ip.public(10), 80))
				}
				leaks.none(t)
			})
		}
	})
	g.delete(t)
}
