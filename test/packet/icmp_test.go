package packet

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

const lanToWAN = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`

// Errors find their way through the translation in both directions: a closed
// port, routers on the way, and a host that does not want the answer any more.
func TestMasqueradeICMPErrors(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		failsUDP(t, g.LAN1, at(ip.outside, 4444), lab.IsRefused)
		fails(t, g.LAN1, at(ip.outside, 4444), lab.IsRefused)

		// A traceroute by each of its ways.
		for ttl, hop := range []string{ip.gwLAN, ip.isp} {
			r, err := g.LAN1.Ping(ip.outside, lab.Patience, lab.PingOptions{TTL: ttl + 1})
			if err != nil || !r.TimeExceeded() || r.From.String() != hop {
				t.Errorf("ping with ttl %d: %v, %v; want an answer of %s", ttl+1, r, err, hop)
			}
			c, err := g.LAN1.DialUDP(at(ip.outside, 53), lab.TTL(ttl+1))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Exchange(lab.Patience, "hello")
			if m := icmpOf(err); m == nil || !m.TimeExceeded() || m.From.String() != hop {
				t.Errorf("datagram with ttl %d: %v; want an answer of %s", ttl+1, err, hop)
			}
			c.Close()
		}

		// The other way: the inside host has closed its socket before the answer
		// comes, and says so. The server hears it from the gateway.
		reports := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP))
		c, err := g.LAN1.DialUDP(at(ip.outside, 4445))
		if err != nil {
			t.Fatal(err)
		}
		arrived := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(4445)))
		if err := c.Send("and gone"); err != nil {
			t.Error(err)
		}
		packets, err := arrived.Wait(1, lab.Patience)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		g.Settle()
		answer := lab.UDP{
			Header:  lab.Between(ip.outside, packets[0].Src.String()),
			SrcPort: 4445, DstPort: packets[0].SrcPort, Payload: []byte("too late"),
		}
		g.Server.SendPacket("eth0", answer.Bytes())
		got, err := reports.Wait(1, lab.Patience)
		if err != nil {
			t.Fatalf("no error for a late answer: %v", reports)
		}
		if got[0].Src.String() != ip.uplink {
			t.Errorf("the error came from %s, want %s", got[0].Src, ip.uplink)
		}
		if inner, err := got[0].Inner(); err != nil || inner.Dst != packets[0].Src || inner.DstPort != packets[0].SrcPort {
			t.Errorf("the error quotes %v, %v: the server knows no such packet", inner, err)
		}
		if err := got[0].Checksum(); err != nil {
			t.Error(err)
		}
	})
	leaks.none(t)
}

// The inside learns the MTU of the path, though the router that tells it knows
// the gateway alone.
func TestMasqueradePathMTU(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.PathMTU(1380), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	topo.Server.ServeTCP(":9000", lab.ServeBytes(2<<20))
	for _, h := range []*lab.Host{topo.Server, topo.LAN1} {
		h.NoOffload("eth0")
	}
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		told := g.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, func(p *lab.Packet) bool { return p.NextHopMTU() > 0 }))
		// Up: the inside host sends too much and is told.
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		if c == nil {
			return
		}
		if err := c.Echo(lab.Patience, strings.Repeat("x", 1<<20)); err != nil {
			t.Errorf("a megabyte there and back: %v", err)
		}
		packets, err := told.Wait(1, lab.Patience)
		if err != nil {
			t.Errorf("nobody told the inside host of the MTU: %v", err)
		} else if packets[0].NextHopMTU() != 1380 || packets[0].Src.String() != ip.isp {
			t.Errorf("was told: %v, MTU %d", packets[0], packets[0].NextHopMTU())
		}
		if inner, err := packets[0].Inner(); err == nil && inner.Src.String() != ip.lan1 {
			t.Errorf("what it was told quotes %v", inner)
		}
		// Down: the server learns.
		c = opens(t, g.LAN1, at(ip.outside, 9000), ip.uplink)
		if c == nil {
			return
		}
		if n, err := c.Download(lab.Patience); err != nil || n != 2<<20 {
			t.Errorf("downloaded %d bytes, %v", n, err)
		}
	})
	leaks.none(t)
}

// Fragments are put together, translated, and cut again.
func TestMasqueradeFragments(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		payload := strings.Repeat("0123456789", 800)
		// Of this family alone: the last ones of the other may still be on their way.
		pieces := g.GW.Capture("eth0", func(p *lab.Packet) bool { return p.FragmentOffset > 0 && p.Dst.Is6() == ip.v6() })
		seen, err := g.LAN1.UDPExchange("", at(ip.outside, 53), payload, lab.Patience)
		if err != nil || seen.Peer.Addr().String() != ip.uplink {
			t.Errorf("8000 bytes there and back: the server saw %v, %v", seen, err)
		}
		if r, err := g.LAN1.Ping(ip.outside, lab.Patience, lab.PingOptions{Size: 5000}); err != nil || !r.Echo() {
			t.Errorf("a ping of 5000 bytes: %v, %v", r, err)
		}
		pieces.Sync()
		for _, p := range pieces.Packets() {
			want := netip.MustParseAddr(ip.uplink)
			if p.Outgoing && p.Src != want || !p.Outgoing && p.Dst != want {
				t.Errorf("a fragment that is not translated: %v", p)
			}
		}
		if pieces.Count() < 16 {
			t.Errorf("%d fragments passed by: this tests nothing", pieces.Count())
		}
		// Fragments in the wrong order, from a host that makes its own.
		arrived := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP))
		whole := lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 5000, DstPort: 53, Payload: bytes.Repeat([]byte("y"), 2000)}
		fragments := lab.Fragment(whole.Bytes(), 800)
		for i := range fragments {
			g.LAN1.SendPacket("eth0", fragments[len(fragments)-1-i])
		}
		if _, err := arrived.Wait(2, lab.Patience); err != nil {
			t.Errorf("fragments in the wrong order did not arrive: %v", arrived)
		}
	})
	leaks.none(t)
}
