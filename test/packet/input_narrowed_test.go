package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Which of the gateway's addresses, and for whom.
func TestInputNarrowed(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.GW)
	g := applied(t, topo, zones+`
input:
  rules:
    - {name: inner, from: lan, protocol: tcp, ports: 22, destinations: [192.168.1.1, "fd00:1::1"], except_sources: [192.168.1.11, "fd00:1::11"], action: accept}
    - {name: every, from: lan, protocol: tcp, ports: 25, destinations: gateway, action: accept}
    - {name: no-error, from: dmz, icmp_types: [destination-unreachable, echo-reply], action: accept}
    - {name: pinged, from: dmz, icmp_types: [time-exceeded, echo-request], action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.gwLAN, 22).sees(t, ip.lan1)
		tcp(g.LAN1, ip.gwLAN, 25).sees(t, ip.lan1)
		tcp(g.LAN2, ip.uplink, 25).sees(t, ip.lan2)
		pings(t, g.DMZ, ip.gwDMZ)
		together(
			tcp(g.LAN1, ip.uplink, 22).drops(t), tcp(g.LAN1, ip.gwDMZ, 22).drops(t), tcp(g.LAN2, ip.gwLAN, 22).drops(t),
			tcp(g.DMZ, ip.gwDMZ, 22).drops(t), ping(g.LAN1, ip.gwLAN).drops(t),
		)
	})
	g.delete(t)
}
