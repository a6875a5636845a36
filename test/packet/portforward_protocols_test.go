package packet

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// SCTP and UDP-Lite have ports like TCP and UDP, and checksums of their own,
// which must be right behind the translation. The lab has no sockets for them.
func TestPortForwardOtherProtocols(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	// Conntrack looks at the checksum of UDP-Lite as if it were one of UDP, and
	// takes right ones for wrong (nf_conntrack_proto_udp.c, udplite_error).
	topo.GW.Sysctl("net.netfilter.nf_conntrack_checksum", "0")
	g := untouched(t, topo)
	const sctp, udplite = 132, 136
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: association, from: wan, protocol: [sctp, udplite], ports: 5000, to: "$lan1:6000"}
  - {name: range, from: wan, protocol: sctp, ports: 5100-5110, to: "$lan1:6100-6110"}
`))
		for _, c := range []struct {
			proto    uint8
			port, to uint16 // to 0: it stays at the gateway
		}{
			{sctp, 5000, 6000}, {udplite, 5000, 6000}, {sctp, 5105, 6105}, {udplite, 5105, 0}, {sctp, 5001, 0},
		} {
			got := topo.LAN1.Capture("eth0", func(p *lab.Packet) bool { return p.Proto == c.proto })
			header := lab.Between(ip.neighbor, ip.uplink)
			payload := sctpInit(4000+c.port, c.port)
			if c.proto == udplite {
				payload = udpLite(ip, 4000+c.port, c.port)
			}
			topo.Neighbor.SendPacket("eth0", lab.Raw{Header: header, Proto: c.proto, Payload: payload}.Bytes())
			if got.Sync(); c.to == 0 {
				if got.Count() != 0 {
					t.Errorf("protocol %d port %d, which no entry forwards: %v", c.proto, c.port, got)
				}
				continue
			}
			packets, err := got.Wait(1, lab.Patience)
			if err != nil {
				t.Errorf("protocol %d port %d: %v", c.proto, c.port, err)
				continue
			}
			p := packets[0]
			from, to := binary.BigEndian.Uint16(p.Payload), binary.BigEndian.Uint16(p.Payload[2:])
			if p.Src.String() != ip.neighbor || p.Dst.String() != ip.lan1 || from != 4000+c.port || to != c.to {
				t.Errorf("protocol %d port %d came as %s:%d > %s:%d, want %s:%d > %s:%d",
					c.proto, c.port, p.Src, from, p.Dst, to, ip.neighbor, 4000+c.port, ip.lan1, c.to)
			}
			if c.proto == sctp && binary.LittleEndian.Uint32(p.Payload[8:]) != sctpChecksum(p.Payload) {
				t.Errorf("sctp port %d came with a wrong checksum", c.port)
			}
			if c.proto == udplite && binary.BigEndian.Uint16(p.Payload[6:]) != udpLiteChecksum(p.Src, p.Dst, p.Payload) {
				t.Errorf("udplite port %d came with a wrong checksum", c.port)
			}
		}
	})
	g.delete(t)
}

// sctpInit is the first packet of an association (RFC 9260, 3.3.2).
func sctpInit(from, to uint16) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12] = 1                                   // INIT
	binary.BigEndian.PutUint16(b[14:], 20)      // length of the chunk
	binary.BigEndian.PutUint32(b[16:], 1)       // tag
	binary.BigEndian.PutUint32(b[20:], 1<<16)   // window
	binary.BigEndian.PutUint32(b[24:], 1<<16|1) // streams
	binary.LittleEndian.PutUint32(b[8:], sctpChecksum(b))
	return b
}

// sctpChecksum is CRC32c over the packet with a checksum of 0.
func sctpChecksum(packet []byte) uint32 {
	b := append([]byte(nil), packet...)
	clear(b[8:12])
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// udpLite is a datagram whose checksum covers its header alone (RFC 3828).
func udpLite(ip family, from, to uint16) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], 8)
	binary.BigEndian.PutUint16(b[6:], udpLiteChecksum(netip.MustParseAddr(ip.neighbor), netip.MustParseAddr(ip.uplink), b))
	return b
}

func udpLiteChecksum(src, dst netip.Addr, datagram []byte) uint16 {
	sum := uint32(136 + len(datagram))
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), datagram[:6]} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
