package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An inside host that sends to another zone from an address of the outside
// would have the answer leave by the uplink, with an inside source. No network
// tells that the source is forged, and rp_filter is off.
func TestGuardForgedOutside(t *testing.T) {
	for name, dmz := range map[string]string{"by name": "eth2", "by wildcard": "eth2*"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
			answering(topo.DMZ, topo.Server)
			g := untouched(t, topo)
			for _, link := range []string{"all", "eth0", "eth1", "eth2"} {
				topo.GW.Sysctl("net.ipv4.conf."+link+".rp_filter", "0")
			}
			g.sysctl = g.sysctls(t)
			g.apply(t, strings.Replace(`
zones:
  lan: {interfaces: eth1}
  dmz: {interfaces: $dmz}
  wan: {interfaces: eth0}
masquerade:
  - {name: out, from: [lan, dmz], to: wan}
forward:
  rules:
    - {from: [lan, wan], to: dmz, action: accept}
`, "$dmz", `"`+dmz+`"`, 1))
			leaks := leaks{g.GW.Capture("eth0", lab.All(lab.Outgoing, lab.DstPort(999)))}
			each(t, func(t *testing.T, ip family) {
				// Who knows whom, so that an answer would be quick.
				opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
				before := g.entry(t, "masquerade out").LeaksStopped
				forged := lab.Between(ip.outside, ip.dmz)
				g.LAN1.SendPacketTo("eth0", g.GW.MAC("eth1"), lab.UDP{Header: forged, SrcPort: 999, DstPort: 53, Payload: []byte("forged")}.Bytes())
				g.LAN1.SendPacketTo("eth0", g.GW.MAC("eth1"), lab.TCP{Header: forged, SrcPort: 999, DstPort: 80, Flags: lab.SYN, Seq: 1}.Bytes())
				g.LAN1.SendPacketTo("eth0", g.GW.MAC("eth1"), lab.ICMPEcho{Header: forged, ID: 999}.Bytes())
				g.Settle()
				leaks.none(t)
				// Iptables stops the answers, of which the server repeats one.
				if n := g.entry(t, "masquerade out").LeaksStopped - before; n != 3 && (g.variant == "" || n < 3) {
					t.Errorf("%d leaks stopped, want 3", n)
				}
				// What is as it should be passes, the outside's own flows too.
				tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
				tcp(g.DMZ, ip.outside, 80).sees(t, ip.uplink)
				tcp(g.Server, ip.dmz, 80).sees(t, ip.outside)
				udp(g.Neighbor, ip.dmz, 53).sees(t, ip.neighbor)
			})
			g.delete(t)
		})
	}
}
