package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// routed is a topology through which everything passes unchanged.
func routed(t *testing.T, opts ...lab.GatewayOption) *lab.Topology {
	t.Helper()
	topo := lab.Gateway(t, append(opts, lab.InsideRoutes())...)
	topo.Forwarding(true)
	return topo
}

// A count that misses one packet, or sees one twice, cannot show that a reload leaks none.
func TestCaptureIsExact(t *testing.T) {
	topo := routed(t)
	const sends = 500
	udp := func(i int) lab.Filter {
		return lab.All(lab.IsUDP, lab.DstPort(uint16(9000+i)))
	}
	for i := range 4 {
		in := topo.LAN1.Capture("eth0", udp(i))
		gwIn, gwOut := topo.GW.Count("eth1", udp(i)), topo.GW.Capture("eth0", lab.All(udp(i), lab.Outgoing))
		out := topo.Server.Capture("eth0", lab.All(udp(i), lab.Incoming))
		for n := range sends {
			packet := lab.UDP{
				Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 1, DstPort: uint16(9000 + i), Payload: fmt.Append(nil, n),
			}
			topo.LAN1.SendPacket("eth0", packet.Bytes())
		}
		out.Sync()
		for _, c := range []*lab.Capture{in, gwIn, gwOut, out} {
			if c.Count() != sends || c.Drops() != 0 {
				t.Fatalf("round %d: %d packets and %d drops, want %d", i, c.Count(), c.Drops(), sends)
			}
			if want := int64(out.Bytes()); c.Bytes() != want {
				t.Errorf("%d bytes, want %d", c.Bytes(), want)
			}
		}
		for n, p := range out.Packets() {
			if want := fmt.Sprint(n); string(p.Payload) != want || p.TTL != 62 || p.Outgoing {
				t.Fatalf("packet %d: %v with payload %q, want %q", n, p, p.Payload, want)
			}
		}
		for _, c := range []*lab.Capture{in, gwIn, gwOut, out} {
			c.Close()
		}
	}
}

