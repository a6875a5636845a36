package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// Ends are the source and destination of a packet. The identifier of an ICMP
// packet that has one is its source port.
type Ends struct {
	Source          netip.Addr `json:"source"`
	Destination     netip.Addr `json:"destination"`
	SourcePort      uint16     `json:"source_port,omitempty"`
	DestinationPort uint16     `json:"destination_port,omitempty"`
}

func (e Ends) reversed() Ends {
	return Ends{e.Destination, e.Source, e.DestinationPort, e.SourcePort}
}

// String gives "10.0.0.1:1000 -> 10.0.0.2:80".
func (e Ends) String() string {
	end := func(a netip.Addr, port uint16) string {
		if port == 0 {
			return a.String()
		}
		return netip.AddrPortFrom(a, port).String()
	}
	return end(e.Source, e.SourcePort) + " -> " + end(e.Destination, e.DestinationPort)
}

// Packet is a packet to send.
type Packet struct {
	In string `json:"in,omitempty"` // the link that it arrives by; "": the gateway itself sends it
	Ends
	Protocol uint8 `json:"protocol"`
	ICMPType uint8 `json:"icmp_type,omitempty"`
	Flags    uint8 `json:"flags,omitempty"` // of TCP
	HopLimit uint8 `json:"hop_limit"`
	// step is what packet of its flow it is.
	step step
}

type step uint8

const (
	first  step = iota // it opens a flow
	answer             // from the other side
	again              // the second in the first direction
)

const (
	icmp4   = 1
	tcp     = 6
	udp     = 17
	gre     = 47
	ah      = 51
	icmp6   = 58
	sctp    = 132
	udplite = 136
)

func hasPorts(protocol uint8) bool {
	return protocol == tcp || protocol == udp || protocol == sctp || protocol == udplite
}

// echo says whether a packet asks for, or is, the echo of a ping or the like,
// and so has an identifier.
func (p *Packet) identified() bool {
	switch p.Protocol {
	case icmp4:
		return p.ICMPType == 0 || p.ICMPType == 8 || p.ICMPType >= 13
	case icmp6:
		return p.ICMPType == 128 || p.ICMPType == 129 || p.ICMPType == 139 || p.ICMPType == 140
	}
	return false
}

// complains says whether a packet is an ICMP error.
func (p *Packet) complains() bool {
	switch p.Protocol {
	case icmp4:
		return p.ICMPType == 3 || p.ICMPType == 4 || p.ICMPType == 5 || p.ICMPType == 11 || p.ICMPType == 12
	case icmp6:
		return p.ICMPType < 128
	}
	return false
}

// String is the packet as a person would write it down.
func (p *Packet) String() string {
	from := "from the gateway"
	if p.In != "" {
		from = "in by " + p.In
	}
	what := ""
	switch p.Protocol {
	case icmp4, icmp6:
		what = fmt.Sprintf("icmp type %d", p.ICMPType)
		if p.Protocol == icmp6 {
			what = fmt.Sprintf("icmpv6 type %d", p.ICMPType)
		}
	case tcp:
		what = "tcp " + lab.TCPFlags(p.Flags).String()
	default:
		what = map[uint8]string{udp: "udp", gre: "gre", ah: "ah", 50: "esp", sctp: "sctp", udplite: "udplite"}[p.Protocol]
		if what == "" {
			what = fmt.Sprintf("protocol %d", p.Protocol)
		}
	}
	text := fmt.Sprintf("%s %s %s", from, p.Ends, what)
	if p.HopLimit != 64 {
		text += fmt.Sprintf(" hop limit %d", p.HopLimit)
	}
	return text + [...]string{"", " (the answer to it)", " (the second of its flow)"}[p.step]
}

// mark is what tells the packets of the oracle by; the number of the packet is
// behind it.
var mark = []byte("ipmasq? ")

const tagLength = 12

func tagged(tag uint32) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(mark), tag)
}

// sequence is the number of a packet as TCP counts: an answer without a payload
// tells it.
func sequence(tag uint32) uint32 { return 0x40000000 + tag<<8 }

func tagOf(sequence uint32) uint32 { return (sequence - 0x40000000) >> 8 }

