package lab_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What the lab is for: the server tells what the gateway made of the client.
func TestServerSeesTranslation(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	topo := lab.Gateway(t)
	topo.Forwarding(true)
	topo.GW.Feed(t, `
		table inet test {
			chain post {
				type nat hook postrouting priority srcnat; policy accept
				oifname "eth0" masquerade
			}
			chain pre {
				type nat hook prerouting priority dstnat; policy accept
				fib daddr type local tcp dport 8080 dnat ip to 192.168.1.10:80
			}
			chain forward {
				type filter hook forward priority filter; policy accept
				tcp dport 81 reject with icmpx admin-prohibited
				tcp dport 82 reject with tcp reset
				tcp dport 83 drop
			}
		}`, "nft", "-f", "-")
	topo.Server.ServeTCP(":80")
	topo.LAN1.ServeTCP(":80")
	leak := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))))
	for _, pair := range [][2]string{{lab.Outside, lab.GatewayUplink}, {lab.Outsidev6, lab.GatewayUplinkv6}} {
		c, err := topo.LAN1.DialTCP(lab.Patience, port(pair[0], "80"))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Seen().Peer.Addr().String(); got != pair[1] {
			t.Errorf("the server saw %s, want %s", got, pair[1])
		}
		for n, is := range map[string]func(error) bool{"81": lab.IsProhibited, "82": lab.IsRefused, "83": lab.IsTimeout} {
			within := lab.Patience
			if n == "83" {
				within = lab.Silence
			}
			if _, err := topo.LAN1.DialTCP(within, port(pair[0], n)); !is(err) {
				t.Errorf("port %s: %v", n, err)
			}
		}
	}
	c, err := topo.Neighbor.DialTCP(lab.Patience, port(lab.GatewayUplink, "8080"))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Seen(); s.Name != "lan1" || s.Peer != c.Local() || s.Local.String() != lab.LAN1+":80" {
		t.Errorf("through the port forward: %v", s)
	}
	leak.Sync()
	if leak.Count() != 0 {
		t.Errorf("left untranslated: %v", leak)
	}
}

