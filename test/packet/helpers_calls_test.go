package packet

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// control is a connection that a helper reads, and both of its ends.
func control(t *testing.T, client, server *lab.Host, port int, remote string) (near, far net.Conn) {
	t.Helper()
	accepted := acceptsOne(t, server, at("::", port))
	c, err := client.DialTCP(lab.Patience, remote, lab.NoGreeting())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, open := <-accepted
	if !open {
		t.Fatal("the server did not accept")
	}
	t.Cleanup(func() { s.Close() })
	return c, s
}

// relays sends a message of a length that nobody changes, and gives what the
// other end reads.
func relays(t *testing.T, from, to net.Conn, message []byte) []byte {
	t.Helper()
	got := make([]byte, len(message))
	_ = to.SetReadDeadline(time.Now().Add(lab.Patience))
	_, writeErr := from.Write(message)
	_, readErr := io.ReadFull(to, got)
	if err := errors.Join(writeErr, readErr); err != nil {
		t.Fatal(err)
	}
	return got
}

// The messages of a call, in H323-UserInformation (H.225.0): their place in the
// choice of bodies, and the optional fields of the body with h245Address alone.
type callMessage struct{ kind, choice, options byte }

var (
	callSetup   = callMessage{0x05, 0x00, 0x40}
	callConnect = callMessage{0x07, 0x02, 0x40}
)

// message tells where the caller or the called wants the control connection of
// the call (h245Address): TPKT (RFC 1006), Q.931, and aligned PER (X.691).
func (m callMessage) message(address string, port uint16) []byte {
	per := []byte{m.choice, m.options}
	per = append(per, 6, 0, 8, 0x91, 0x4a, 0, 4) // protocolIdentifier: itu-t(0) recommendation(0) h(8) 2250 version(0) 4
	a := netip.MustParseAddr(address)
	if a.Is4() {
		per = append(per, 0x00) // ipAddress
	} else {
		per = append(per, 0x30) // ip6Address
	}
	per = append(per, a.AsSlice()...)
	per = binary.BigEndian.AppendUint16(per, port)
	per = append(per, 0, 0)                // an end point of no kind; of setup, activeMC false
	per = append(per, make([]byte, 16)...) // conferenceID
	if m == callSetup {
		per = append(per, 0) // create, point to point
	}
	q931 := []byte{0x08, 2, 0x12, 0x34, m.kind, 0x7e}
	q931 = binary.BigEndian.AppendUint16(q931, uint16(1+len(per)))
	q931 = append(append(q931, 0x05), per...)
	return append(binary.BigEndian.AppendUint16([]byte{3, 0}, uint16(4+len(q931))), q931...)
}

// Who calls, and who is called, names an address to which the other side opens
// the control connection of the call. Of IPv6 the kernel translates nothing.
func TestH323(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	topo.LAN1.ServeTCP(":5000")
	topo.DMZ.ServeTCP(":5001")
	each(t, func(t *testing.T, ip family) {
		for _, works := range []bool{true, false} {
			helpers := ""
			if works {
				helpers = ", helpers: h323"
			}
			g.apply(t, zones+`
masquerade: {from: lan, to: wan`+helpers+`}
`+ip.forwards(`
  - {name: calls, from: wan, protocol: tcp, ports: 1720, to: "$dmz"$helpers}
`, "$helpers", helpers))
			g.GW.Run(t, "conntrack", "-F")
			translated := works && !ip.v6()

			from, to := control(t, topo.LAN1, topo.Server, 1720, at(ip.outside, 1720))
			want := callSetup.message(ip.lan1, 5000)
			if translated {
				want = callSetup.message(ip.uplink, 5000)
			}
			if got := relays(t, from, to, callSetup.message(ip.lan1, 5000)); string(got) != string(want) {
				t.Errorf("with %q the called reads % x\nwant % x", helpers, got, want)
			}
			if translated {
				lands(t, "tcp", topo.Server, at(ip.uplink, 5000), at(ip.lan1, 5000), "")
			}
			fails(t, topo.Server, at(ip.uplink, 5000), lab.IsRefused) // once, or not at all

			from, to = control(t, topo.Server, topo.DMZ, 1720, at(ip.uplink, 1720))
			relays(t, from, to, callSetup.message(ip.outside, 6000))
			want = callConnect.message(ip.dmz, 5001)
			if translated {
				want = callConnect.message(ip.uplink, 5001)
			}
			if got := relays(t, to, from, callConnect.message(ip.dmz, 5001)); string(got) != string(want) {
				t.Errorf("with %q the caller reads % x\nwant % x", helpers, got, want)
			}
			if translated {
				lands(t, "tcp", topo.Server, at(ip.uplink, 5001), at(ip.dmz, 5001), "")
			}
			fails(t, topo.Server, at(ip.uplink, 5001), lab.IsRefused)
		}
	})
	g.delete(t)
}

