package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Zones, sets and entries may have the names of words that nft(8) has for itself.
// The kernel takes objects of any name, but nft cannot load what it then lists.
// On iptables what iptables-save prints, iptables-restore has to load.
func TestNamesOfKeywords(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	answering(topo.Server, topo.LAN1, topo.DMZ)
	g := untouched(t, topo)
	g.apply(t, `
zones:
  fwd: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  table: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  ip: {interfaces: [eth0]}
sets:
  drop: [192.168.2.0/24, "fd00:2::/64"]
  set: [198.51.100.0/24, "2001:db8:100::/48"]
masquerade:
  - {name: accept, from: fwd, to: ip, max_connections: {per_host: 100}, log: {group: 5}, timeouts: {udp: {replied: 3m}}, helpers: ftp}
  - {name: counter, from: table, to: ip, protocol: udp}
port_forward:
  - {name: dnat, from: ip, protocol: tcp, ports: 8080, to: "192.168.1.10:80"}
  - {name: map, from: ip, protocol: tcp, ports: 8080, to: "[fd00:1::10]:80"}
forward:
  rules:
    - {name: chain, from: fwd, to: table, destinations: "@drop", protocol: tcp, ports: [80, 443], action: accept}
    - {name: meta, family: ipv4, from: table, to: fwd, sources: "@drop", action: reject, rate: 10/second}
    - {name: rule, from: ip, sources: "@set", protocol: udp, action: drop}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
		failsUDP(t, g.Server, at(ip.dmz, 53), lab.IsTimeout)
	})
	for _, name := range []string{"masquerade accept", "forward chain"} {
		if e := g.entry(t, name); e.NewFlows != 2 {
			t.Errorf("status counts %+v of %s, want 2 flows", e, name)
		}
	}
	if g.variant == "" {
		listed := g.GW.Run(t, "nft", "list", "ruleset")
		g.wipes(t)
		g.GW.Feed(t, listed, "nft", "-f", "-")
	} else {
		six := "ip6" + strings.TrimPrefix(g.variant, "ip")
		saved, saved6 := g.GW.Run(t, g.variant+"-save"), g.GW.Run(t, six+"-save")
		g.wipes(t)
		g.GW.Feed(t, saved, g.variant+"-restore")
		g.GW.Feed(t, saved6, six+"-restore")
		g.ipmasq(t, 0, "status") // no drift
	}
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
	})
	g.delete(t)
}
