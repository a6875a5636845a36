package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A type of ICMP that a rule names passes, and no other does; a name that both
// families know is each one's own.
func TestForwardICMPTypes(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // what is sent here has none
	g := applied(t, topo, zones+`
forward:
  rules:
    - {name: both, from: lan, to: dmz, icmp_types: router-solicitation, action: accept}
    - {name: one, from: lan, to: dmz, icmp_types: [timestamp-request, mld-listener-query], action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		// IPv4 has no flows that begin with a router solicitation: that is invalid.
		proto, types := uint8(protoICMP), map[byte]bool{13: true, 8: false, 17: false, 130: false}
		if ip.v6() {
			proto, types = protoICMPv6, map[byte]bool{130: true, 133: true, 128: false, 131: false, 134: false}
		}
		for kind, passes := range types {
			p := g.sent(g.LAN1, g.DMZ, proto, ip.lan1, ip.dmz, ip.dmz, append([]byte{kind}, make([]byte, 19)...))
			if (p != nil && p.ICMPType == kind) != passes {
				t.Errorf("type %d: %v", kind, p)
			}
		}
	})
	g.delete(t)
}
