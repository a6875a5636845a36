package simulate_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/simulate"
)

const home = `version: 1
zones:
  lan: {interfaces: [eth1, "br-*"], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: inside, from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.2.10:8080}
forward:
  rules:
    - {name: to-dmz, from: lan, to: dmz, protocol: tcp, ports: 22, action: accept}
`

// tcp is a packet from and to the port of an address.
func tcp(from, source, destination string) simulate.Packet {
	to := netip.MustParseAddrPort(destination)
	p := simulate.Packet{From: from, Destination: to.Addr(), DestinationPort: to.Port(), Protocol: 6}
	if source != "" {
		p.Source = netip.MustParseAddr(source)
	}
	return p
}

func TestSend(t *testing.T) {
	t.Parallel()
	f, r := host(nil)
	g := on(t, f, r, home)
	for _, c := range []struct {
		packet simulate.Packet
		want   string
	}{
		{tcp("lan", "192.168.1.10", "8.8.8.8:443"), "accept lan eth1 wan eth0 203.0.113.1:40000 > 8.8.8.8:443 by masquerade inside"},
		{tcp("", "192.168.1.10", "8.8.8.8:443"), "accept lan eth1 wan eth0 203.0.113.1:40000 > 8.8.8.8:443 by masquerade inside"},
		{tcp("lan", "fd00:1::5", "[2001:db8:f::1]:443"), "accept lan eth1 wan eth0 [2001:db8::1]:40000 > [2001:db8:f::1]:443 by masquerade inside"},
		{tcp("wan", "8.8.8.8", "203.0.113.1:80"), "accept wan eth0 dmz eth2 8.8.8.8:40000 > 192.168.2.10:8080 by port_forward web"},
		{tcp("lan", "192.168.1.10", "192.168.2.10:22"), "accept lan eth1 dmz eth2 192.168.1.10:40000 > 192.168.2.10:22 by forward to-dmz"},
		{tcp("lan", "192.168.1.10", "192.168.2.10:23"), "drop lan eth1 - eth2 192.168.1.10:40000 > 192.168.2.10:23 by forward default"},
		{tcp("lan", "192.168.1.10", "192.168.1.1:22"), "local lan eth1 gateway - 192.168.1.10:40000 > 192.168.1.1:22 by -"},
		{tcp("gateway", "", "8.8.8.8:443"), "accept gateway - wan eth0 203.0.113.1:40000 > 8.8.8.8:443 by -"},
		{tcp("gateway", "", "127.0.0.1:443"), "local gateway - gateway lo 127.0.0.1:40000 > 127.0.0.1:443 by -"},
	} {
		out, err := g.Send(c.packet)
		if err != nil {
			t.Errorf("%+v: %v", c.packet, err)
			continue
		}
		if got := told(out); got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.packet, got, c.want)
		}
		if len(out.Notes) > 0 {
			t.Errorf("%+v: %q", c.packet, out.Notes)
		}
	}
}

// told is an outcome in a line.
func told(o *simulate.Outcome) string {
	or := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	source, destination := netip.AddrPortFrom(o.Left.Source, o.Left.SourcePort), netip.AddrPortFrom(o.Left.Destination, o.Left.DestinationPort)
	return strings.Join([]string{string(o.Verdict), or(o.Packet.From), or(o.Packet.Interface), or(o.To), or(o.Out), source.String(), ">", destination.String(), "by", or(o.By.Entry)}, " ")
}

// TestQuestions has what is wrong with a question said, and what is odd about one
// that can be answered.
func TestQuestions(t *testing.T) {
	t.Parallel()
	f, r := host(nil)
	g := on(t, f, r, home)
	change := func(p simulate.Packet, how func(*simulate.Packet)) simulate.Packet {
		how(&p)
		return p
	}
	ask := tcp("lan", "192.168.1.10", "8.8.8.8:443")
	for _, c := range []struct {
		packet simulate.Packet
		want   string // the error, or the note
	}{
		{tcp("lann", "192.168.1.10", "8.8.8.8:443"), `from: no zone "lann" in the policy; did you mean lan? there are dmz, lan, wan, gateway`},
		{change(ask, func(p *simulate.Packet) { p.To = "wam" }), `to: no zone "wam" in the policy; did you mean wan? there are dmz, lan, wan`},
		{change(ask, func(p *simulate.Packet) { p.To = "gateway" }), `to: no zone "gateway" in the policy; there are dmz, lan, wan`},
		{change(ask, func(p *simulate.Packet) { p.Interface = "eth0" }), "interface: eth0 is not an interface of zone lan; it has eth1, br-*"},
		{change(ask, func(p *simulate.Packet) { p.Interface = "br-7" }), "the host has no interface br-7 now: it is taken to be there"},
		{change(ask, func(p *simulate.Packet) { p.Source = netip.Addr{} }), "source: the packet needs a source"},
		{change(ask, func(p *simulate.Packet) { p.Destination = netip.Addr{} }), "destination: the packet needs a destination"},
		{change(ask, func(p *simulate.Packet) { p.DestinationPort = 0 }), "port: the packet needs a destination port"},
		{change(ask, func(p *simulate.Packet) { p.Protocol = 1 }), "port: the protocol has no ports"},
		{change(ask, func(p *simulate.Packet) { p.Protocol = 0 }), "protocol: the packet needs a protocol"},
		{tcp("lan", "192.168.1.10", "[2001:db8::9]:443"), "source: source and destination are of two IP families: 192.168.1.10 and 2001:db8::9"},
		{tcp("lan", "10.1.1.1", "8.8.8.8:443"), "10.1.1.1 on eth1 is in no zone: zone lan has 192.168.1.0/24, fd00:1::/64; what comes from no zone is not judged by its rules"},
		{tcp("gateway", "10.1.1.1", "8.8.8.8:443"), "10.1.1.1 is not one of the gateway's addresses"},
		{change(ask, func(p *simulate.Packet) { p.To = "dmz" }), "8.8.8.8 is not in zone dmz; the host's route to 8.8.8.8 leads out of eth0: it is taken to leave by eth2, as zone dmz asks for"},
		{change(tcp("wan", "8.8.8.8", "203.0.113.1:80"), func(p *simulate.Packet) { p.To = "dmz" }), ""},
	} {
		out, err := g.Send(c.packet)
		got := ""
		var wrong *simulate.QuestionError
		switch {
		case errors.As(err, &wrong):
			got = wrong.Field + ": " + wrong.Message
		case err != nil:
			t.Fatal(err)
		default:
			got = strings.Join(out.Notes, "; ")
		}
		if got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.packet, got, c.want)
		}
	}
}
