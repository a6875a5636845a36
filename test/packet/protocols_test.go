package packet

import (
	"encoding/binary"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	protoGRE, protoESP, protoSCTP = 47, 50, 132
)

// sent sends the first packet of a protocol and gives how it came to a host
// at an address, or nil.
func (g *gateway) sent(from, to *lab.Host, proto uint8, src, dst, at string, payload []byte) *lab.Packet {
	came := to.Capture("eth0", func(p *lab.Packet) bool {
		return p.Proto == proto && p.Dst.String() == at && (proto != protoICMPv6 || p.ICMPType == payload[0]) // neighbours talk too
	})
	defer came.Stop()
	from.SendPacket("eth0", lab.Raw{Header: lab.Between(src, dst), Proto: proto, Payload: payload}.Bytes())
	g.Settle()
	came.Sync()
	if packets := came.Packets(); len(packets) == 1 {
		return &packets[0]
	}
	return nil
}

// portedPayload begins a flow of SCTP or UDP-Lite.
func portedPayload(ip family, proto uint8, from, to uint16) []byte {
	if proto == protoSCTP {
		return sctpInit(from, to)
	}
	return udpLite(ip, from, to)
}

// Rules know what is neither TCP, UDP nor ICMP, by its ports where it has any.
func TestForwardOtherProtocols(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // see TestPortForwardOtherProtocols
	g := applied(t, topo, zones+`
forward:
  rules:
    - {name: ported, from: lan, to: dmz, protocol: [sctp, udplite], source_ports: 1000-1999, ports: [5000, 5100-5110], action: accept}
    - {name: tunnel, from: lan, to: dmz, protocol: gre, action: accept}
    - {name: number, from: lan, to: dmz, protocol: 89, action: accept}
    - {name: sealed, from: lan, to: wan, protocol: esp, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		for _, c := range []struct {
			proto    uint8
			from, to uint16
			passes   bool
		}{
			{protoSCTP, 1000, 5000, true}, {protoUDPLite, 1001, 5000, true}, {protoSCTP, 1999, 5110, true}, {protoUDPLite, 1002, 5105, true},
			{protoSCTP, 2000, 5000, false}, {protoSCTP, 1003, 5001, false}, {protoUDPLite, 999, 5000, false}, {protoUDPLite, 1004, 5111, false},
		} {
			if p := g.sent(g.LAN1, g.DMZ, c.proto, ip.lan1, ip.dmz, ip.dmz, portedPayload(ip, c.proto, c.from, c.to)); (p != nil) != c.passes {
				t.Errorf("protocol %d from port %d to %d: %v", c.proto, c.from, c.to, p)
			}
		}
		for proto, passes := range map[uint8]bool{protoGRE: true, 89: true, protoESP: false, 88: false} {
			if p := g.sent(g.LAN1, g.DMZ, proto, ip.lan1, ip.dmz, ip.dmz, make([]byte, 24)); (p != nil) != passes {
				t.Errorf("protocol %d: %v", proto, p)
			}
		}
		fails(t, g.LAN1, at(ip.dmz, 5000), lab.IsTimeout)
	})
	g.delete(t)
}

// What is neither TCP nor UDP leaves with the gateway's address too, from the
// ports of the range where it has ports.
func TestMasqueradeOtherProtocols(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // see TestPortForwardOtherProtocols
	g := applied(t, topo, twoZones+`
masquerade:
  - {name: ported, from: lan, to: wan, protocol: [sctp, udplite], ports: 5000, outside_ports: 50000-50099}
  - {name: tunnels, from: lan, to: wan, protocol: [gre, esp]}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		for _, proto := range []uint8{protoSCTP, protoUDPLite} {
			p := g.sent(g.LAN1, g.Server, proto, ip.lan1, ip.outside, ip.outside, portedPayload(ip, proto, 1000, 5000))
			if p == nil || p.Src.String() != ip.uplink {
				t.Errorf("protocol %d came as %v, want it from %s", proto, p, ip.uplink)
				continue
			}
			if from := binary.BigEndian.Uint16(p.Payload); from < 50000 || from > 50099 {
				t.Errorf("protocol %d came from port %d, want 50000 to 50099", proto, from)
			}
			if proto == protoSCTP && binary.LittleEndian.Uint32(p.Payload[8:]) != sctpChecksum(p.Payload) {
				t.Error("sctp came with a wrong checksum")
			}
			if p := g.sent(g.LAN1, g.Server, proto, ip.lan1, ip.outside, ip.outside, portedPayload(ip, proto, 1001, 5001)); p != nil {
				t.Errorf("protocol %d to another port: %v", proto, p)
			}
		}
		for _, proto := range []uint8{protoGRE, protoESP} {
			if p := g.sent(g.LAN1, g.Server, proto, ip.lan1, ip.outside, ip.outside, make([]byte, 24)); p == nil || p.Src.String() != ip.uplink {
				t.Errorf("protocol %d came as %v, want it from %s", proto, p, ip.uplink)
			}
		}
		if p := g.sent(g.LAN1, g.Server, 89, ip.lan1, ip.outside, ip.outside, make([]byte, 24)); p != nil {
			t.Errorf("protocol 89, which no entry names: %v", p)
		}
	})
	leaks.none(t)
	g.delete(t)
}

// What is exposed without being TCP or UDP comes in as it is, and what is beside
// it does not.
func TestOneToOneOtherProtocols(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0") // see TestPortForwardOtherProtocols
	pool(t, topo, 10, 10)
	listens(topo.LAN1, 6000, 6010, 6011)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, twoZones+ip.mapped(`
  - {name: host, zone: wan, outside: "$10", inside: "$lan1", expose: [sctp/5000-5010, udplite, udp/6000-6010, gre, 89]}
`))
		for _, c := range []struct {
			proto    uint8
			from, to uint16
			passes   bool
		}{
			{protoSCTP, 1000, 5000, true}, {protoSCTP, 1001, 5010, true}, {protoSCTP, 1002, 5011, false}, {protoUDPLite, 1003, 4, true},
		} {
			p := g.sent(g.Neighbor, g.LAN1, c.proto, ip.neighbor, ip.public(10), ip.lan1, portedPayload(ip, c.proto, c.from, c.to))
			if (p != nil) != c.passes || p != nil && (p.Src.String() != ip.neighbor || binary.BigEndian.Uint16(p.Payload[2:]) != c.to) {
				t.Errorf("protocol %d to port %d: %v", c.proto, c.to, p)
			}
		}
		for proto, passes := range map[uint8]bool{protoGRE: true, 89: true, protoESP: false} {
			if p := g.sent(g.Neighbor, g.LAN1, proto, ip.neighbor, ip.public(10), ip.lan1, make([]byte, 24)); (p != nil) != passes {
				t.Errorf("protocol %d: %v", proto, p)
			}
			// On the way out everything goes, with the outside address.
			if p := g.sent(g.LAN1, g.Server, proto, ip.lan1, ip.outside, ip.outside, make([]byte, 24)); p == nil || p.Src.String() != ip.public(10) {
				t.Errorf("protocol %d came out as %v", proto, p)
			}
		}
		for _, port := range []int{6000, 6010} {
			lands(t, "udp", g.Neighbor, at(ip.public(10), port), at(ip.lan1, port), "")
		}
		together(udp(g.Neighbor, ip.public(10), 6011).drops(t), tcp(g.Neighbor, ip.public(10), 6000).drops(t), ping(g.Neighbor, ip.public(10)).drops(t))
	})
	g.delete(t)
}
