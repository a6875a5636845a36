package stage

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/simulate"
	"golang.org/x/sys/unix"
)

const (
	ipv4Header = 20
	ipv6Header = 40
	ipAH       = 51
	noNext     = 59
	udpLite    = 136
)

// build writes a packet whose payload, or whose sequence number where it is TCP,
// is a token that no translation changes.
func build(p *simulate.Packet, token uint32) []byte {
	body := transport(p, token)
	hops := p.HopLimit
	if hops == 0 {
		hops = 64
	}
	if p.Source.Is4() {
		b := make([]byte, ipv4Header, ipv4Header+len(body))
		b[0], b[8], b[9] = 0x45, hops, p.Protocol
		binary.BigEndian.PutUint16(b[2:], uint16(ipv4Header+len(body)))
		binary.BigEndian.PutUint16(b[4:], uint16(token))
		copy(b[12:], p.Source.AsSlice())
		copy(b[16:], p.Destination.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b)))
		return append(b, body...)
	}
	b := make([]byte, ipv6Header, ipv6Header+len(body))
	b[0], b[6], b[7] = 0x60, p.Protocol, hops
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	copy(b[8:], p.Source.AsSlice())
	copy(b[24:], p.Destination.AsSlice())
	return append(b, body...)
}

// checksumAt is where the checksum of a protocol stands that network cards look
// at for the kernel; 0 for others.
func checksumAt(protocol uint8) int {
	switch protocol {
	case unix.IPPROTO_TCP:
		return 16
	case unix.IPPROTO_UDP, udpLite:
		return 6
	}
	return 0
}

// checked makes a packet one that a card has looked at: the sum of the pseudo
// header stands for the checksum. The kernel cannot look at that of UDP-Lite
// itself (udplite_error of nf_conntrack_proto_udp.c takes it for UDP's), nor at
// that of a SYN of IPv6 for a synproxy.
func checked(p *simulate.Packet, b []byte) []byte {
	at := checksumAt(p.Protocol)
	if at == 0 {
		return b
	}
	header := ipv4Header
	if p.Source.Is6() {
		header = ipv6Header
	}
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[header+at:], fold(pseudo(p, len(b)-header)))
	return b
}

// transport is what stands behind the IP header.
func transport(p *simulate.Packet, token uint32) []byte {
	mark := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, token), ^token)
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SourcePort), p.DestinationPort)
	switch p.Protocol {
	case unix.IPPROTO_TCP:
		b := append(ports, make([]byte, 20)...) // with the option of a segment size
		binary.BigEndian.PutUint32(b[4:], token)
		b[12], b[13] = 6<<4, p.TCPFlags
		binary.BigEndian.PutUint16(b[14:], 64240)
		copy(b[20:], []byte{2, 4, 1460 >> 8, 1460 & 0xff})
		binary.BigEndian.PutUint16(b[16:], ^fold(sum(pseudo(p, len(b)), b)))
		return b
	case unix.IPPROTO_UDP, udpLite:
		b := append(append(ports, 0, 0, 0, 0), mark...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b))) // of UDP-Lite: the checksum is of all
		binary.BigEndian.PutUint16(b[6:], ^fold(sum(pseudo(p, len(b)), b)))
		return b
	case unix.IPPROTO_SCTP: // INIT (RFC 9260, 3.3.2), with the token as the initiate tag
		b := append(ports, make([]byte, 28)...)
		b[12], b[15] = 1, 20
		binary.BigEndian.PutUint32(b[16:], token)
		binary.BigEndian.PutUint32(b[20:], 65536)
		binary.BigEndian.PutUint32(b[24:], 1<<16|1)
		binary.BigEndian.PutUint32(b[28:], token)
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		return b
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		b := append([]byte{p.ICMPType, 0, 0, 0, byte(token >> 8), byte(token), 0, 1}, mark...)
		first := uint32(0)
		if p.Protocol == unix.IPPROTO_ICMPV6 {
			first = pseudo(p, len(b))
		}
		binary.BigEndian.PutUint16(b[2:], ^fold(sum(first, b)))
		return b
	case unix.IPPROTO_GRE: // version 0, of the protocol IP
		return append([]byte{0, 0, 8, 0}, mark...)
	case ipAH: // RFC 4302, with the token as the check value
		return append([]byte{noNext, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, mark...)
	}
	return append(mark, mark...)
}

