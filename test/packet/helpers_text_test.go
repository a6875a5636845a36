package packet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A telephone inside is reachable by the addresses that it tells outside: of
// itself when it registers, and of the voice when it calls.
func TestSIP(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	phone, voice := socketUDP(t, topo.LAN1, ":5060"), socketUDP(t, topo.LAN1, ":4000")
	server, caller := socketUDP(t, topo.Server, ":5060"), socketUDP(t, topo.Server, ":6000")
	each(t, func(t *testing.T, ip family) {
		kind := "IP4"
		if ip.v6() {
			kind = "IP6"
		}
		message := func(method, addr, body, more string) string {
			return strings.ReplaceAll(fmt.Sprintf("%s sip:bob@%s SIP/2.0\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%s\nMax-Forwards: 70\nTo: <sip:bob@%s>\nFrom: <sip:alice@%s>;tag=1\nCall-ID: %s-%s\nCSeq: 1 %s\nContact: <sip:alice@%s>\n%sContent-Length: %d\n\n%s",
				method, bracketed(ip.outside), at(addr, 5060), method, kind, bracketed(ip.outside), bracketed(ip.outside), method, kind, method, at(addr, 5060), more, len(body)+strings.Count(body, "\n"), body), "\n", "\r\n")
		}
		register := func(addr string) string { return message("REGISTER", addr, "", "Expires: 60\n") }
		invite := func(addr string) string {
			return message("INVITE", addr, fmt.Sprintf("v=0\no=alice 1 1 IN %s %s\ns=-\nc=IN %s %s\nt=0 0\nm=audio 4000 RTP/AVP 0\n", kind, addr, kind, addr), "Content-Type: application/sdp\n")
		}
		sent := func(text, want string) {
			t.Helper()
			says(t, phone, at(ip.outside, 5060), text)
			if got, from, _ := hears(t, server, lab.Patience); got != want || from.String() != at(ip.uplink, 5060) {
				t.Errorf("the server heard from %s\n%s\nwant\n%s", from, got, want)
			}
		}
		g.apply(t, zones+"masquerade: {from: lan, to: wan, helpers: sip}\n")
		sent(register(ip.lan1), register(ip.uplink))
		sent(invite(ip.lan1), invite(ip.uplink))
		says(t, caller, at(ip.uplink, 4000), "voice")
		if text, from, _ := hears(t, voice, lab.Patience); text != "voice" || from.String() != at(ip.outside, 6000) {
			t.Errorf("the telephone heard %q from %s", text, from)
		}
		says(t, voice, at(ip.outside, 6000), "answer")
		if text, from, _ := hears(t, caller, lab.Patience); text != "answer" || from.String() != at(ip.uplink, 4000) {
			t.Errorf("the caller heard %q from %s", text, from)
		}

		g.apply(t, zones+"masquerade: {from: lan, to: wan}\n")
		g.GW.Run(t, "conntrack", "-F") // the open flow keeps its helper
		sent(invite(ip.lan1), invite(ip.lan1))
		says(t, caller, at(ip.uplink, 4000), "voice")
		if text, from, heard := hears(t, voice, lab.Silence); heard {
			t.Errorf("without a helper the telephone heard %q from %s", text, from)
		}
	})
	g.delete(t)
}

// A trap of an agent inside (SNMPv2c, RFC 3416) tells the address that the agent
// has outside. The kernel knows no traps of version 1, and drops them.
func TestSNMP(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	// The helper mends a checksum, and takes one that is left to the device for a
	// whole one.
	topo.LAN1.NoOffload("eth0")
	agent, manager := socketUDP(t, topo.LAN1, ":0"), socketUDP(t, topo.Server, ":162")
	// A value of SNMP is its type, its length and its content (BER).
	value := func(kind byte, content ...string) string {
		all := strings.Join(content, "")
		return string([]byte{kind, byte(len(all))}) + all
	}
	trap := func(addr string) string {
		const integer, text, oid, sequence, ipAddress, trap = 2, 4, 6, 0x30, 0x40, 0xa7
		a := netip.MustParseAddr(addr).As4()
		variable := value(sequence, value(oid, "\x2b\x06\x01\x02\x01\x04\x14\x01\x01"), value(ipAddress, string(a[:])))
		return value(sequence, value(integer, "\x01"), value(text, "public"),
			value(trap, value(integer, "\x01"), value(integer, "\x00"), value(integer, "\x00"), value(sequence, variable)))
	}
	for _, c := range []struct{ helpers, want string }{{", helpers: {snmp: 162}", lab.GatewayUplink}, {"", lab.LAN1}} {
		g.apply(t, zones+"masquerade: {from: lan, to: wan"+c.helpers+"}\n")
		g.GW.Run(t, "conntrack", "-F")
		says(t, agent, at(lab.Outside, 162), trap(lab.LAN1))
		if text, peer, _ := hears(t, manager, lab.Patience); text != trap(c.want) || peer.Addr().String() != lab.GatewayUplink {
			t.Errorf("with%s the manager heard %q from %s, want %q", c.helpers, text, peer, trap(c.want))
		}
	}
	g.delete(t)
}
