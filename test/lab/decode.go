package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errShort is what decoding a cut header gives.
var errShort = errors.New("packet cut short")

// DecodeIP decodes an IP packet. The result shares its bytes.
func DecodeIP(b []byte) (Packet, error) {
	p := Packet{Frame: b}
	if len(b) == 0 {
		return p, fmt.Errorf("decode packet: %w", errShort)
	}
	p.EtherType = unix.ETH_P_IP
	if b[0]>>4 == 6 {
		p.EtherType = unix.ETH_P_IPV6
	}
	if err := p.decodeIP(0); err != nil {
		return p, fmt.Errorf("decode packet: %w", err)
	}
	return p, nil
}

// decodeEthernet leaves a frame that is not IP, or that is damaged, with what could be read.
func (p *Packet) decodeEthernet(frame []byte) {
	p.Frame, p.Length = frame, len(frame)
	if len(frame) < 14 {
		return
	}
	at := 14
	p.EtherType = binary.BigEndian.Uint16(frame[12:])
	for p.EtherType == unix.ETH_P_8021Q && len(frame) >= at+4 {
		p.EtherType = binary.BigEndian.Uint16(frame[at+2:])
		at += 4
	}
	if p.EtherType == unix.ETH_P_IP || p.EtherType == unix.ETH_P_IPV6 {
		_ = p.decodeIP(at)
	}
}

func (p *Packet) decodeIP(at int) error {
	p.ipAt = at
	b := p.Frame[at:]
	if p.EtherType == unix.ETH_P_IP {
		return p.decodeIPv4(b)
	}
	return p.decodeIPv6(b)
}

func (p *Packet) decodeIPv4(b []byte) error {
	if len(b) < 20 || b[0]>>4 != 4 || int(b[0]&15)*4 < 20 || int(b[0]&15)*4 > len(b) {
		return errShort
	}
	p.Length = int(binary.BigEndian.Uint16(b[2:]))
	p.TOS, p.TTL, p.Proto = b[1], b[8], b[9]
	p.ID = uint32(binary.BigEndian.Uint16(b[4:]))
	fragment := binary.BigEndian.Uint16(b[6:])
	p.DF = fragment&0x4000 != 0
	p.MoreFragments = fragment&0x2000 != 0
	p.FragmentOffset = int(fragment&0x1fff) * 8
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.IP = b[:min(max(p.Length, 20), len(b))]
	return p.decodeTransport(int(b[0]&15) * 4)
}

func (p *Packet) decodeIPv6(b []byte) error {
	if len(b) < 40 || b[0]>>4 != 6 {
		return errShort
	}
	p.Length = 40 + int(binary.BigEndian.Uint16(b[4:]))
	p.TOS, p.TTL, p.Proto = b[0]<<4|b[1]>>4, b[7], b[6]
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.IP = b[:min(p.Length, len(b))]
	at := 40
	for {
		size := 8
		switch p.Proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(p.IP) < at+8 {
				return errShort
			}
			size = (int(p.IP[at+1]) + 1) * 8
		case unix.IPPROTO_FRAGMENT:
			if len(p.IP) < at+8 {
				return errShort
			}
			fragment := binary.BigEndian.Uint16(p.IP[at+2:])
			p.FragmentOffset = int(fragment &^ 7)
			p.MoreFragments = fragment&1 != 0
			p.ID = binary.BigEndian.Uint32(p.IP[at+4:])
		default:
			return p.decodeTransport(at)
		}
		if len(p.IP) < at+size {
			return errShort
		}
		p.Proto = p.IP[at]
		at += size
		if p.FragmentOffset > 0 {
			return p.decodeTransport(at)
		}
	}
}

func (p *Packet) decodeTransport(at int) error {
	at = min(at, len(p.IP))
	p.transportAt = at
	p.setPayload(at)
	if p.FragmentOffset > 0 {
		return nil
	}
	b := p.Payload
	switch p.Proto {
	case unix.IPPROTO_TCP:
		if len(b) < 20 {
			return errShort
		}
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.Seq, p.Ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		p.Flags = TCPFlags(b[13])
		p.setPayload(at + min(int(b[12]>>4)*4, len(b)))
	case unix.IPPROTO_UDP:
		if len(b) < 8 {
			return errShort
		}
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.setPayload(at + 8)
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if len(b) < 8 {
			return errShort
		}
		p.ICMPType, p.ICMPCode = b[0], b[1]
		if p.IsEchoRequest() || p.IsEchoReply() {
			p.SrcPort = binary.BigEndian.Uint16(b[4:])
			p.DstPort = p.SrcPort
			p.Seq = uint32(binary.BigEndian.Uint16(b[6:]))
		}
		p.setPayload(at + 8)
	}
	return nil
}

func (p *Packet) setPayload(at int) {
	p.payloadAt = at
	p.Payload = p.IP[at:]
}

// IsEchoRequest reports whether the packet is a ping.
func (p *Packet) IsEchoRequest() bool {
	return p.Proto == unix.IPPROTO_ICMP && p.ICMPType == 8 || p.Proto == unix.IPPROTO_ICMPV6 && p.ICMPType == 128
}

// IsEchoReply reports whether the packet answers a ping.
func (p *Packet) IsEchoReply() bool {
	return p.Proto == unix.IPPROTO_ICMP && p.ICMPType == 0 || p.Proto == unix.IPPROTO_ICMPV6 && p.ICMPType == 129
}
