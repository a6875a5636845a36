package packet

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/test/lab"
)

// left is how long the gateway keeps the flow of a protocol that a host sent to
// an address and port.
func (g *gateway) left(t *testing.T, proto uint8, from, to string, port int) time.Duration {
	t.Helper()
	var found []conntrack.Flow
	err := g.GW.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Translated(func(f conntrack.Flow) bool {
			o := f.Original
			if f.Protocol == proto && o.Source == netip.MustParseAddr(from) && o.Destination == netip.MustParseAddr(to) && int(o.DestinationPort) == port {
				found = append(found, f)
			}
			return true
		})
	})
	if err != nil || len(found) != 1 {
		t.Errorf("%v, and protocol %d from %s to %s: %v, want one flow", err, proto, at(from, 0), at(to, port), found)
		return 0
	}
	return found[0].Timeout
}

// lives sees that the flow has a time to live, or somewhat less by now.
func (g *gateway) lives(t *testing.T, proto uint8, from, to string, port int, want time.Duration) {
	t.Helper()
	if left := g.left(t, proto, from, to, port); left > want || left < want-15*time.Second {
		t.Errorf("protocol %d from %s to %s lives for %s, want %s", proto, from, at(to, port), left, want)
	}
}

const (
	protoICMP, protoTCP, protoUDP, protoICMPv6, protoUDPLite = 1, 6, 17, 58, 136
)

// The flows of an entry live as long as it says, in each state that it names;
// others, and other states, as long as the host says.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	topo.GW.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_syn_sent", "120")
	topo.GW.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "333")
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // of what is sent by hand below
	g := applied(t, topo, zones+`
masquerade:
  - from: lan
    to: wan
    timeouts: {tcp: {established: 1h, syn_sent: 10m}, udp: {unreplied: 200s, replied: 400s}, icmp: 100s}
  - {name: lite, from: dmz, to: wan, protocol: udplite, timeouts: {udp: {unreplied: 250s}}}
  - {name: rest, from: dmz, to: wan}
port_forward:
  - {name: short, from: wan, protocol: [tcp, udp], ports: [53, 80], to: 192.168.1.10, timeouts: {tcp: {established: 17m}, udp: {unreplied: 2m}}}
  - {name: short6, from: wan, protocol: [tcp, udp], ports: [53, 80], to: "fd00:1::10", timeouts: {tcp: {established: 17m}, udp: {unreplied: 2m}}}
  - {name: plain, from: wan, protocol: tcp, ports: 22, to: 192.168.1.10}
  - {name: plain6, from: wan, protocol: tcp, ports: 22, to: "fd00:1::10"}
`)
	each(t, func(t *testing.T, ip family) {
		const hosts = 120 * time.Hour // of an established connection
		icmp := uint8(protoICMP)
		if ip.v6() {
			icmp = protoICMPv6
		}
		conn := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		g.lives(t, protoTCP, ip.lan1, ip.outside, 80, time.Hour)
		g.ends(t, conn)
		g.lives(t, protoTCP, ip.lan1, ip.outside, 80, 333*time.Second)
		pings(t, g.LAN1, ip.outside)
		g.lives(t, icmp, ip.lan1, ip.outside, 0, 100*time.Second)

		lite := binary.BigEndian.AppendUint64(nil, 0x0007_0009_0000_ffff) // ports, coverage, checksum
		send := func(h *lab.Host, proto uint8, from string, payload []byte) {
			h.SendPacket("eth0", lab.Raw{Header: lab.Between(from, ip.outside), Proto: proto, Payload: payload}.Bytes())
		}
		g.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 7, DstPort: 999}.Bytes())
		send(g.LAN1, protoUDPLite, ip.lan1, lite)
		send(g.DMZ, protoUDPLite, ip.dmz, lite)
		g.Settle()
		g.lives(t, protoUDP, ip.lan1, ip.outside, 999, 200*time.Second)
		g.lives(t, protoUDPLite, ip.lan1, ip.outside, 9, 30*time.Second)
		g.lives(t, protoUDPLite, ip.dmz, ip.outside, 9, 250*time.Second)

		// Nobody else's.
		opens(t, g.DMZ, at(ip.outside, 80), ip.uplink)
		g.lives(t, protoTCP, ip.dmz, ip.outside, 80, hosts)
		asks(t, g.DMZ, at(ip.outside, 53), ip.uplink)
		g.lives(t, protoUDP, ip.dmz, ip.outside, 53, 30*time.Second)
		pings(t, g.DMZ, ip.outside)
		g.lives(t, icmp, ip.dmz, ip.outside, 0, 30*time.Second)

		opens(t, g.Server, at(ip.uplink, 80), ip.outside)
		g.lives(t, protoTCP, ip.outside, ip.uplink, 80, 17*time.Minute)
		asks(t, g.Server, at(ip.uplink, 53), ip.outside)
		g.lives(t, protoUDP, ip.outside, ip.uplink, 53, 2*time.Minute)
		opens(t, g.Server, at(ip.uplink, 22), ip.outside)
		g.lives(t, protoTCP, ip.outside, ip.uplink, 22, hosts)

		// A SYN that nobody answers.
		g.ISP.Run(t, "nft", "add table inet silent; add chain inet silent in { type filter hook prerouting priority -300; }; add rule inet silent in tcp dport 81 drop")
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 999, DstPort: 81, Flags: lab.SYN}.Bytes())
		g.DMZ.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.dmz, ip.outside), SrcPort: 999, DstPort: 81, Flags: lab.SYN}.Bytes())
		g.Settle()
		unanswered := 10 * time.Minute
		if g.variant != "" {
			unanswered = 5 * time.Minute // of a first packet conntrack knows no window: then it is no more than for retransmissions
		}
		g.lives(t, protoTCP, ip.lan1, ip.outside, 81, unanswered)
		g.lives(t, protoTCP, ip.dmz, ip.outside, 81, 120*time.Second)

		// The kernel takes an exchange for a stream after two seconds.
		stream, err := g.LAN1.DialUDP(at(ip.outside, 123))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for deadline := time.Now().Add(lab.Patience); ; {
			if _, err := stream.Exchange(lab.Patience, "again"); err != nil {
				t.Fatal(err)
			}
			if g.left(t, protoUDP, ip.lan1, ip.outside, 123) > 300*time.Second {
				break
			}
			if time.Now().After(deadline) {
				t.Error("a stream of UDP does not live longer than one exchange")
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		g.lives(t, protoUDP, ip.lan1, ip.outside, 123, 400*time.Second)
	})
	g.delete(t)
}

