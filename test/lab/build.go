package lab

import (
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Header is the IP header of a packet to build. Src decides the family; a zero TTL is 64.
type Header struct {
	Src, Dst string // addresses
	TTL      uint8
	TOS      uint8
	DF       bool   // IPv4
	ID       uint16 // IPv4
}

// Between is a header with nothing but its addresses.
func Between(src, dst string) Header { return Header{Src: src, Dst: dst} }

// TCP is a TCP segment to build.
type TCP struct {
	Header
	SrcPort, DstPort uint16
	Flags            TCPFlags
	Seq, Ack         uint32
	Window           uint16 // zero is 65535
	MSS              uint16 // the option, where not zero
	Payload          []byte
}

// UDP is a UDP datagram to build.
type UDP struct {
	Header
	SrcPort, DstPort uint16
	Payload          []byte
}

// ICMPEcho is a ping to build, or the answer to one.
type ICMPEcho struct {
	Header
	ID, Seq uint16
	Reply   bool
	Payload []byte
}

// ICMPError is an ICMP error to build. Inner is the packet that it complains about, which is cut as a router
// would.
type ICMPError struct {
	Header
	Type, Code uint8
	MTU        int // of the next hop, for "fragmentation needed" and "packet too big"
	Inner      []byte
}

// Raw is an IP packet of any protocol to build.
type Raw struct {
	Header
	Proto   uint8
	Payload []byte
}

// Bytes returns the packet with right lengths and checksums. It panics on addresses that are none or not of one
// family: a mistake in a test.
func (t TCP) Bytes() []byte {
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(t.SrcPort), DstPort: layers.TCPPort(t.DstPort),
		Seq: t.Seq, Ack: t.Ack, Window: t.Window,
		FIN: t.Flags&FIN != 0, SYN: t.Flags&SYN != 0, RST: t.Flags&RST != 0, PSH: t.Flags&PSH != 0,
		ACK: t.Flags&ACK != 0, URG: t.Flags&URG != 0, ECE: t.Flags&ECE != 0, CWR: t.Flags&CWR != 0,
	}
	if tcp.Window == 0 {
		tcp.Window = 65535
	}
	if t.MSS != 0 {
		tcp.Options = []layers.TCPOption{{
			OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(t.MSS >> 8), byte(t.MSS)},
		}}
	}
	ip, network := t.layer(layers.IPProtocolTCP)
	must(tcp.SetNetworkLayerForChecksum(network))
	return serialize(ip, tcp, gopacket.Payload(t.Payload))
}

// Bytes returns the packet, as for [TCP].
func (u UDP) Bytes() []byte {
	udp := &layers.UDP{SrcPort: layers.UDPPort(u.SrcPort), DstPort: layers.UDPPort(u.DstPort)}
	ip, network := u.layer(layers.IPProtocolUDP)
	must(udp.SetNetworkLayerForChecksum(network))
	return serialize(ip, udp, gopacket.Payload(u.Payload))
}

// Bytes returns the packet, as for [TCP].
func (e ICMPEcho) Bytes() []byte {
	body := append([]byte{byte(e.ID >> 8), byte(e.ID), byte(e.Seq >> 8), byte(e.Seq)}, e.Payload...)
	kind := uint8(8)
	switch v6 := e.v6(); {
	case v6 && e.Reply:
		kind = 129
	case v6:
		kind = 128
	case e.Reply:
		kind = 0
	}
	return e.icmp(kind, 0, body)
}

// Bytes returns the packet, as for [TCP].
func (e ICMPError) Bytes() []byte {
	limit := 576 - 28
	if e.v6() {
		limit = 1280 - 48
	}
	body := []byte{byte(e.MTU >> 24), byte(e.MTU >> 16), byte(e.MTU >> 8), byte(e.MTU)}
	return e.icmp(e.Type, e.Code, append(body, e.Inner[:min(limit, len(e.Inner))]...))
}

// Bytes returns the packet, as for [TCP].
func (r Raw) Bytes() []byte {
	ip, _ := r.layer(layers.IPProtocol(r.Proto))
	return serialize(ip, gopacket.Payload(r.Payload))
}

// icmp takes the four bytes behind the checksum as the start of body.
func (h Header) icmp(kind, code uint8, body []byte) []byte {
	if h.v6() {
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
		ip, network := h.layer(layers.IPProtocolICMPv6)
		must(icmp.SetNetworkLayerForChecksum(network))
		return serialize(ip, icmp, gopacket.Payload(body))
	}
	ip, _ := h.layer(layers.IPProtocolICMPv4)
	icmp := &layers.ICMPv4{
		TypeCode: layers.CreateICMPv4TypeCode(kind, code),
		Id:       uint16(body[0])<<8 | uint16(body[1]),
		Seq:      uint16(body[2])<<8 | uint16(body[3]),
	}
	return serialize(ip, icmp, gopacket.Payload(body[4:]))
}

func (h Header) v6() bool {
	return netip.MustParseAddr(h.Src).Is6()
}

func (h Header) layer(proto layers.IPProtocol) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
	src, dst := netip.MustParseAddr(h.Src), netip.MustParseAddr(h.Dst)
	if src.Is4() != dst.Is4() {
		panic(fmt.Sprintf("lab: packet from %s to %s", src, dst))
	}
	ttl := h.TTL
	if ttl == 0 {
		ttl = 64
	}
	if src.Is6() {
		ip := &layers.IPv6{
			Version: 6, HopLimit: ttl, TrafficClass: h.TOS, NextHeader: proto,
			SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		return ip, ip
	}
	ip := &layers.IPv4{
		Version: 4, TTL: ttl, TOS: h.TOS, Id: h.ID, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
	if h.DF {
		ip.Flags = layers.IPv4DontFragment
	}
	return ip, ip
}

func serialize(parts ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return buffer.Bytes()
}

func must(err error) {
	if err != nil {
		panic("lab: build packet: " + err.Error())
	}
}
