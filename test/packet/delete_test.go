package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Where the host forwarded before the first apply it does so again after
// delete, without translation, as it did.
func TestDeleteOnAHostThatForwarded(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	topo.Forwarding(true)
	g := applied(t, topo, lanToWAN)
	each(t, func(t *testing.T, ip family) { opens(t, g.LAN1, at(ip.outside, 80), ip.uplink) })
	g.delete(t)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.lan1)
		asks(t, g.LAN1, at(ip.outside, 53), ip.lan1)
		pings(t, g.Server, ip.lan1)
	})
	g.delete(t) // once more is no mistake
}

// An apply that changes nothing keeps counters and flows; one that changes
// something keeps the flows, and the counters of what stays.
func TestApplyAgain(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	var held []*lab.Conn
	for _, ip := range families() {
		held = append(held, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
	}
	for i, policy := range []string{
		lanToWAN,
		lanToWAN + "forward:\n  rules:\n    - {from: lan, to: wan, protocol: tcp, ports: 25, action: drop}\n",
		lanToWAN + "  - {name: more, from: wan, to: wan}\n",
		lanToWAN,
	} {
		g.apply(t, policy)
		for _, c := range held {
			carries(t, c)
		}
		if e := g.entry(t, "masquerade lan-wan"); e.NewFlows != 2 || e.LeaksStopped != 0 {
			t.Errorf("after apply %d status counts %+v, want 2 flows", i+2, e)
		}
	}
	// With the entry gone, its flows still pass translated, and no new ones do.
	g.apply(t, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
`)
	for i, ip := range families() {
		_ = held[i].Echo(lab.Silence, "cut or not, never as it is")
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
	}
	leaks.none(t)
	g.delete(t)
	leaks.none(t)
}

// Flows are cut whether there is a way out just now or not: they would go on
// untranslated when it is back.
func TestDeleteWithoutARoute(t *testing.T) {
	for name, wan := range map[string]string{"an interface": "interfaces: [eth0]", "the default route's": "default_route: true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			lab.Require(t, lab.Binary("conntrack"))
			answering(topo.Server)
			listens(topo.LAN1, 81)
			g := applied(t, topo, strings.Replace(lanToWAN, "interfaces: [eth0]", wan, 1)+`
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: ["192.168.1.10:81", "[fd00:1::10]:81"]}
`)
			for _, ip := range families() {
				opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
				opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
			}
			topo.GW.DelRoute("default", lab.ISP)
			topo.GW.DelRoute("default", lab.ISPv6)
			g.ipmasq(t, 0, "delete")
			for _, f := range []string{"ipv4", "ipv6"} {
				if left := topo.GW.Run(t, "conntrack", "-L", "-f", f, "-p", "tcp"); left != "" {
					t.Errorf("left:\n%s", left)
				}
			}
		})
	}
}
