package lab_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

func both() [][2]string {
	return [][2]string{{lab.LAN1, lab.Outside}, {lab.LAN1v6, lab.Outsidev6}}
}

func port(addr string, n string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + n
	}
	return addr + ":" + n
}

// Without forwarding, and without a route back, nothing gets through; with both everything does, unchanged.
func TestTopologyRoutes(t *testing.T) {
	topo := lab.Gateway(t, lab.SecondUplink(), lab.InsideRoutes(), lab.PathMTU(1500))
	tcp, udp := topo.Server.ServeTCP(":80"), topo.Server.ServeUDP(":53")
	for _, pair := range both() {
		if _, err := topo.LAN1.DialTCP(lab.Silence, port(pair[1], "80")); err == nil {
			t.Errorf("%s forwards from the start", pair[0])
		}
	}
	topo.Forwarding(true)
	for _, pair := range both() {
		c, err := topo.LAN1.DialTCP(lab.Patience, port(pair[1], "80"), lab.From(port(pair[0], "5000")))
		if err != nil {
			t.Fatal(err)
		}
		want := lab.Seen{
			Peer:  netip.MustParseAddrPort(port(pair[0], "5000")),
			Local: netip.MustParseAddrPort(port(pair[1], "80")),
			Name:  "server",
		}
		if c.Seen() != want || c.Local() != want.Peer {
			t.Errorf("seen %v, local %v, want %v", c.Seen(), c.Local(), want)
		}
		if err := c.Echo(lab.Patience, strings.Repeat("0123456789", 50_000)); err != nil {
			t.Error(err)
		}
		seen, err := topo.LAN1.UDPExchange(pair[0], port(pair[1], "53"), "question", lab.Patience)
		if err != nil || seen.Peer.Addr().String() != pair[0] || seen.Local.String() != port(pair[1], "53") {
			t.Errorf("udp: %v, %v", seen, err)
		}
		r, err := topo.LAN1.Ping(pair[1], lab.Patience, lab.PingOptions{})
		if err != nil || !r.Echo() || r.From.String() != pair[1] {
			t.Errorf("ping: %v, %v", r, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), lab.Patience)
	defer cancel()
	for _, s := range []*lab.Server{tcp, udp} {
		for i := range 2 {
			if p, err := s.WaitPeer(ctx); err != nil || p != s.Peers()[i] {
				t.Errorf("peer %d: %v, %v", i, p, err)
			}
		}
	}
	for _, h := range []*lab.Host{topo.LAN2, topo.DMZ, topo.Guest, topo.Neighbor, topo.ISP, topo.ISP2, topo.GW} {
		for _, pair := range both() {
			if r, err := h.Ping(pair[1], lab.Patience, lab.PingOptions{}); err != nil || !r.Echo() {
				t.Errorf("%s to server: %v, %v", h.Name(), r, err)
			}
		}
	}
}

// The routers outside must not know the way in: a test of translation would pass without translation.
func TestTopologyHidesInside(t *testing.T) {
	topo := lab.Gateway(t)
	topo.Forwarding(true)
	for _, to := range []string{lab.LAN1, lab.LAN1v6, lab.DMZ1, lab.Guest} {
		r, err := topo.Server.Ping(to, lab.Patience, lab.PingOptions{})
		if err != nil || !r.Unreachable() {
			t.Errorf("%s from outside: %v, %v", to, r, err)
		}
	}
	leak := topo.ISP.Capture("eth0", lab.All(lab.Incoming, lab.SrcIn("192.168.0.0/16")))
	if _, err := topo.LAN1.Ping(lab.Outside, lab.Silence, lab.PingOptions{}); !lab.IsTimeout(err) {
		t.Errorf("ping without translation: %v", err)
	}
	leak.Sync()
	if leak.Count() != 1 {
		t.Errorf("the untranslated packet is not seen: %v", leak)
	}
}

func TestInterfaceNames(t *testing.T) {
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "ppp0", LAN: "br-lan"}), lab.BridgedLAN(), lab.WithoutDMZ(), lab.WithoutGuest())
	if topo.DMZ != nil || topo.Guest != nil || topo.Names.Uplink != "ppp0" || topo.Names.LAN != "br-lan" {
		t.Errorf("%+v", topo.Names)
	}
	for _, name := range []string{"ppp0", "br-lan", "p1", "p2"} {
		if !topo.GW.HasLink(name) {
			t.Errorf("no %s", name)
		}
	}
	for _, to := range []string{lab.LAN2, lab.GatewayLAN, lab.GatewayUplink} {
		if r, err := topo.LAN1.Ping(to, lab.Patience, lab.PingOptions{}); err != nil || !r.Echo() {
			t.Errorf("lan1 to %s: %v, %v", to, r, err)
		}
	}
}