// bytes gives the packet, of which tag is the number.
func (p *Packet) bytes(tag uint32) []byte {
	var b []byte
	put16 := func(v ...uint16) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint16(b, v)
		}
	}
	put32 := func(v ...uint32) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	checksum := -1
	pseudo := true
	switch p.Protocol {
	case tcp:
		put16(p.SourcePort, p.DestinationPort)
		ack := uint32(0)
		if p.Flags&ruleset.TCPAck != 0 {
			ack = sequence(tag)
		}
		seq := sequence(tag)
		switch p.step {
		case answer: // to the packet before
			ack = sequence(tag-1) + 1
		case again:
			if seq = sequence(tag - 2); p.Flags&ruleset.TCPSyn == 0 {
				seq, ack = seq+1, sequence(tag-1)+1
			}
		}
		put32(seq, ack)
		b = append(b, 5<<4, p.Flags)
		put16(0xffff, 0, 0)
		checksum = 16
	case udp, udplite:
		length := uint16(8 + tagLength)
		if p.Protocol == udplite {
			length = 0 // all is covered
		}
		put16(p.SourcePort, p.DestinationPort, length, 0)
		checksum = 6
	case sctp:
		// INIT or INIT ACK, whose only parameter is the tag.
		kind, verify := byte(1), uint32(0)
		if p.step == answer {
			kind, verify = 2, sequence(tag-1)
		}
		initiate := sequence(tag)
		if p.step == again {
			initiate = sequence(tag - 2)
		}
		put16(p.SourcePort, p.DestinationPort)
		put32(verify, 0)
		b = append(b, kind, 0, 0, 20+4+tagLength)
		put32(initiate, 0xffff)
		put16(1, 1)
		put32(1)
		put16(0x8003, 4+tagLength)
	case icmp4, icmp6:
		b = append(b, p.ICMPType, 0, 0, 0)
		checksum, pseudo = 2, p.Protocol == icmp6
		switch {
		case p.complains():
			put32(0)
			b = append(b, p.quoted()...)
		case p.identified():
			put16(p.SourcePort, uint16(tag))
		default:
			put32(0)
		}
	case gre:
		put16(0, 0x0800)
	case ah:
		b = append(b, 59, 4, 0, 0)
		put32(7, tag)
		b = append(b, make([]byte, 12)...)
	default:
		put32(7, tag)
	}
	b = append(b, tagged(tag)...)
	if p.Protocol == sctp {
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	}
	if checksum >= 0 {
		var acc uint32
		if pseudo {
			acc = add(add(0, p.Source.AsSlice()), p.Destination.AsSlice()) + uint32(p.Protocol) + uint32(len(b))
		}
		sum := ^fold(add(acc, b))
		if sum == 0 && pseudo {
			sum = 0xffff // zero says that there is none
		}
		binary.BigEndian.PutUint16(b[checksum:], sum)
	}
	return append(p.header(len(b)), b...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *Packet) header(length int) (b []byte) {
	if p.Source.Is6() {
		b = append(b, 0x60, 0, 0, 0, byte(length>>8), byte(length), p.Protocol, p.HopLimit)
		return append(append(b, p.Source.AsSlice()...), p.Destination.AsSlice()...)
	}
	b = append(b, 0x45, 0, byte((length+20)>>8), byte(length+20), 0, 0, 0x40, 0, p.HopLimit, p.Protocol, 0, 0)
	b = append(append(b, p.Source.AsSlice()...), p.Destination.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], ^fold(add(0, b)))
	return b
}

// quoted is a packet of no flow, which an ICMP error complains about.
func (p *Packet) quoted() []byte {
	q := Packet{Ends: Ends{p.Destination, p.Source, 7, 9}, Protocol: udp, HopLimit: 60}
	b := []byte{0, 7, 0, 9, 0, 8, 0, 0}
	return append(q.header(len(b)), b...)
}

func add(acc uint32, b []byte) uint32 {
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

// seen is a packet as it was found.
type seen struct {
	tag  uint32
	ends Ends
	with string // how it answers, of an answer of the gateway's own
}

// recognize finds out which packet one is that was found, or which one it
// answers.
func recognize(ip []byte, sent func(tag uint32) *Packet) (s seen, ok bool) {
	p, err := lab.DecodeIP(ip)
	if err != nil {
		return s, false
	}
	s.ends = Ends{p.Src, p.Dst, p.SrcPort, p.DstPort}
	if body := p.IP[len(p.IP)-len(p.Payload):]; (p.Proto == sctp || p.Proto == udplite) && len(body) >= 4 {
		s.ends.SourcePort, s.ends.DestinationPort = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
	}
	if at := bytes.LastIndex(ip, mark); at >= 0 && len(ip) >= at+tagLength {
		s.tag = binary.BigEndian.Uint32(ip[at+len(mark):])
		original := sent(s.tag)
		if original == nil {
			return s, false
		}
		if p.Proto == icmp6 && p.ICMPType == 137 && original.ICMPType != 137 {
			return s, false // a better way, of which IPv6 always tells
		}
		shown := Packet{Protocol: p.Proto, ICMPType: p.ICMPType}
		if shown.identified() {
			s.ends.SourcePort, s.ends.DestinationPort = binary.BigEndian.Uint16(p.IP[len(p.IP)-len(p.Payload)-4:]), 0
		}
		if shown.complains() {
			s.ends.SourcePort, s.ends.DestinationPort = 0, 0
			if !original.complains() {
				s.with = complaint(p.Proto, p.ICMPType, p.ICMPCode)
			}
		}
		return s, true
	}
	if p.Proto != tcp {
		return s, false
	}
	switch {
	case p.Flags&(lab.SYN|lab.ACK) == lab.SYN|lab.ACK:
		s.tag, s.with = tagOf(p.Ack), "syn ack"
	case p.Flags&(lab.RST|lab.ACK) == lab.RST|lab.ACK:
		s.tag, s.with = tagOf(p.Ack), "tcp reset"
	case p.Flags&lab.RST != 0:
		s.tag, s.with = tagOf(p.Seq), "tcp reset"
	}
	return s, s.with != "" && sent(s.tag) != nil
}

// complaint names an ICMP error as rulesets do.
func complaint(protocol, kind, code uint8) string {
	if protocol == icmp4 && kind == 3 || protocol == icmp6 && kind == 1 {
		words := map[uint8]string{3: "port-unreachable", 13: "admin-prohibited"}
		if protocol == icmp6 {
			words = map[uint8]string{4: "port-unreachable", 1: "admin-prohibited"}
		}
		if words[code] != "" {
			return words[code]
		}
	}
	return strings.TrimSpace(fmt.Sprintf("icmp %d/%d", kind, code))
}
