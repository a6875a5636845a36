//go:build vm

package packet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Uplinks of kinds that not every kernel has. The tests of this tag run where the kernel has them: test/vm.

// onlyUplink is the policy of a gateway whose outside is one interface.
func onlyUplink(name string) string {
	return `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: ["` + name + `"]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "192.168.1.10:80"}
  - {name: web6, from: wan, protocol: [tcp, udp], ports: 8080, to: "[fd00:1::10]:80"}
`
}

// rerouted is the standard topology with no way out yet.
func rerouted(t *testing.T) *lab.Topology {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	listens(topo.LAN1, 80)
	topo.LAN1.NoOffload("eth0")
	topo.Server.NoOffload("eth0")
	topo.GW.DelRoute("default", lab.ISP)
	topo.GW.DelRoute("default", lab.ISPv6)
	return topo
}

// wayOut gives the gateway addresses on a link to its ISP, and sends all that
// has no other way there.
func (g *gateway) wayOut(name string, addrs ...string) {
	g.GW.Addr(name, addrs...)
	g.GW.Route("0.0.0.0/0", "dev "+name)
	g.GW.Route("::/0", "dev "+name)
}

// works sees that all of the main job works over an uplink which holds these
// addresses, and that nothing else leaves. The code is that of status: it calls
// an interface of a pattern that is new since the apply a difference.
func (g *gateway) works(t *testing.T, v4, v6 string, code int) {
	t.Helper()
	inside := g.Server.Capture("eth0", lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/16")))
	defer inside.Stop()
	each(t, func(t *testing.T, ip family) {
		uplink := v4
		if ip.v6() {
			uplink = v6
		}
		c := opens(t, g.LAN1, at(ip.outside, 80), uplink)
		asks(t, g.LAN2, at(ip.outside, 53), uplink)
		pings(t, g.LAN1, ip.outside)
		if c != nil {
			if err := c.Echo(lab.Patience, strings.Repeat("x", 100_000)); err != nil {
				t.Errorf("full packets: %v", err)
			}
		}
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, g.Server, at(uplink, 8080), at(ip.lan1, 80), "")
		}
		before := g.leaksStopped(t, code)
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 4000, DstPort: 80, Flags: lab.RST, Seq: 1000}.Bytes())
		// What is sent later over the same link arrives later.
		asks(t, g.LAN1, at(ip.outside, 53), uplink)
		if stopped := g.leaksStopped(t, code) - before; stopped != 1 {
			t.Errorf("status counts %d leaks stopped after one lone RST", stopped)
		}
	})
	if inside.Sync(); inside.Count() != 0 {
		t.Errorf("left untranslated: %v", inside)
	}
}

// leaksStopped is how many leaks status has counted.
func (g *gateway) leaksStopped(t *testing.T, code int) (n uint64) {
	t.Helper()
	var status struct{ Entries []entry }
	if err := json.Unmarshal([]byte(g.ipmasq(t, code, "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	for _, e := range status.Entries {
		n += e.LeaksStopped
	}
	return n
}
