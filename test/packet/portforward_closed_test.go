package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A port forward opens the way for what it translated, and for nothing else: a
// neighbour who sends to the target's inside address by way of the gateway
// finds it closed.
func TestPortForwardTargetStaysClosed(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 8080, 9005, 9500, 7777)
	listens(topo.LAN2, 80, 1234)
	each(t, func(t *testing.T, ip family) {
		entries := zones + ip.forwards(`
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}
  - {name: same, from: wan, protocol: [tcp, udp], ports: 80, to: "$lan2"}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 9000-9010, to: "$lan1"}
  - {name: offset, from: wan, protocol: [tcp, udp], ports: 8500-8510, to: "$lan1:9500-9510"}
  - {name: one, from: wan, protocol: [tcp, udp], ports: 7000-7999, to: "$lan1:7777"}
`)
		open := func(t *testing.T) {
			t.Helper()
			for _, proto := range []string{"tcp", "udp"} {
				lands(t, proto, topo.Neighbor, at(ip.uplink, 8080), at(ip.lan1, 80), "")
				lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at(ip.lan2, 80), "")
				lands(t, proto, topo.Neighbor, at(ip.uplink, 9005), at(ip.lan1, 9005), "")
				lands(t, proto, topo.Neighbor, at(ip.uplink, 8500), at(ip.lan1, 9500), "")
				lands(t, proto, topo.Neighbor, at(ip.uplink, 7001), at(ip.lan1, 7777), "")
			}
		}
		straight := []string{at(ip.lan1, 80), at(ip.lan1, 8080), at(ip.lan2, 80), at(ip.lan1, 9005), at(ip.lan1, 9500), at(ip.lan1, 7777), at(ip.lan1, 7001)}
		g.apply(t, entries)
		open(t)
		unheard(t, topo.Neighbor, straight...)
		unheard(t, topo.Server, straight...)
		unheard(t, topo.DMZ, straight...)

		g.apply(t, entries+"forward: {default: reject}\n")
		open(t)
		for _, to := range straight {
			fails(t, topo.Neighbor, to, lab.IsRefused)
		}
		// A rule of the policy comes first.
		g.apply(t, entries+"forward: {rules: [{from: wan, to: lan, protocol: tcp, ports: 80, action: drop}]}\n")
		fails(t, topo.Neighbor, at(ip.uplink, 8080), lab.IsTimeout)
		lands(t, "udp", topo.Neighbor, at(ip.uplink, 8080), at(ip.lan1, 80), "")
		// So does a policy that leaves all open.
		g.apply(t, entries+"forward: {default: accept}\n")
		open(t)
		lands(t, "tcp", topo.Neighbor, at(ip.lan1, 80), at(ip.lan1, 80), "")
		lands(t, "tcp", topo.Neighbor, at(ip.lan2, 1234), at(ip.lan2, 1234), "")
	})
	g.delete(t)
}

// What another tool translated is not ours to let pass, though it has the same
// mark of the kernel's.
func TestPortForwardForeignTranslation(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	topo.GW.Feed(t, `
		table inet foreign {
			chain pre {
				type nat hook prerouting priority dstnat - 5; policy accept
				meta nfproto ipv4 meta l4proto { tcp, udp } th dport 2222 dnat ip to 192.168.1.10:22
				meta nfproto ipv4 meta l4proto { tcp, udp } th dport 3333 dnat ip to 192.168.1.11:80
				meta nfproto ipv4 meta l4proto { tcp, udp } th dport 4444 dnat ip to 192.168.1.10:80
				meta nfproto ipv4 meta l4proto { tcp, udp } th dport 9020 dnat ip to 192.168.1.10:9005
				meta nfproto ipv6 meta l4proto { tcp, udp } th dport 2222 dnat ip6 to [fd00:1::10]:22
				meta nfproto ipv6 meta l4proto { tcp, udp } th dport 3333 dnat ip6 to [fd00:1::11]:80
				meta nfproto ipv6 meta l4proto { tcp, udp } th dport 4444 dnat ip6 to [fd00:1::10]:80
				meta nfproto ipv6 meta l4proto { tcp, udp } th dport 9020 dnat ip6 to [fd00:1::10]:9005
			}
		}`, "nft", "-f", "-")
	g := untouched(t, topo)
	listens(topo.LAN1, 22, 80, 9005)
	listens(topo.LAN2, 80)
	each(t, func(t *testing.T, ip family) {
		policy := zones + ip.forwards(`
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 9000-9010, to: "$lan1"}
`)
		g.apply(t, policy)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(ip.uplink, 8080), at(ip.lan1, 80), "")
			lands(t, proto, topo.Neighbor, at(ip.uplink, 9005), at(ip.lan1, 9005), "")
		}
		unheard(t, topo.Neighbor, at(ip.uplink, 2222), at(ip.uplink, 3333), at(ip.uplink, 4444), at(ip.uplink, 9020))
		// Where the policy says so, it passes.
		g.apply(t, policy+"forward: {rules: [{from: wan, to: lan, protocol: [tcp, udp], ports: 22, action: accept}]}\n")
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(ip.uplink, 2222), at(ip.lan1, 22), "")
		}
		unheard(t, topo.Neighbor, at(ip.uplink, 3333), at(ip.uplink, 4444))
	})
	g.delete(t)
}
