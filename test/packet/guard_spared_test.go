package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What the outside opened by right is answered untranslated, from a zone that
// is masqueraded and from one that is not. Nothing of it is a leak.
func TestGuardSparesAnswers(t *testing.T) {
	for _, masquerade := range []bool{true, false} {
		name, entries := "masqueraded", "[lan, dmz]"
		if !masquerade {
			name, entries = "not masqueraded", "lan"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
			answering(topo.Server, topo.DMZ, topo.LAN1)
			topo.DMZ.ServeTCP(":9000", lab.ServeBytes(1<<20))
			g := applied(t, topo, zones+`
masquerade:
  - {name: out, from: `+entries+`, to: wan}
forward:
  rules:
    - {name: in, from: wan, to: dmz, action: accept}
`)
			each(t, func(t *testing.T, ip family) {
				for _, h := range []*lab.Host{g.Server, g.Neighbor} {
					self := g.address(h, ip)
					carries(t, opens(t, h, at(ip.dmz, 80), self))
					asks(t, h, at(ip.dmz, 53), self)
					pings(t, h, ip.dmz)
					// Answers that are errors, and those of a closed port.
					if g.variant == "" { // iptables cannot tell whose address such an error comes from
						failsUDP(t, h, at(ip.dmz, 4444), lab.IsRefused)
					}
					fails(t, h, at(ip.dmz, 4444), lab.IsRefused)
				}
				if c := opens(t, g.Server, at(ip.dmz, 9000), ip.outside); c != nil {
					if n, err := c.Download(lab.Patience); err != nil || n != 1<<20 {
						t.Errorf("downloaded %d bytes, %v", n, err)
					}
				}
				fails(t, g.Server, at(ip.lan1, 80), lab.IsTimeout) // no rule says so
			})
			if e := g.entry(t, "masquerade out"); e.LeaksStopped != 0 || e.NewFlows != 0 {
				t.Errorf("status counts %+v", e)
			}
			// The other direction of the same pair of hosts is as ever.
			g.Settle() // the last answers of what was open
			leaks := g.leaks(t)
			each(t, func(t *testing.T, ip family) {
				if masquerade {
					tcp(g.DMZ, ip.outside, 80).sees(t, ip.uplink)
				} else {
					tcp(g.DMZ, ip.outside, 80).dropped(t)
				}
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}

// A conntrack entry that the outside opened does not cover for what the inside
// host makes up beside it.
func TestGuardBesideAnswers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {from: [lan, dmz], to: wan}
forward:
  rules:
    - {from: wan, to: dmz, protocol: tcp, ports: 80, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.Server, at(ip.dmz, 80), ip.outside)
		if c == nil {
			return
		}
		legal := lab.SrcPort(80)
		inside := lab.All(lab.Outgoing, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8")), lab.Not(legal))
		leaks := leaks{g.GW.Capture("eth0", inside)}
		for _, port := range []uint16{81, c.Local().Port()} {
			for _, flags := range []lab.TCPFlags{lab.RST, lab.SYN | lab.ACK, lab.ACK, lab.FIN | lab.ACK, 0} {
				g.DMZ.SendPacket("eth0", lab.TCP{
					Header: lab.Between(ip.dmz, ip.outside), SrcPort: port, DstPort: c.Local().Port(), Flags: flags, Seq: 1, Ack: 1,
				}.Bytes())
			}
		}
		// From another host's address.
		g.DMZ.SendPacket("eth0", lab.TCP{
			Header: lab.Between(ip.lan1, ip.outside), SrcPort: 80, DstPort: c.Local().Port(), Flags: lab.ACK, Seq: 1, Ack: 1,
		}.Bytes())
		g.Settle()
		leaks.none(t)
		carries(t, c)
	})
}

// An exception leaves as it is: the guard does not want it translated.
func TestGuardSparesExceptions(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.Neighbor)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
sets:
  vpn: [203.0.113.3, "2001:db8:113::3"]
masquerade:
  - {from: lan, to: wan, except_destinations: "@vpn"}
forward:
  rules:
    - {from: lan, to: wan, destinations: "@vpn", action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.neighbor, 80).sees(t, ip.lan1)
		udp(g.LAN1, ip.neighbor, 53).sees(t, ip.lan1)
		ping(g.LAN1, ip.neighbor).sees(t, "")
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
	})
	if e := g.entry(t, "masquerade lan-wan"); e.LeaksStopped != 0 || e.NewFlows != 2 {
		t.Errorf("status counts %+v, want 2 flows", e)
	}
	// A stray to an exception is invalid, and that is another matter.
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.neighbor), SrcPort: 4000, DstPort: 80, Flags: lab.RST}.Bytes())
	})
	g.Settle()
	leaks.none(t)
	g.delete(t)
}