func pseudo(p *simulate.Packet, length int) uint32 {
	return sum(sum(0, p.Source.AsSlice()), p.Destination.AsSlice()) + uint32(p.Protocol) + uint32(length)
}

// sum adds to a ones' complement sum of 16-bit words.
func sum(acc uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc&0xffff + acc>>16
	}
	return uint16(acc)
}

// read is a packet that came out somewhere.
type read struct {
	simulate.Ends
	protocol uint8
	body     []byte // behind the IP header
}

// parse takes a packet apart, as far as this package writes them.
func parse(b []byte) (read, bool) {
	var r read
	switch {
	case len(b) >= ipv4Header && b[0]>>4 == 4 && len(b) >= int(b[0]&15)*4:
		r.Source, _ = netip.AddrFromSlice(b[12:16])
		r.Destination, _ = netip.AddrFromSlice(b[16:20])
		r.protocol, r.body = b[9], b[int(b[0]&15)*4:]
	case len(b) >= ipv6Header && b[0]>>4 == 6:
		r.Source, _ = netip.AddrFromSlice(b[8:24])
		r.Destination, _ = netip.AddrFromSlice(b[24:40])
		r.protocol, r.body = b[6], b[40:]
	default:
		return r, false
	}
	if simulate.HasPorts(r.protocol) && len(r.body) >= 4 {
		r.SourcePort, r.DestinationPort = binary.BigEndian.Uint16(r.body), binary.BigEndian.Uint16(r.body[2:])
	}
	return r, true
}

// carries says whether a packet is the one that was sent with the token.
func (r *read) carries(p *simulate.Packet, token uint32) bool {
	return r.protocol == p.Protocol && carries(p, r.body, token)
}

// carries looks at what stands behind the IP header. An echo answers with what
// the request had, so that the type counts.
func carries(p *simulate.Packet, body []byte, token uint32) bool {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], token)
	binary.BigEndian.PutUint32(b[4:], ^token)
	switch p.Protocol {
	case unix.IPPROTO_TCP:
		return len(body) >= 20 && bytes.Equal(body[4:8], b[:4])
	case unix.IPPROTO_SCTP:
		return len(body) >= 20 && bytes.Equal(body[16:20], b[:4])
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return len(body) >= 16 && body[0] == p.ICMPType && bytes.Equal(body[8:16], b[:])
	}
	return bytes.Contains(body, b[:])
}

// answer is what the gateway said of a packet.
type answer uint8

const (
	nothing answer = iota
	reset
	handshake // as a server would begin one
	refused   // an ICMP error, as a rule sends it
	noWay     // an ICMP error, as routing sends it
)

// answers tells what a packet says about the one that was sent.
func (r *read) answers(p *simulate.Packet, token uint32) answer {
	switch r.protocol {
	case unix.IPPROTO_TCP:
		if p.Protocol != unix.IPPROTO_TCP || len(r.body) < 20 || binary.BigEndian.Uint32(r.body[8:]) != token+1 ||
			r.Source != p.Destination || r.Destination != p.Source {
			return nothing
		}
		const syn, rst, ack = 2, 4, 16
		switch flags := r.body[13]; {
		case flags&rst != 0:
			return reset
		case flags&(syn|ack) == syn|ack:
			return handshake
		}
	case unix.IPPROTO_ICMP:
		if len(r.body) < 8+ipv4Header || r.body[0] != 3 || !quotes(r.body[8:], p, token) {
			return nothing
		}
		if code := r.body[1]; code == 0 || code == 1 {
			return noWay
		}
		return refused
	case unix.IPPROTO_ICMPV6:
		if len(r.body) < 8+ipv6Header || r.body[0] != 1 || !quotes(r.body[8:], p, token) {
			return nothing
		}
		if code := r.body[1]; code == 0 || code == 3 {
			return noWay
		}
		return refused
	}
	return nothing
}

// quotes says whether an error is about the packet. An error of IPv4 may quote
// no more than eight bytes behind the header.
func quotes(b []byte, p *simulate.Packet, token uint32) bool {
	q, ok := parse(b)
	if !ok || q.Source != p.Source || q.protocol != p.Protocol {
		return false
	}
	return carries(p, q.body, token) || len(b) >= 6 && b[0]>>4 == 4 && binary.BigEndian.Uint16(b[4:]) == uint16(token)
}
