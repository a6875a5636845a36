package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

const followsDefaultRoute = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {default_route: true}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 81, to: "192.168.1.10:80"}
  - {name: web6, from: wan, protocol: tcp, ports: 81, to: "[fd00:1::10]:80"}
`

// A zone that follows the default route is the interface that holds it when the
// policy is applied, and no other.
func TestDefaultRoute(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.ISP2, topo.LAN1)
	// A worse default route does not count.
	topo.GW.Route("default", lab.ISP2+" metric 500")
	topo.GW.Route("default", lab.ISP2v6+" metric 5000")
	g := applied(t, topo, followsDefaultRoute)
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
		tcp(g.Server, ip.uplink, 81).sees(t, ip.outside)
		together(tcp(g.LAN1, ip.isp2, 80).drops(t), udp(g.LAN1, ip.isp2, 53).drops(t))
		fails(t, g.Server, at(ip.uplink2, 81), lab.IsRefused)
	})
	if out := g.ipmasq(t, 0, "status"); !strings.Contains(out, "eth0 (wan): up") || strings.Contains(out, "eth3") {
		t.Errorf("status does not tell the uplink:\n%s", out)
	}

	// It moves: status says so, and the next apply follows.
	topo.GW.DelRoute("default", lab.ISP)
	topo.GW.DelRoute("default", lab.ISPv6)
	each(t, func(t *testing.T, ip family) { tcp(g.LAN1, ip.outside, 80).dropped(t) })
	if out := g.ipmasq(t, 2, "status"); !strings.Contains(out, "drift") {
		t.Errorf("status does not see it:\n%s", out)
	}
	g.apply(t, followsDefaultRoute)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink2)
		tcp(g.Server, ip.uplink2, 81).sees(t, ip.outside)
	})
	leaks.none(t)
	g.delete(t)
}

// Without a default route nothing is in the zone, which is not everything.
func TestNoDefaultRoute(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.ISP, topo.LAN1)
	topo.GW.DelRoute("default", lab.ISP)
	topo.GW.DelRoute("default", lab.ISPv6)
	g := applied(t, topo, followsDefaultRoute)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		together(tcp(g.LAN1, ip.isp, 80).drops(t), udp(g.LAN1, ip.isp, 53).drops(t), ping(g.LAN1, ip.isp).drops(t))
		fails(t, g.ISP, at(ip.uplink, 81), lab.IsRefused)
	})
	leaks.none(t)
	g.delete(t)
}
