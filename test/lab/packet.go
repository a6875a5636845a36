package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TCPFlags are the flag bits of a TCP header.
type TCPFlags uint8

// The flags of TCP.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// String reads like SYN|ACK.
func (f TCPFlags) String() string {
	var names []string
	for i, name := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Packet is a decoded frame. Addresses are zero in frames that are not IP, ports in fragments that are not the
// first.
type Packet struct {
	Time      time.Time
	Outgoing  bool   // sent by the host that captures
	EtherType uint16 // of the frame
	Length    int    // of the IP packet, which the capture may have cut

	Src, Dst         netip.Addr
	Proto            uint8 // the transport, past IPv6 extension headers
	TTL              uint8
	TOS              uint8
	DF               bool
	MoreFragments    bool
	FragmentOffset   int // in bytes
	ID               uint32
	SrcPort, DstPort uint16 // of TCP and UDP; the identifier of an echo is in both
	Flags            TCPFlags
	Seq, Ack         uint32
	ICMPType         uint8
	ICMPCode         uint8

	// PartialChecksum says that the sender left the transport checksum to the device.
	PartialChecksum bool

	Payload []byte // of the transport; of the IP packet where the transport is not known
	IP      []byte // the IP packet
	Frame   []byte // all of it

	ipAt        int // where IP starts in Frame
	transportAt int // where the transport header starts in IP
	payloadAt   int // where Payload starts in IP
}

// IsIP reports whether the frame holds an IP packet.
func (p *Packet) IsIP() bool { return p.Src.IsValid() }

// From returns source address and port.
func (p *Packet) From() netip.AddrPort { return netip.AddrPortFrom(p.Src, p.SrcPort) }

// To returns destination address and port.
func (p *Packet) To() netip.AddrPort { return netip.AddrPortFrom(p.Dst, p.DstPort) }

// Inner decodes the packet that an ICMP error quotes.
func (p *Packet) Inner() (Packet, error) {
	if p.Proto != unix.IPPROTO_ICMP && p.Proto != unix.IPPROTO_ICMPV6 {
		return Packet{}, errors.New("not an icmp error")
	}
	return DecodeIP(p.Payload)
}

// NextHopMTU returns the MTU that a "fragmentation needed" or "packet too big" names, else 0.
func (p *Packet) NextHopMTU() int {
	m := ICMP{V6: p.Proto == unix.IPPROTO_ICMPV6, Type: p.ICMPType, Code: p.ICMPCode}
	if p.Proto != unix.IPPROTO_ICMP && !m.V6 || !m.TooBig() {
		return 0
	}
	header := p.IP[:p.payloadAt]
	if m.V6 {
		return int(binary.BigEndian.Uint32(header[len(header)-4:]))
	}
	return int(binary.BigEndian.Uint16(header[len(header)-2:]))
}

// String reads like "out 10.0.0.1:80 > 10.0.0.2:4000 tcp SYN|ACK ttl 64 len 60".
func (p Packet) String() string {
	direction := "in"
	if p.Outgoing {
		direction = "out"
	}
	if !p.IsIP() {
		return fmt.Sprintf("%s ethertype %#04x len %d", direction, p.EtherType, p.Length)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s ", direction)
	switch p.Proto {
	case unix.IPPROTO_TCP:
		fmt.Fprintf(&s, "%s > %s tcp %s", p.From(), p.To(), p.Flags)
	case unix.IPPROTO_UDP:
		fmt.Fprintf(&s, "%s > %s udp", p.From(), p.To())
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		fmt.Fprintf(&s, "%s > %s icmp type %d code %d", p.Src, p.Dst, p.ICMPType, p.ICMPCode)
	default:
		fmt.Fprintf(&s, "%s > %s proto %d", p.Src, p.Dst, p.Proto)
	}
	fmt.Fprintf(&s, " ttl %d len %d", p.TTL, p.Length)
	if p.MoreFragments || p.FragmentOffset > 0 {
		fmt.Fprintf(&s, " fragment %d", p.FragmentOffset)
	}
	return s.String()
}

// clone copies the bytes, which belong to the capture's ring.
func (p *Packet) clone() Packet {
	c := *p
	c.Frame = append([]byte(nil), p.Frame...)
	if p.IP != nil {
		c.IP = c.Frame[p.ipAt : p.ipAt+len(p.IP)]
		c.Payload = c.IP[p.payloadAt : p.payloadAt+len(p.Payload)]
	}
	return c
}
