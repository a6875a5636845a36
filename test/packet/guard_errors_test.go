package packet

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An ICMP error about a flow is part of it, whoever sends it. Where the outside
// opened the flow by right, it hears of errors from the address that it knows:
// not from a router, or from somebody who makes one up, on the inside.
func TestGuardErrorsOfOthers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {name: out, from: [lan, dmz], to: wan}
port_forward:
  - {name: dns, from: wan, protocol: udp, ports: 5300, to: "192.168.2.10:123"}
  - {name: dns6, from: wan, protocol: udp, ports: 5300, to: "[fd00:2::10]:123"}
forward:
  rules:
    - {name: in, from: wan, to: dmz, protocol: udp, ports: 53, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		for _, flow := range []struct {
			name            string
			remote, known   string
			port, knownPort uint16 // of the target, and as the outside knows it
		}{
			{"routed", at(ip.dmz, 53), ip.dmz, 53, 53},
			{"forwarded", at(ip.uplink, 5300), ip.uplink, 123, 5300},
		} {
			if g.variant != "" && flow.name == "routed" {
				continue // nobody changes whose address such an error comes from, so it is stopped
			}
			c, err := g.Server.DialUDP(flow.remote)
			if err != nil {
				t.Fatal(err)
			}
			if seen, err := c.Exchange(lab.Patience, "hello"); err != nil || seen.Peer.Addr().String() != ip.outside {
				t.Fatalf("%s: the target saw %v, %v", flow.name, seen, err)
			}
			heard := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, func(p *lab.Packet) bool {
				inner, err := p.Inner()
				return err == nil && inner.SrcPort == c.Local().Port()
			}))
			leaks := leaks{g.GW.Capture("eth0", lab.All(lab.Outgoing, lab.SrcIn(ip.lanNet)))}
			quoted := lab.UDP{Header: lab.Between(ip.outside, ip.dmz), SrcPort: c.Local().Port(), DstPort: flow.port, Payload: []byte("hello")}.Bytes()
			for _, sender := range []struct {
				host *lab.Host
				addr string
			}{{g.DMZ, ip.dmz}, {g.LAN1, ip.lan1}} {
				kind := uint8(3) // unreachable
				if ip.v6() {
					kind = 1
				}
				sender.host.SendPacket("eth0", lab.ICMPError{Header: lab.Between(sender.addr, ip.outside), Type: kind, Code: 1, Inner: quoted}.Bytes())
			}
			packets, err := heard.Wait(2, lab.Patience)
			if err != nil {
				t.Errorf("%s: the outside did not hear of both errors: %v", flow.name, heard)
			}
			for _, p := range packets {
				if p.Src.String() != flow.known {
					t.Errorf("%s: an error from %s, want %s", flow.name, p.Src, flow.known)
				}
				if inner, err := p.Inner(); err != nil || inner.To() != netip.AddrPortFrom(netip.MustParseAddr(flow.known), flow.knownPort) {
					t.Errorf("%s: the error quotes %v, %v", flow.name, inner, err)
				}
				if err := p.Checksum(); err != nil {
					t.Errorf("%s: %v", flow.name, err)
				}
			}
			leaks.none(t)
			leaks.stop()
			heard.Stop()
			c.Close()
		}
	})
	if e := g.entry(t, "masquerade out"); e.LeaksStopped != 0 {
		t.Errorf("status counts %+v", e)
	}
	g.delete(t)
}

// Where no entry translates, an error leaves as it is: a router on the way
// says who it is.
func TestGuardSparesErrorsOfRouters(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {from: lan, to: wan}
forward:
  rules:
    - {name: in, from: wan, to: dmz, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		c, err := g.Server.DialUDP(at(ip.dmz, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Exchange(lab.Patience, "hello"); err != nil {
			t.Fatal(err)
		}
		router := netip.MustParseAddr(ip.dmz).Next().Next()
		heard := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, func(p *lab.Packet) bool { return p.Src == router }))
		quoted := lab.UDP{Header: lab.Between(ip.outside, ip.dmz), SrcPort: c.Local().Port(), DstPort: 53, Payload: []byte("hello")}.Bytes()
		kind := uint8(11) // time exceeded
		if ip.v6() {
			kind = 3
		}
		g.DMZ.SendPacket("eth0", lab.ICMPError{Header: lab.Between(router.String(), ip.outside), Type: kind, Inner: quoted}.Bytes())
		if _, err := heard.Wait(1, lab.Patience); err != nil {
			t.Errorf("the outside did not hear of the router: %v", heard)
		}
	})
}