// What goes wrong must be told apart: "did not connect" is no finding.
func TestFailures(t *testing.T) {
	topo := lab.Gateway(t, lab.InsideRoutes())
	topo.Forwarding(true)
	topo.ISP.Route("198.51.100.101/32", "blackhole")
	topo.ISP.Route("198.51.100.102/32", "prohibit")
	topo.ISP.Route("198.51.100.103/32", "unreachable")
	topo.ISP.Route("2001:db8:100::101/128", "blackhole")
	topo.ISP.Route("2001:db8:100::102/128", "prohibit")
	topo.ISP.Route("2001:db8:100::103/128", "unreachable")
	kinds := []struct {
		name string
		is   func(error) bool
	}{
		{"refused", lab.IsRefused}, {"timeout", lab.IsTimeout}, {"prohibited", lab.IsProhibited}, {"unreachable", lab.IsUnreachable},
	}
	for to, want := range map[string]string{
		lab.Outside: "refused", "198.51.100.101": "timeout", "198.51.100.102": "prohibited", "198.51.100.103": "unreachable",
		lab.Outsidev6: "refused", "2001:db8:100::101": "timeout", "2001:db8:100::102": "prohibited", "2001:db8:100::103": "unreachable",
	} {
		within := lab.Patience
		if want == "timeout" {
			within = lab.Silence
		}
		_, tcp := topo.LAN1.DialTCP(within, port(to, "81"))
		_, udp := topo.LAN1.UDPExchange("", port(to, "81"), "x", within)
		for _, k := range kinds {
			if k.is(tcp) != (k.name == want) {
				t.Errorf("tcp to %s: %s is %v, want %s: %v", to, k.name, k.is(tcp), want, tcp)
			}
			if k.is(udp) != (k.name == want) {
				t.Errorf("udp to %s: %s is %v, want %s: %v", to, k.name, k.is(udp), want, udp)
			}
		}
	}
}

func TestPingErrors(t *testing.T) {
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.PathMTU(1300))
	topo.Forwarding(true)
	for i, pair := range both() {
		router, far := []string{lab.ISP, lab.ISPv6}[i], []string{lab.GatewayLAN, lab.GatewayLANv6}[i]
		big, err := topo.LAN1.Ping(pair[1], lab.Patience, lab.PingOptions{Size: 1500, DF: true})
		if err != nil || !big.TooBig() || big.MTU != 1300 || big.From.String() != router {
			t.Errorf("too big: %v, %v", big, err)
		}
		fits, err := topo.LAN1.Ping(pair[1], lab.Patience, lab.PingOptions{Size: 1300, DF: true, ID: 77})
		if err != nil || !fits.Echo() {
			t.Errorf("fits: %v, %v", fits, err)
		}
		expired, err := topo.LAN1.Ping(pair[1], lab.Patience, lab.PingOptions{TTL: 1})
		if err != nil || !expired.TimeExceeded() || expired.From.String() != far {
			t.Errorf("time exceeded: %v, %v", expired, err)
		}
	}
	// 1500 bytes in fragments get through.
	r, err := topo.LAN1.Ping(lab.Outside, lab.Patience, lab.PingOptions{Size: 4000})
	if err != nil || !r.Echo() {
		t.Errorf("fragments: %v, %v", r, err)
	}
	topo.SetPathMTU(1280)
	r, err = topo.LAN1.Ping(lab.Outside, lab.Patience, lab.PingOptions{Size: 1281, DF: true})
	if err != nil || r.MTU != 1280 {
		t.Errorf("after the change: %v, %v", r, err)
	}
	if _, err := topo.LAN1.Ping(lab.LAN2, lab.Patience, lab.PingOptions{Size: 1501, DF: true}); !lab.IsTooBig(err) {
		t.Errorf("above the own mtu: %v", err)
	}
}

// Path MTU discovery must work with real TCP in both directions, or a test of it on a gateway means nothing.
func TestDownloadOverNarrowPath(t *testing.T) {
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.PathMTU(1300))
	topo.Forwarding(true)
	const size = 2_000_000
	topo.Server.ServeTCP(":80", lab.ServeBytes(size))
	topo.LAN1.ServeTCP(":80", lab.ServeBytes(size))
	for _, leg := range []struct {
		from *lab.Host
		to   string
	}{{topo.LAN1, lab.Outside}, {topo.Server, lab.LAN1}, {topo.LAN1, lab.Outsidev6}, {topo.Server, lab.LAN1v6}} {
		c, err := leg.from.DialTCP(lab.Patience, port(leg.to, "80"))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Download(lab.Patience); err != nil || n != size {
			t.Errorf("download from %s: %d bytes, %v", leg.to, n, err)
		}
	}
}

func TestLongLivedSockets(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Link(a, "eth0", b, "eth0")
	a.Addr("eth0", "10.0.0.1/24")
	b.Addr("eth0", "10.0.0.2/24", "10.0.0.3/24")
	tcp, udp := b.ServeTCP("10.0.0.2:0"), b.ServeUDP(":0")
	c, err := a.DialTCP(lab.Patience, tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// A server on all addresses must answer from the one that was asked.
	u, err := a.DialUDP(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.3"), udp.Port()).String(), lab.From(":500"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.Echo(lab.Patience, "still here"); err != nil {
			t.Error(err)
		}
		seen, err := u.Exchange(lab.Patience, "still here")
		if err != nil || seen.Peer != u.Local() || seen.Peer.Port() != 500 {
			t.Errorf("udp: %v, %v", seen, err)
		}
	}
	b.Down("eth0")
	start := time.Now()
	if err := c.Echo(lab.Silence, "anybody"); !lab.IsTimeout(err) {
		t.Errorf("echo over a dead link: %v", err)
	}
	if took := time.Since(start); took > 3*lab.Silence {
		t.Errorf("a silence of %v", took)
	}
	b.Up("eth0")
	if err := c.Echo(lab.Patience, ""); err != nil {
		t.Error(err)
	}
	tcp.Close()
	if _, err := a.DialTCP(lab.Patience, tcp.Addr().String()); !lab.IsRefused(err) {
		t.Errorf("dial a closed server: %v", err)
	}
}
