package packet

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Whatever comes back comes from the address that the client asked: answers,
// refusals, and the ICMP errors of the target. No inside address gets out.
func TestPortForwardAnswers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+"masquerade: [{from: lan, to: wan}]\n"+ip.forwards(`
  - {name: open, from: wan, protocol: [tcp, udp], ports: [80, 90], to: "$lan1:80"}
  - {name: shut, from: wan, protocol: [tcp, udp], ports: [81, 91], to: "$lan1:81"}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 100-110, to: "$lan1:200-210"}
`))
		leak := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.SrcIn(ip.lanNet)))
		for _, port := range []int{80, 90} {
			lands(t, "tcp", topo.Neighbor, at(ip.uplink, port), at(ip.lan1, 80), "")
			lands(t, "udp", topo.Neighbor, at(ip.uplink, port), at(ip.lan1, 80), "")
		}
		for _, port := range []int{81, 91, 105} {
			remote := at(ip.uplink, port)
			answer := topo.Neighbor.Capture("eth0", lab.All(lab.Incoming, lab.Any(lab.IsICMP, lab.HasFlags(lab.RST))))
			fails(t, topo.Neighbor, remote, lab.IsRefused)
			if packets, err := answer.Wait(1, lab.Patience); err != nil || packets[0].Flags&lab.RST == 0 || packets[0].From() != netip.MustParseAddrPort(remote) {
				t.Errorf("to the closed TCP port %d: %v", port, answer)
			}
			answer.Reset()
			failsUDP(t, topo.Neighbor, remote, lab.IsRefused)
			complaint(t, answer, ip.uplink, remote)
		}
		// The gateway did not say it in the target's place.
		asked := topo.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(205)))
		failsUDP(t, topo.Server, at(ip.uplink, 105), lab.IsRefused)
		if asked.Sync(); asked.Count() != 1 {
			t.Errorf("the target got %d datagrams, want 1", asked.Count())
		}
		leak.Sync()
		if leak.Count() != 0 {
			t.Errorf("left with an inside address: %v", leak)
		}
	})
	g.delete(t)
}

// Path MTU discovery works through a port forward, in both directions.
func TestPortForwardPathMTU(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.PathMTU(1300))
	g := untouched(t, topo)
	topo.LAN1.NoOffload("eth0")
	topo.Server.NoOffload("eth0")
	topo.LAN1.ServeTCP(":80", lab.ServeBytes(200_000))
	topo.LAN1.ServeTCP(":81")
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: web, from: wan, protocol: tcp, ports: 8080-8081, to: "$lan1:80-81"}
`))
		told := topo.LAN1.Capture("eth0", lab.All(lab.Incoming, func(p *lab.Packet) bool { return p.NextHopMTU() > 0 }))
		c := opens(t, topo.Server, at(ip.uplink, 8080), ip.outside)
		if c == nil {
			return
		}
		if n, err := c.Download(lab.Patience); err != nil || n != 200_000 {
			t.Errorf("%d bytes came, %v", n, err)
		}
		packets, err := told.Wait(1, lab.Patience)
		if err != nil {
			t.Fatalf("nobody told the target: %v", err)
		}
		// About its own packet, as it sent it.
		if inner, err := packets[0].Inner(); err != nil || inner.From().String() != at(ip.lan1, 80) || packets[0].NextHopMTU() != 1300 {
			t.Errorf("the target was told %v about %v, %v", packets[0], inner, err)
		}
		if c := opens(t, topo.Server, at(ip.uplink, 8081), ip.outside); c != nil {
			if err := c.Echo(lab.Patience, strings.Repeat("x", 200_000)); err != nil {
				t.Error(err)
			}
		}
	})
	g.delete(t)
}

// One UDP socket that talks to several forwards of one gateway hears each of
// them from the port that it asked.
func TestPortForwardUDPSocket(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 53, 54)
	listens(topo.LAN2, 53)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: dns, from: wan, map: {udp/5301: "$lan1:53", udp/5302: "$lan2:53", udp/5303: "$lan1:54"}}
`))
		for port, target := range map[int]string{5301: at(ip.lan1, 53), 5302: at(ip.lan2, 53), 5303: at(ip.lan1, 54)} {
			c, err := topo.Neighbor.DialUDP(at(ip.uplink, port), lab.From(at(ip.neighbor, 4000)))
			if err != nil {
				t.Fatal(err)
			}
			// The same source port each time, and more than one datagram.
			for _, payload := range []string{"one", "two", strings.Repeat("x", 4000)} {
				seen, err := c.Exchange(lab.Patience, payload)
				if err != nil || seen.Local.String() != target || seen.Peer.String() != at(ip.neighbor, 4000) {
					t.Errorf("port %d: %v, %v; want %s", port, seen, err, target)
				}
			}
			c.Close()
		}
	})
	g.delete(t)
}
