package packet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// socketUDP is a socket of a host that is connected to nobody.
func socketUDP(t *testing.T, h *lab.Host, addr string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() error {
		a, err := net.ResolveUDPAddr("udp", addr)
		if err == nil {
			c, err = net.ListenUDP("udp", a)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// hears waits for a datagram, and says whether one came within the time.
func hears(t *testing.T, c *net.UDPConn, within time.Duration) (text string, from netip.AddrPort, heard bool) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	n, from, err := c.ReadFromUDPAddrPort(buffer)
	if err != nil {
		return "", from, false
	}
	return string(buffer[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true
}

// says sends a datagram.
func says(t *testing.T, c *net.UDPConn, to, text string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// heldBy asks the gateway's conntrack which flows have a helper.
func (g *gateway) heldBy(t *testing.T, ip family, helper string) []string {
	t.Helper()
	lab.Require(t, lab.Binary("conntrack"))
	f := "ipv4"
	if ip.v6() {
		f = "ipv6"
	}
	var out []string
	for line := range strings.Lines(g.GW.Run(t, "conntrack", "-L", "-f", f)) {
		if strings.Contains(line, "helper="+helper+" ") || strings.HasSuffix(strings.TrimSpace(line), "helper="+helper) {
			out = append(out, line)
		}
	}
	return out
}

// The kernel makes every helper of the language, and each gets the flows of its
// families. That of SNMP drops what is no SNMP; see TestSNMP.
func TestHelpersOfKernel(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := applied(t, topo, zones[:strings.Index(zones, "  dmz")]+`  wan: {interfaces: [eth0]}
masquerade: {from: lan, to: wan, helpers: [ftp, irc, sip, tftp, pptp, h323, amanda, sane, snmp, netbios-ns]}
`)
	listens(topo.Server, 21, 6667, 5060, 69, 1723, 1719, 1720, 10080, 6566, 161, 137)
	each(t, func(t *testing.T, ip family) {
		for _, c := range []struct {
			proto, helper string
			port          int
			ipv4          bool
		}{
			{"tcp", "ftp", 21, false}, {"tcp", "irc", 6667, true}, {"tcp", "sip", 5060, false}, {"udp", "sip", 5060, false},
			{"udp", "tftp", 69, false}, {"tcp", "pptp", 1723, true}, {"udp", "RAS", 1719, false}, {"tcp", "Q.931", 1720, false},
			{"udp", "amanda", 10080, false}, {"tcp", "sane", 6566, false}, {"udp", "netbios-ns", 137, true},
		} {
			probe{topo.LAN1, c.proto, ip.outside, c.port}.sees(t, ip.uplink)
			held := 0
			for _, line := range g.heldBy(t, ip, c.helper) {
				if strings.HasPrefix(line, c.proto) && strings.Contains(line, fmt.Sprintf(" dport=%d ", c.port)) {
					held++
				}
			}
			if want := c.ipv4 && ip.v6(); (held == 0) != want {
				t.Errorf("%s port %d: %d flows with the helper %s", c.proto, c.port, held, c.helper)
			}
		}
	})
	g.entries(t)
	g.delete(t)
}

// A server inside hands out a file: it answers from a port of its own. So does
// one outside.
func TestTFTP(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	outside, inside := socketUDP(t, topo.Server, ":69"), socketUDP(t, topo.DMZ, ":69")
	// reads asks for a file, and acknowledges what comes.
	reads := func(t *testing.T, client, server *lab.Host, listener *net.UDPConn, remote, sees, seen string, works bool) {
		t.Helper()
		c, data := socketUDP(t, client, ":0"), socketUDP(t, server, ":0")
		says(t, c, remote, "\x00\x01file\x00octet\x00")
		_, peer, heard := hears(t, listener, lab.Patience)
		if !heard || peer.Addr().String() != seen {
			t.Errorf("%s asks %s: the server saw %s, want %s", client.Name(), remote, peer, seen)
			return
		}
		says(t, data, peer.String(), "\x00\x03\x00\x01text")
		within := lab.Silence
		if works {
			within = lab.Patience
		}
		text, from, heard := hears(t, c, within)
		if heard != works {
			t.Errorf("%s asks %s: data: %v, want %v", client.Name(), remote, heard, works)
		}
		if !heard {
			return
		}
		port := uint16(data.LocalAddr().(*net.UDPAddr).Port)
		if from.Addr().String() != sees || from.Port() != port || !strings.HasSuffix(text, "text") {
			t.Errorf("%s asks %s: %q from %s, want it from %s port %d", client.Name(), remote, text, from, sees, port)
		}
		says(t, c, from.String(), "\x00\x04\x00\x01")
		if text, back, heard := hears(t, data, lab.Patience); !heard || back != peer || text != "\x00\x04\x00\x01" {
			t.Errorf("%s acknowledges to %s: %q from %s, want it from %s", client.Name(), from, text, back, peer)
		}
	}
	each(t, func(t *testing.T, ip family) {
		for _, works := range []bool{true, false} {
			helpers := ""
			if works {
				helpers = ", helpers: tftp"
			}
			g.apply(t, zones+`
masquerade: {from: lan, to: wan`+helpers+`}
`+ip.forwards(`
  - {name: tftp, from: wan, protocol: udp, ports: 69, to: "$dmz"$helpers}
`, "$helpers", helpers))
			reads(t, topo.LAN1, topo.Server, outside, at(ip.outside, 69), ip.outside, ip.uplink, works)
			reads(t, topo.Server, topo.DMZ, inside, at(ip.uplink, 69), ip.uplink, ip.outside, works)
		}
	})
	g.delete(t)
}

// Who offers a file over IRC names an address that the other side can reach.
func TestIRC(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	topo.Server.ServeTCP(":7000")
	topo.LAN1.ServeTCP(":5000")
	number := func(addr string) uint32 { a := netip.MustParseAddr(addr).As4(); return binary.BigEndian.Uint32(a[:]) }
	// offers gives what the server heard, which echoes it.
	offers := func() string {
		t.Helper()
		c := opens(t, topo.LAN1, at(lab.Outside, 7000), lab.GatewayUplink)
		if c == nil {
			t.FailNow()
		}
		if err := c.SetDeadline(time.Now().Add(lab.Patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PRIVMSG bob :\x01DCC SEND file %d 5000 4\x01\r\n", number(lab.LAN1))
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		// What follows comes through too.
		fmt.Fprintf(c, "PRIVMSG bob :hello\r\n")
		if next, nextErr := r.ReadString('\n'); err != nil || nextErr != nil || next != "PRIVMSG bob :hello\r\n" {
			t.Fatalf("%q, %v, %q, %v", line, err, next, nextErr)
		}
		return line
	}
	g.apply(t, zones+"masquerade: {from: lan, to: wan, helpers: {irc: [6667, 7000]}}\n")
	if got, want := offers(), fmt.Sprintf("PRIVMSG bob :\x01DCC SEND file %d 5000 4\x01\r\n", number(lab.GatewayUplink)); got != want {
		t.Errorf("the server heard %q, want %q", got, want)
	}
	// Whoever comes is shown with the server's address (nf_nat_follow_master).
	lands(t, "tcp", topo.Neighbor, at(lab.GatewayUplink, 5000), at(lab.LAN1, 5000), lab.Outside)
	// Once.
	fails(t, topo.Neighbor, at(lab.GatewayUplink, 5000), lab.IsRefused)

	g.apply(t, zones+"masquerade: {from: lan, to: wan}\n")
	if got, want := offers(), fmt.Sprintf("PRIVMSG bob :\x01DCC SEND file %d 5000 4\x01\r\n", number(lab.LAN1)); got != want {
		t.Errorf("without a helper the server heard %q", got)
	}
	fails(t, topo.Neighbor, at(lab.GatewayUplink, 5000), lab.IsRefused)
	g.delete(t)
}

// An Amanda server inside names the ports to which its client then connects.
func TestAmanda(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	server := socketUDP(t, topo.DMZ, ":10080")
	listens(topo.DMZ, 5000, 5001)
	each(t, func(t *testing.T, ip family) {
		for _, works := range []bool{true, false} {
			helpers := ""
			if works {
				helpers = ", helpers: amanda"
			}
			g.apply(t, zones+ip.forwards(`
  - {name: amanda, from: wan, protocol: udp, ports: 10080, to: "$dmz"$helpers}
`, "$helpers", helpers))
			c := socketUDP(t, topo.Server, ":0")
			says(t, c, at(ip.uplink, 10080), "Amanda 2.5 REQ\n")
			_, peer, _ := hears(t, server, lab.Patience)
			says(t, server, peer.String(), "Amanda 2.5 REP\nCONNECT DATA 5000 MESG 5001\n")
			if text, _, _ := hears(t, c, lab.Patience); !strings.Contains(text, "CONNECT DATA 5000 MESG 5001\n") {
				t.Errorf("the client heard %q", text)
			}
			for _, port := range []int{5000, 5001} {
				if works {
					lands(t, "tcp", topo.Server, at(ip.uplink, port), at(ip.dmz, port), "")
				} else {
					fails(t, topo.Server, at(ip.uplink, port), lab.IsRefused)
				}
			}
		}
	})
	g.delete(t)
}
