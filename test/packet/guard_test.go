package packet

import (
	"context"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// strays are packets that are not the beginning of anything, from an inside
// host to the outside. A gateway of masquerade rules alone lets most of them
// leave as they are.
func strays(ip family) map[string][]byte {
	between := lab.Between(ip.lan1, ip.outside)
	segment := func(flags lab.TCPFlags, payload string) []byte {
		return lab.TCP{Header: between, SrcPort: 4000, DstPort: 80, Flags: flags, Seq: 1000, Ack: 2000, Payload: []byte(payload)}.Bytes()
	}
	datagram := lab.UDP{Header: between, SrcPort: 4001, DstPort: 53, Payload: make([]byte, 2000)}.Bytes()
	never := lab.UDP{Header: lab.Between(ip.outside, ip.lan1), SrcPort: 9, DstPort: 9, Payload: []byte("never sent")}.Bytes()
	icmp := func(v4, v6, code uint8, inner []byte) []byte {
		if ip.v6() {
			v4 = v6
		}
		return lab.ICMPError{Header: between, Type: v4, Code: code, MTU: 1280, Inner: inner}.Bytes()
	}
	wrong := segment(lab.SYN, "")
	wrong[len(wrong)-4] ^= 0xff // the checksum, or what it covers
	pieces := lab.Fragment(datagram, 800)
	out := map[string][]byte{
		"RST":             segment(lab.RST, ""),
		"RST-ACK":         segment(lab.RST|lab.ACK, ""),
		"FIN":             segment(lab.FIN, ""),
		"FIN-ACK":         segment(lab.FIN|lab.ACK, ""),
		"XMAS":            segment(lab.FIN|lab.PSH|lab.URG, ""),
		"NULL":            segment(0, ""),
		"all flags":       segment(0xff, ""),
		"SYN-ACK":         segment(lab.SYN|lab.ACK, ""),
		"SYN-FIN":         segment(lab.SYN|lab.FIN, ""),
		"SYN-RST":         segment(lab.SYN|lab.RST, ""),
		"ACK":             segment(lab.ACK, ""),
		"data":            segment(lab.PSH|lab.ACK, "in the middle"),
		"bad checksum":    wrong,
		"echo reply":      lab.ICMPEcho{Header: between, ID: 7, Seq: 1, Reply: true}.Bytes(),
		"unreachable":     icmp(3, 1, 0, never),
		"port":            icmp(3, 1, 4, never),
		"too big":         icmp(3, 2, 4, never),
		"time exceeded":   icmp(11, 3, 0, never),
		"about nothing":   icmp(3, 1, 1, []byte("this is no packet at all, but it is long enough")),
		"first fragment":  pieces[0],
		"last fragment":   pieces[len(pieces)-1],
		"GRE":             lab.Raw{Header: between, Proto: 47, Payload: make([]byte, 24)}.Bytes(),
		"ESP":             lab.Raw{Header: between, Proto: 50, Payload: make([]byte, 24)}.Bytes(),
		"AH":              lab.Raw{Header: between, Proto: 51, Payload: make([]byte, 24)}.Bytes(),
		"IPIP":            lab.Raw{Header: between, Proto: 4, Payload: never}.Bytes(),
		"unknown":         lab.Raw{Header: between, Proto: 253, Payload: make([]byte, 24)}.Bytes(),
		"SCTP":            lab.Raw{Header: between, Proto: 132, Payload: make([]byte, 24)}.Bytes(),
		"a datagram":      lab.UDP{Header: between, SrcPort: 4002, DstPort: 53, Payload: []byte("hello")}.Bytes(),
		"a ping":          lab.ICMPEcho{Header: between, ID: 8, Seq: 1}.Bytes(),
		"a connection":    lab.TCP{Header: between, SrcPort: 4003, DstPort: 80, Flags: lab.SYN, Seq: 1}.Bytes(),
		"ICMP of a kind":  icmp(13, 200, 0, make([]byte, 20)),
		"ICMP of another": icmp(42, 150, 0, make([]byte, 20)),
	}
	if ip.v6() {
		// Conntrack does not follow neighbour discovery and group membership,
		// and a router forwards what is not for it all the same.
		for name, kind := range map[string]uint8{
			"MLD query": 130, "MLD report": 131, "RS": 133, "RA": 134, "NS": 135, "NA": 136, "redirect": 137, "MLDv2": 143,
		} {
			out[name] = icmp(0, kind, 0, make([]byte, 24))
		}
	}
	return out
}

// What is not translated does not leave, whatever it is.
func TestGuardStrays(t *testing.T) {
	for _, c := range []struct {
		name    string
		sysctls map[string]string
		policy  string
	}{
		{name: "as it comes"},
		{name: "tcp_loose off", sysctls: map[string]string{"net.netfilter.nf_conntrack_tcp_loose": "0"}},
		{name: "tcp_be_liberal", sysctls: map[string]string{"net.netfilter.nf_conntrack_tcp_be_liberal": "1"}},
		{name: "no checksums", sysctls: map[string]string{"net.netfilter.nf_conntrack_checksum": "0"}},
		{name: "default accept", policy: "forward: {default: accept}\n"},
		{name: "a rule accepts", policy: "forward:\n  rules:\n    - {from: lan, action: accept}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server)
			g := applied(t, topo, lanToWAN+c.policy)
			for name, value := range c.sysctls {
				g.GW.Sysctl(name, value)
			}
			each(t, func(t *testing.T, ip family) {
				pings(t, g.LAN1, ip.outside) // so that everybody knows everybody
				leaks := g.leaks(t)
				for _, packet := range strays(ip) {
					g.LAN1.SendPacket("eth0", packet)
				}
				leaks.none(t)
				leaks.stop()
			})
		})
	}
}

