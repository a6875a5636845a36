package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An inside network whose link goes down has no route any more, and what other
// inside hosts go on answering it would leave by the default route.
func TestGuardLostRoute(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {name: out, from: [lan, dmz], to: wan}
forward:
  rules:
    - {from: [lan, wan], to: dmz, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		if c == nil {
			return
		}
		asks(t, g.LAN1, at(ip.dmz, 53), ip.lan1)
		leaks := g.leaks(t)
		defer leaks.stop()
		before := g.entry(t, "masquerade out").LeaksStopped
		which := map[bool]string{false: "-4", true: "-6"}[ip.v6()]
		g.GW.Run(t, "ip", which, "route", "del", ip.lanNet, "dev", "eth1")
		for _, flags := range []lab.TCPFlags{lab.ACK, lab.RST, lab.PSH | lab.ACK} {
			g.DMZ.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.dmz, ip.lan1), SrcPort: 80, DstPort: c.Local().Port(), Flags: flags, Seq: 1, Ack: 1}.Bytes())
		}
		g.Settle()
		leaks.none(t)
		if g.entry(t, "masquerade out").LeaksStopped == before {
			t.Error("status counts no leak that was stopped")
		}
		g.GW.Run(t, "ip", which, "route", "add", ip.lanNet, "dev", "eth1")
		carries(t, opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1))
		// What the outside opened is answered as ever.
		carries(t, opens(t, g.Server, at(ip.dmz, 80), ip.outside))
	})
}

// Networks may be written so wide that the uplink's are among them. What the
// outside opened from there is answered.
func TestGuardWideNetworks(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := untouched(t, topo)
	for _, networks := range []string{`[0.0.0.0/0, "::/0"]`, `[192.0.0.0/8, 203.0.0.0/8, "fd00::/8", "2001:db8:113::/48"]`} {
		g.apply(t, `
zones:
  lan: {interfaces: [eth1], networks: `+networks+`}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: out, from: [lan, dmz], to: wan}
forward:
  rules:
    - {from: wan, to: dmz, action: accept}
`)
		each(t, func(t *testing.T, ip family) {
			for _, h := range []*lab.Host{g.Server, g.Neighbor} {
				self := g.address(h, ip)
				carries(t, opens(t, h, at(ip.dmz, 80), self))
				asks(t, h, at(ip.dmz, 53), self)
			}
			opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		})
		if e := g.entry(t, "masquerade out"); e.LeaksStopped != 0 {
			t.Errorf("status counts %+v", e)
		}
	}
	g.delete(t)
}