// Flows keep their timeouts while the policy changes around them. Where the
// timeouts themselves change, new flows have the new ones, and open ones the
// host's.
func TestTimeoutsChange(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server)
	entry := func(more string) string {
		return zones + "masquerade:\n  - {name: nat, from: lan, to: wan, timeouts: {udp: {unreplied: " + more + "}\n"
	}
	g := applied(t, topo, entry("200s}}"))
	each(t, func(t *testing.T, ip family) {
		g.apply(t, entry("200s}}"))
		send := func(port uint16) {
			g.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 7, DstPort: port}.Bytes())
			g.Settle()
		}
		send(1001)
		g.apply(t, entry("200s}}, log: {group: 5}"))
		send(1001)
		g.lives(t, protoUDP, ip.lan1, ip.outside, 1001, 200*time.Second)
		g.apply(t, entry("400s}}"))
		send(1001)
		send(1002)
		g.lives(t, protoUDP, ip.lan1, ip.outside, 1001, 30*time.Second)
		g.lives(t, protoUDP, ip.lan1, ip.outside, 1002, 400*time.Second)
	})
	g.delete(t)
}

// An entry before others has its flows alone, with timeouts or without.
func TestTimeoutsOfNarrowerEntry(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, zones+`
masquerade:
  - {name: plain, from: lan, to: wan, sources: [192.168.1.11, "fd00:1::11"]}
  - {name: web, from: lan, to: wan, protocol: tcp, ports: 80, timeouts: {tcp: {established: 1h}}}
  - {name: rest, from: [lan, dmz], to: wan, timeouts: {tcp: {established: 2h}, udp: {unreplied: 200s}}}
`)
	each(t, func(t *testing.T, ip family) {
		for _, h := range []*lab.Host{g.LAN1, g.LAN2, g.DMZ} {
			opens(t, h, at(ip.outside, 80), ip.uplink)
			opens(t, h, at(ip.outside, 22), ip.uplink)
			asks(t, h, at(ip.outside, 53), ip.uplink)
		}
		g.lives(t, protoTCP, ip.lan1, ip.outside, 80, time.Hour)
		g.lives(t, protoTCP, ip.lan1, ip.outside, 22, 2*time.Hour)
		g.lives(t, protoUDP, ip.lan1, ip.outside, 53, 200*time.Second)
		g.lives(t, protoTCP, ip.lan2, ip.outside, 80, 120*time.Hour)
		g.lives(t, protoTCP, ip.lan2, ip.outside, 22, 120*time.Hour)
		g.lives(t, protoUDP, ip.lan2, ip.outside, 53, 30*time.Second)
		g.lives(t, protoTCP, ip.dmz, ip.outside, 80, 2*time.Hour)
	})
	g.delete(t)
}