// A connection in all its states, with a stray of the same ports after every
// step.
func TestGuardLateSegments(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		if c == nil {
			return
		}
		stray := func() {
			for _, flags := range []lab.TCPFlags{lab.RST, lab.RST | lab.ACK, lab.SYN, lab.SYN | lab.ACK, lab.FIN | lab.ACK, lab.ACK, 0} {
				g.LAN1.SendPacket("eth0", lab.TCP{
					Header: lab.Between(ip.lan1, ip.outside), SrcPort: c.Local().Port(), DstPort: 80, Flags: flags, Seq: 12345, Ack: 54321,
				}.Bytes())
			}
			g.Settle()
		}
		stray()
		_ = c.CloseWrite()
		g.Settle()
		stray()
		_ = c.Abort()
		g.Settle()
		stray()
	})
	leaks.none(t)
}

// What another tool has taken out of conntrack is not translated. It is
// dropped, and status says so.
func TestGuardUntracked(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	topo.GW.Feed(t, `
		table inet foreign {
			chain pre {
				type filter hook prerouting priority raw; policy accept
				notrack
			}
		}`, "nft", "-f", "-")
	g := applied(t, topo, lanToWAN+`
  - {name: dns, from: lan, to: wan, protocol: udp, ports: 53}
`)
	leaks := g.leaks(t)
	before := g.entry(t, "masquerade lan-wan").LeaksStopped
	sent := uint64(0)
	each(t, func(t *testing.T, ip family) {
		together(
			tcp(g.LAN1, ip.outside, 80).drops(t), udp(g.LAN1, ip.outside, 53).drops(t), ping(g.LAN1, ip.outside).drops(t),
		)
		for _, packet := range strays(ip) {
			g.LAN1.SendPacket("eth0", packet)
			sent++
		}
		g.Settle()
	})
	leaks.none(t)
	if got := g.entry(t, "masquerade lan-wan").LeaksStopped - before; got < sent || got > 2*sent {
		t.Errorf("status counts %d leaks stopped, want about %d", got, sent)
	}
	if got := g.entry(t, "masquerade dns").LeaksStopped; got != 0 {
		t.Errorf("the second entry that matches counts %d leaks", got)
	}
}

// A flow that is older than the rules was not translated, and never will be.
func TestGuardOlderFlows(t *testing.T) {
	for _, tracked := range []bool{false, true} {
		name := "not tracked before"
		if tracked {
			name = "tracked before"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server, topo.LAN1)
			topo.Forwarding(true)
			if tracked {
				topo.GW.Feed(t, `
					table inet foreign {
						chain forward {
							type filter hook forward priority filter; policy accept
							ct state new counter
						}
					}`, "nft", "-f", "-")
			}
			g := untouched(t, topo)
			type older struct {
				tcp *lab.Conn
				udp *lab.UDPConn
			}
			var flows []older
			for _, ip := range families() {
				u, err := g.LAN1.DialUDP(at(ip.outside, 53))
				if err != nil {
					t.Fatal(err)
				}
				if seen, err := u.Exchange(lab.Patience, "before"); err != nil || seen.Peer.Addr().String() != ip.lan1 {
					t.Fatalf("before the apply the server saw %v, %v", seen, err)
				}
				flows = append(flows, older{opens(t, g.LAN1, at(ip.outside, 80), ip.lan1), u})
			}
			g.apply(t, lanToWAN, "--keep-flows") // else they are cut
			leaks := g.leaks(t)
			var checks []func()
			for _, f := range flows {
				checks = append(checks,
					func() { _ = f.tcp.Echo(lab.Silence, "after") },
					func() { _, _ = f.udp.Exchange(lab.Silence, "after") },
				)
			}
			together(checks...)
			for _, f := range flows {
				_ = f.tcp.Abort()
			}
			g.Settle()
			leaks.none(t)
			if e := g.entry(t, "masquerade lan-wan"); tracked && e.LeaksStopped < 6 {
				t.Errorf("status counts %+v", e)
			}
			// New ones are translated, from the same ports too.
			each(t, func(t *testing.T, ip family) {
				opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
				asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
			})
			leaks.none(t)
		})
	}
}

// Delete with flows live: forwarding was off before the first apply, and goes
// off before the rules do.
func TestGuardDelete(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	leaks := g.leaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	each(t, func(t *testing.T, ip family) {
		carries(t, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
		packet := lab.UDP{Header: lab.Between(ip.lan2, ip.outside), SrcPort: 5353, DstPort: 9999, Payload: []byte("on and on")}
		g.LAN2.StartFlood(ctx, "eth0", packet.Bytes(), 2000)
		answers := lab.UDP{Header: lab.Between(ip.outside, ip.uplink), SrcPort: 9999, DstPort: 5353, Payload: []byte("and back")}
		g.Server.StartFlood(ctx, "eth0", answers.Bytes(), 1000)
	})
	passing := g.GW.Capture("eth0", lab.All(lab.Outgoing, lab.IsUDP, lab.DstPort(9999)))
	if _, err := passing.Wait(100, lab.Patience); err != nil {
		t.Fatal(err)
	}
	passing.Stop()
	g.delete(t)
	cancel()
	leaks.none(t)
	for _, f := range families() {
		fails(t, g.LAN1, at(f.outside, 80), lab.IsTimeout)
	}
	leaks.none(t)
}
