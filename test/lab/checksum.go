package lab

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sum adds b to a ones' complement sum in 16-bit words.
func sum(acc uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
		acc = acc&0xffff + acc>>16
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
		acc = acc&0xffff + acc>>16
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc&0xffff + acc>>16
	}
	return uint16(acc)
}

// Checksum returns an error where the checksum of the IPv4 header, or of TCP, UDP, ICMP or ICMPv6, is wrong.
// It says nothing about the transport of a fragment, of a packet that the capture cut, or of one whose checksum
// was left to the device.
func (p *Packet) Checksum() error {
	if !p.IsIP() {
		return errors.New("not an ip packet")
	}
	if p.Src.Is4() {
		header := int(p.IP[0]&15) * 4
		if got := fold(sum(0, p.IP[:header])); got != 0xffff {
			return fmt.Errorf("%s: ip header checksum is wrong", p)
		}
	}
	if p.PartialChecksum || p.MoreFragments || p.FragmentOffset > 0 || p.Length > len(p.IP) {
		return nil
	}
	segment := p.IP[p.transportAt:]
	var acc uint32
	switch p.Proto {
	case unix.IPPROTO_UDP:
		if len(segment) >= 8 && p.Src.Is4() && segment[6] == 0 && segment[7] == 0 {
			return nil // not used
		}
		acc = p.pseudoHeader(len(segment))
	case unix.IPPROTO_TCP, unix.IPPROTO_ICMPV6:
		acc = p.pseudoHeader(len(segment))
	case unix.IPPROTO_ICMP:
	default:
		return nil
	}
	if fold(sum(acc, segment)) != 0xffff {
		return fmt.Errorf("%s: transport checksum is wrong", p)
	}
	return nil
}

func (p *Packet) pseudoHeader(length int) uint32 {
	acc := sum(0, p.Src.AsSlice())
	acc = sum(acc, p.Dst.AsSlice())
	return acc + uint32(p.Proto) + uint32(length)
}