// saneStart asks a scanner for a picture, and saneStarted says at which port of
// the server it is to be had (SANE network protocol, 5.2.8).
func saneStart() []byte { return []byte{0, 0, 0, 7, 0, 0, 0, 1} }

func saneStarted(port uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0)         // status: success
	b = binary.BigEndian.AppendUint32(b, uint32(port)) // the port is a whole word
	b = append(b, 0x34, 0x12, 0, 0)                    // byte order
	return binary.BigEndian.AppendUint32(b, 0)         // resource: no authorization
}

// The rules let the connection to the server pass, and the helper the one with
// the picture.
func TestSANE(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := untouched(t, topo)
	topo.Server.ServeTCP(":7000")
	each(t, func(t *testing.T, ip family) {
		for _, works := range []bool{true, false} {
			helpers := ""
			if works {
				helpers = ", helpers: sane"
			}
			g.apply(t, twoZones+`
masquerade: {from: lan, to: wan, forward: false`+helpers+`}
forward:
  rules:
    - {from: lan, to: wan, protocol: tcp, ports: 6566, action: accept}
`)
			g.GW.Run(t, "conntrack", "-F")
			client, server := control(t, topo.LAN1, topo.Server, 6566, at(ip.outside, 6566))
			if got := relays(t, client, server, saneStart()); string(got) != string(saneStart()) {
				t.Errorf("the server reads % x", got)
			}
			if got := relays(t, server, client, saneStarted(7000)); string(got) != string(saneStarted(7000)) {
				t.Errorf("the client reads % x", got)
			}
			if works {
				carries(t, opens(t, topo.LAN1, at(ip.outside, 7000), ip.uplink))
			}
			fails(t, topo.LAN1, at(ip.outside, 7000), lab.IsTimeout) // once, or not at all
		}
	})
	g.delete(t)
}

// The helper of NetBIOS names is for what the gateway itself asks. What it
// forwards is answered by whom it was for, and by nobody else, with it or
// without.
func TestNetBIOSNames(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := untouched(t, topo)
	asked, other := socketUDP(t, topo.Server, ":137"), socketUDP(t, topo.Neighbor, ":137")
	client := socketUDP(t, topo.LAN1, ":137")
	for _, helpers := range []string{"", ", helpers: netbios-ns"} {
		g.apply(t, twoZones+"masquerade: {from: lan, to: wan"+helpers+"}\n")
		g.GW.Run(t, "conntrack", "-F")
		says(t, client, at(lab.Outside, 137), "who is BOB")
		text, from, heard := hears(t, asked, lab.Patience)
		if !heard || text != "who is BOB" || from.Addr().String() != lab.GatewayUplink {
			t.Fatalf("the server heard %q from %s", text, from)
		}
		if helpers != "" && len(g.heldBy(t, families()[0], "netbios-ns")) == 0 {
			t.Error("no flow has the helper")
		}
		says(t, other, from.String(), "it is me")
		if text, from, heard := hears(t, client, lab.Silence); heard {
			t.Errorf("with %q the client heard %q from %s, whom it has not asked", helpers, text, from)
		}
		says(t, asked, from.String(), "me")
		if text, from, _ := hears(t, client, lab.Patience); text != "me" || from.String() != at(lab.Outside, 137) {
			t.Errorf("with %q the client heard %q from %s", helpers, text, from)
		}
	}
	g.delete(t)
}