func TestCaptureWaits(t *testing.T) {
	topo := routed(t)
	c := topo.Server.Capture("eth0", lab.IsICMP)
	go topo.LAN1.Ping(lab.Outside, lab.Patience, lab.PingOptions{ID: 9})
	packets, err := c.Wait(2, lab.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := packets[0], packets[1]; !a.IsEchoRequest() || a.Outgoing || !b.IsEchoReply() || !b.Outgoing || a.SrcPort != 9 {
		t.Errorf("got %v", c)
	}
	c.Reset()
	if _, err := c.Wait(1, lab.Silence); !lab.IsTimeout(err) {
		t.Errorf("wait for nothing: %v", err)
	}
	c.Stop()
	if _, err := topo.LAN1.Ping(lab.Outside, lab.Patience, lab.PingOptions{}); err != nil {
		t.Error(err)
	}
	if c.Count() != 0 {
		t.Errorf("records after Stop: %v", c)
	}
}

// An interface that goes away must not hang or kill the capture.
func TestCaptureOutlivesItsInterface(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Link(a, "eth0", b, "eth0")
	a.Addr("eth0", "10.0.0.1/24")
	c := b.Capture("eth0", lab.IsUDP)
	for range 2 {
		if err := a.SendUDP("", "10.0.0.255:9", "broadcast"); err != nil {
			t.Error(err)
		}
		a.SendPacketTo("eth0", b.MAC("eth0"), lab.UDP{Header: lab.Between("10.0.0.1", "10.0.0.2")}.Bytes())
		b.Down("eth0")
		b.Up("eth0")
	}
	c.Sync()
	if c.Count() != 4 {
		t.Errorf("got %v", c)
	}
	b.DeleteLink("eth0")
	c.Stop()
}

func TestPacketsArriveAsBuilt(t *testing.T) {
	topo := routed(t)
	inner := lab.UDP{Header: lab.Between(lab.Outside, lab.LAN1), SrcPort: 53, DstPort: 5353, Payload: []byte("inner")}.Bytes()
	inner6 := lab.UDP{Header: lab.Between(lab.Outsidev6, lab.LAN1v6), SrcPort: 53, DstPort: 5353, Payload: []byte("inner")}.Bytes()
	v4, v6 := lab.Between(lab.LAN1, lab.Outside), lab.Between(lab.LAN1v6, lab.Outsidev6)
	ttl := v4
	ttl.TTL, ttl.DF, ttl.ID, ttl.TOS = 9, true, 4242, 0x10
	got := topo.Server.Capture("eth0", lab.All(lab.Incoming, lab.Any(lab.SrcIn(lab.LAN1), lab.SrcIn(lab.LAN1v6))))
	for _, c := range []struct {
		name   string
		packet []byte
		check  func(lab.Packet) bool
	}{
		{"rst", lab.TCP{Header: v4, SrcPort: 5000, DstPort: 80, Flags: lab.RST, Seq: 7}.Bytes(), func(p lab.Packet) bool {
			return p.Flags == lab.RST && p.Seq == 7 && p.From().String() == lab.LAN1+":5000" && p.To().Port() == 80
		}},
		{"xmas6", lab.TCP{Header: v6, SrcPort: 5000, DstPort: 80, Flags: lab.FIN | lab.PSH | lab.URG, Payload: []byte("odd")}.Bytes(), func(p lab.Packet) bool {
			return p.Flags == lab.FIN|lab.PSH|lab.URG && string(p.Payload) == "odd" && p.From().String() == "["+lab.LAN1v6+"]:5000"
		}},
		{"synack", lab.TCP{Header: v4, SrcPort: 80, DstPort: 5000, Flags: lab.SYN | lab.ACK, Ack: 1 << 31, MSS: 1460}.Bytes(), func(p lab.Packet) bool {
			return p.Flags.String() == "SYN|ACK" && p.Ack == 1<<31 && len(p.Payload) == 0
		}},
		{"header", lab.UDP{Header: ttl, SrcPort: 1, DstPort: 2}.Bytes(), func(p lab.Packet) bool {
			return p.TTL == 7 && p.DF && p.ID == 4242 && p.TOS == 0x10
		}},
		{"udp6", lab.UDP{Header: v6, SrcPort: 1, DstPort: 2, Payload: []byte("odd")}.Bytes(), func(p lab.Packet) bool {
			return p.DstPort == 2 && string(p.Payload) == "odd" && p.Length == 40+8+3
		}},
		{"echo", lab.ICMPEcho{Header: v4, ID: 3, Seq: 4, Payload: []byte("abc")}.Bytes(), func(p lab.Packet) bool {
			return p.IsEchoRequest() && p.SrcPort == 3 && p.Seq == 4 && string(p.Payload) == "abc"
		}},
		{"echo reply6", lab.ICMPEcho{Header: v6, ID: 3, Reply: true}.Bytes(), func(p lab.Packet) bool { return p.IsEchoReply() && p.SrcPort == 3 }},
		{"frag needed", lab.ICMPError{Header: v4, Type: 3, Code: 4, MTU: 1280, Inner: inner}.Bytes(), func(p lab.Packet) bool {
			quoted, err := p.Inner()
			return err == nil && p.NextHopMTU() == 1280 && quoted.SrcPort == 53 && string(quoted.Payload) == "inner"
		}},
		{"too big", lab.ICMPError{Header: v6, Type: 2, MTU: 1280, Inner: inner6}.Bytes(), func(p lab.Packet) bool {
			quoted, err := p.Inner()
			return err == nil && p.NextHopMTU() == 1280 && quoted.DstPort == 5353
		}},
		{"gre", lab.Raw{Header: v4, Proto: 47, Payload: []byte{0, 0, 8, 0, 1}}.Bytes(), func(p lab.Packet) bool {
			return p.Proto == 47 && len(p.Payload) == 5
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got.Reset()
			topo.LAN1.SendPacket("eth0", c.packet)
			got.Sync()
			packets := got.Packets()
			if len(packets) != 1 {
				t.Fatalf("want one packet: %v", got)
			}
			p := packets[0]
			if err := p.Checksum(); err != nil {
				t.Error(err)
			}
			if !c.check(p) {
				t.Errorf("arrived as %v with payload %q", p, p.Payload)
			}
		})
	}
}

// The kernel drops a segment with a wrong checksum without a word; the builder's must be right.
func TestBuiltPacketsAreAnswered(t *testing.T) {
	topo := routed(t)
	topo.Server.ServeUDP(":53")
	for _, pair := range both() {
		answers := topo.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.SrcIn(pair[1]), lab.Any(lab.IsTCP, lab.IsUDP, lab.IsICMP)))
		h := lab.Between(pair[0], pair[1])
		topo.LAN1.SendPacket("eth0",
			lab.TCP{Header: h, SrcPort: 5000, DstPort: 81, Flags: lab.SYN}.Bytes(),
			lab.UDP{Header: h, SrcPort: 5000, DstPort: 53, Payload: []byte("?")}.Bytes(),
			lab.ICMPEcho{Header: h, ID: 7, Payload: []byte("?")}.Bytes(),
		)
		packets, err := answers.Wait(3, lab.Patience)
		if err != nil {
			t.Fatalf("%v: %v", err, answers)
		}
		for _, p := range packets {
			if err := p.Checksum(); err != nil {
				t.Error(err)
			}
		}
		answers.Close()
	}
}

