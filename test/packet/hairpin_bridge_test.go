package packet

import (
	"fmt"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Where the LAN is a bridge on the gateway, the kernel may show bridged packets
// to the IP hooks, and then bridges a hairpinned packet instead of routing it.
// Hairpin works either way.
func TestHairpinBridgedLAN(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call "+call, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.BrNetfilter())
			topo := lab.Gateway(t, lab.BridgedLAN())
			topo.GW.Sysctl("net.bridge.bridge-nf-call-iptables", call)
			topo.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", call)
			g := untouched(t, topo)
			listens(topo.LAN1, 8080)
			listens(topo.DMZ, 8080)
			listens(topo.GW, 80)
			each(t, func(t *testing.T, ip family) {
				for _, source := range []string{"gateway", "outside"} {
					policy := ip.hairpinned(fmt.Sprintf(", hairpin: {source: %s}", source))
					seen := map[string]string{"gateway": ip.gwLAN, "outside": ip.uplink}[source]
					// Bridged packets are judged too: neighbour discovery, which is
					// to a group of no zone, and what the neighbours then say.
					g.apply(t, policy+"forward: {rules: [{name: nd, from: lan, protocol: icmpv6, action: accept}, {from: lan, to: lan, action: accept}]}\n")
					for _, proto := range []string{"tcp", "udp"} {
						for _, port := range []int{80, 93} {
							remote, target := at(ip.uplink, port), at(ip.lan1, 8080)
							lands(t, proto, topo.LAN2, remote, target, seen)
							if call == "0" {
								// A bridge sends nothing back by the port it came from,
								// so the target itself gets there only by a route.
								lands(t, proto, topo.LAN1, remote, target, seen)
							}
							lands(t, proto, topo.DMZ, remote, target, "")
							lands(t, proto, topo.GW, remote, target, "")
							lands(t, proto, topo.Neighbor, remote, target, "")
						}
						// Neighbours on the bridge talk as if there were no gateway.
						lands(t, proto, topo.LAN2, at(ip.lan1, 8080), at(ip.lan1, 8080), "")
						lands(t, proto, topo.LAN2, at(ip.gwLAN, 80), at(ip.gwLAN, 80), "")
					}
				}
				g.apply(t, ip.hairpinned(", hairpin: false, masquerade: true"))
				lands(t, "tcp", topo.Neighbor, at(ip.uplink, 80), at(ip.lan1, 8080), ip.gwLAN)
			})
			g.delete(t)
		})
	}
}
