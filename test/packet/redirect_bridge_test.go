package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Where the LAN is a bridge, what leaves it is redirected, whether br_netfilter
// shows bridged packets to the rules or not; and neighbours find each other.
func TestRedirectBridgedLAN(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call "+call, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.BrNetfilter())
			topo := lab.Gateway(t, lab.BridgedLAN(), lab.WithoutDMZ(), lab.WithoutGuest())
			topo.GW.Sysctl("net.bridge.bridge-nf-call-iptables", call)
			topo.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", call)
			answering(topo.LAN2)
			proxy(t, topo.GW, 3128, itself)
			g := applied(t, topo, zones+`
redirect:
  - {name: http, from: lan, protocol: tcp, ports: [80, 81], to_port: 3128, except_destinations: [192.168.1.0/24, "fd00:1::/64"]}
  - {name: ping, from: lan, protocol: [icmp, icmpv6], except_destinations: [192.168.1.0/24, "fd00:1::/64"]}
forward: {rules: [{from: lan, to: lan, action: accept}]}
input: {default: drop}
`)
			each(t, func(t *testing.T, ip family) {
				topo.LAN1.FlushNeighbors("eth0")
				topo.GW.FlushNeighbors("eth1")
				meetsProxy(t, g.LAN1, at(ip.outside, 80))
				pings(t, g.LAN1, ip.outside)
				opens(t, g.LAN1, at(ip.lan2, 80), ip.lan1)
				pings(t, g.LAN1, ip.lan2)
				fails(t, g.LAN1, at(ip.gwLAN, 3128), lab.IsTimeout)
			})
			g.delete(t)
		})
	}
}