func TestSwitch(t *testing.T) {
	l := lab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	s := l.Switch("a name that is cut", lab.Port{Host: a, Name: "eth0"}, lab.Port{Host: b, Name: "ppp0"})
	s.Connect(c, "eth0")
	a.Addr("eth0", "10.0.0.1/24")
	b.Addr("ppp0", "10.0.0.2/24")
	c.Addr("eth0", "10.0.0.3/24")
	other := c.Capture("eth0", lab.DstIn("10.0.0.2"))
	for _, to := range []string{"10.0.0.2", "10.0.0.3"} {
		if r, err := a.Ping(to, lab.Patience, lab.PingOptions{}); err != nil || !r.Echo() {
			t.Errorf("ping %s: %v, %v", to, r, err)
		}
	}
	if other.Sync(); other.Count() != 0 {
		t.Errorf("a switch that does not learn: %v", other)
	}

	asked := b.Capture("ppp0", func(p *lab.Packet) bool { return p.EtherType == 0x0806 && !p.Outgoing })
	a.FlushNeighbors("eth0")
	if _, err := a.Ping("10.0.0.2", lab.Patience, lab.PingOptions{}); err != nil {
		t.Error(err)
	}
	if asked.Sync(); asked.Count() == 0 {
		t.Error("no ARP after a flush")
	}
	a.Neighbor("eth0", "10.0.0.2", net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if _, err := a.Ping("10.0.0.2", lab.Silence, lab.PingOptions{}); !lab.IsTimeout(err) {
		t.Errorf("ping with a wrong neighbour: %v", err)
	}
}

func TestClientOptions(t *testing.T) {
	topo := routed(t)
	topo.Server.ServeTCP(":80")
	bulk := topo.Server.ServeTCP(":0", lab.ServeBytes(10), lab.As("bulk"))
	c, err := topo.LAN1.DialTCP(lab.Patience, port(lab.Outside, "80"), lab.Via("eth0"), lab.TTL(9), lab.NoGreeting())
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 5)
	if _, err := io.ReadFull(c, line); err != nil || string(line) != "peer=" {
		t.Errorf("read %q, %v", line, err)
	}
	rst := topo.Server.Capture("eth0", lab.All(lab.HasFlags(lab.RST), lab.SrcPort(c.Local().Port())))
	if err := c.Abort(); err != nil {
		t.Error(err)
	}
	if packets, err := rst.Wait(1, lab.Patience); err != nil || packets[0].TTL != 7 {
		t.Errorf("%v: %v", err, rst)
	}
	c, err = topo.LAN1.DialTCP(lab.Patience, port(lab.Outside, bulk.Addr().String()[strings.LastIndex(bulk.Addr().String(), ":")+1:]))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) != 10 || c.Seen().Name != "bulk" {
		t.Errorf("read %d bytes, %v from %v", len(b), err, c.Seen())
	}
	// The same ports again, as a client does that keeps its source port.
	for range 2 {
		c, err := topo.LAN1.DialTCP(lab.Patience, port(lab.Outside, "80"), lab.From(":4000"))
		if err != nil {
			t.Fatal(err)
		}
		c.Abort()
		topo.Settle()
	}
	c, err = topo.LAN1.DialTCP(lab.Patience, port(lab.Outside, "80"))
	if err != nil {
		t.Fatal(err)
	}
	topo.Server.SendPacket("eth0", lab.TCP{
		Header: lab.Between(lab.Outside, lab.LAN1), SrcPort: 80, DstPort: c.Local().Port(), Flags: lab.RST, Seq: 1,
	}.Bytes())
	topo.Settle()
	if err := c.Echo(lab.Patience, "out of window"); err != nil {
		t.Errorf("a blind RST cut the connection: %v", err)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{(lab.SYN | lab.ACK).String(), "SYN|ACK"},
		{lab.ICMP{Type: 3, Code: 4, MTU: 1400}.String(), "icmp type 3 code 4 mtu 1400"},
		{(&lab.NetError{Op: "dial tcp", Remote: "x", Err: io.EOF, ICMP: &lab.ICMP{V6: true, Type: 1}}).Error(), "dial tcp x: EOF (icmpv6 type 1 code 0)"},
		{decoded(t, lab.TCP{Header: lab.Between("10.0.0.1", "10.0.0.2"), SrcPort: 1, DstPort: 2, Flags: lab.RST}.Bytes()), "in 10.0.0.1:1 > 10.0.0.2:2 tcp RST ttl 64 len 40"},
		{decoded(t, lab.UDP{Header: lab.Between("fd00::1", "fd00::2"), SrcPort: 1, DstPort: 2}.Bytes()), "in [fd00::1]:1 > [fd00::2]:2 udp ttl 64 len 48"},
		{decoded(t, lab.ICMPEcho{Header: lab.Between("10.0.0.1", "10.0.0.2")}.Bytes()), "in 10.0.0.1 > 10.0.0.2 icmp type 8 code 0 ttl 64 len 28"},
		{lab.BrNetfilter().String(), "br_netfilter"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for _, bad := range []string{"", "peer=1.2.3.4:5 name=x", "peer=x local=y"} {
		if s, err := lab.ParseSeen(bad); err == nil {
			t.Errorf("read %q as %v", bad, s)
		}
	}
}

func decoded(t *testing.T, b []byte) string {
	t.Helper()
	p, err := lab.DecodeIP(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Checksum(); err != nil {
		t.Error(err)
	}
	return p.String()
}

// A damaged packet must not take the capture down with it.
func FuzzDecodeIP(f *testing.F) {
	h4, h6 := lab.Between("10.0.0.1", "10.0.0.2"), lab.Between("fd00::1", "fd00::2")
	long := make([]byte, 100)
	for _, b := range [][]byte{
		lab.TCP{Header: h4}.Bytes(), lab.UDP{Header: h6}.Bytes(), lab.ICMPEcho{Header: h6}.Bytes(),
		lab.Fragment(lab.UDP{Header: h6, Payload: long}.Bytes(), 96)[1],
		lab.ICMPError{Header: h4, Type: 3, Code: 4, Inner: lab.UDP{Header: h4}.Bytes()}.Bytes(),
	} {
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		p, err := lab.DecodeIP(b)
		if err != nil {
			return
		}
		_ = p.Checksum()
		_ = p.NextHopMTU()
		_, _ = p.Inner()
		_ = p.String()
	})
}