func TestFragments(t *testing.T) {
	topo := routed(t)
	payload := []byte(strings.Repeat("0123456789abcdef", 300))
	for _, pair := range both() {
		echo := lab.ICMPEcho{Header: lab.Between(pair[0], pair[1]), ID: 7, Payload: payload}
		out := topo.LAN1.Capture("eth0", lab.All(lab.DstIn(pair[1]), lab.Outgoing))
		back := topo.LAN1.Capture("eth0", lab.All(lab.SrcIn(pair[1]), lab.Incoming))
		fragments := lab.Fragment(echo.Bytes(), 1400)
		topo.LAN1.SendPacket("eth0", fragments...)
		packets, err := back.Wait(4, lab.Patience)
		if err != nil {
			t.Fatalf("no answer to fragments: %v\n%v", err, out)
		}
		var whole []byte
		for i, p := range packets {
			if p.MoreFragments != (i < len(packets)-1) || i > 0 && p.FragmentOffset != len(whole)+8 {
				t.Errorf("fragment %d: %v", i, p)
			}
			whole = append(whole, p.Payload...)
		}
		if !bytes.Equal(whole, payload) {
			t.Errorf("%d bytes came back, %d were sent", len(whole), len(payload))
		}
		if got := out.Packets(); len(got) != len(fragments) || len(got) != 4 {
			t.Errorf("%d fragments made, %d sent", len(fragments), len(got))
		}
		out.Close()
		back.Close()
	}
}

func TestNoOffload(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Link(a, "eth0", b, "eth0")
	a.Addr("eth0", "10.0.0.1/24")
	b.Addr("eth0", "10.0.0.2/24")
	b.ServeTCP(":80")
	exchange := func() (large, partial int) {
		t.Helper()
		c := b.Capture("eth0", lab.All(lab.IsTCP))
		defer c.Close()
		conn, err := a.DialTCP(lab.Patience, "10.0.0.2:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Echo(lab.Patience, strings.Repeat("x", 200_000)); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Packets() {
			if p.Length > 1500 {
				large++
			}
			if p.PartialChecksum {
				partial++
			}
			if err := p.Checksum(); err != nil {
				t.Error(err)
			}
		}
		return large, partial
	}
	if large, partial := exchange(); large == 0 || partial == 0 {
		t.Logf("offload is off from the start: %d large, %d partial", large, partial)
	}
	a.NoOffload("eth0")
	b.NoOffload("eth0")
	if large, partial := exchange(); large != 0 || partial != 0 {
		t.Errorf("with offload off: %d large packets, %d partial checksums", large, partial)
	}
}

func TestFlood(t *testing.T) {
	topo := routed(t)
	packet := lab.UDP{Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 1, DstPort: 9999, Payload: []byte("flood")}.Bytes()
	topo.Server.ServeUDP(":9998")
	topo.Server.Route(lab.LAN1+"/32", "blackhole") // no ICMP errors: half of the work
	for _, rate := range []int{1_000, 20_000, 50_000} {
		c := topo.Server.Count("eth0", lab.DstPort(9999))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		start := time.Now()
		sent, err := topo.LAN1.Flood(ctx, "eth0", packet, rate)
		took := time.Since(start)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c.Sync()
		t.Logf("asked for %d/s: sent %.0f/s, %d sent, %d counted, %d not recorded", rate, float64(sent)/took.Seconds(), sent, c.Count(), c.Drops())
		if int64(c.Count()+c.Drops()) > sent || rate == 1_000 && c.Drops() == 0 && int64(c.Count()) != sent {
			t.Errorf("%d packets sent, %d counted", sent, c.Count())
		}
		c.Close()
	}
}
