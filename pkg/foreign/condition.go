package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Field is what a test looks at.
type Field uint8

// The fields. Opaque is a condition that is not known here.
const (
	Opaque Field = iota
	In
	Out
	Source
	Destination
	Protocol
	SourcePort
	DestinationPort
	ICMPType
	State           // of conntrack, as bits
	Status          // of conntrack, as bits
	SourceType      // of routing, RTN_*
	DestinationType // the same
	Mark
	Family
)

var fieldNames = [...]string{"", "iifname", "oifname", "saddr", "daddr", "l4proto", "sport", "dport", "icmp type",
	"ct state", "ct status", "fib saddr type", "fib daddr type", "mark", "family"}

// Test is one condition. Interfaces are tested by Names, where a last "*" stands
// for the rest; all else by Ranges, both ends included, in network byte order;
// bits by any of Bits. Of a mark, Bits are those that count: 0 is all of them.
type Test struct {
	Field  Field
	Not    bool
	Names  []string
	Ranges [][2][]byte
	Bits   uint32
	Text   string // of an Opaque one
}

// Tri is what is known of a condition.
type Tri uint8

// No, perhaps, yes.
const (
	No Tri = iota
	Maybe
	Yes
)

func tri(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Packet is a packet at a hook. What is not set is not known, but interfaces: ""
// is that there is none, as there is none to leave by at prerouting.
type Packet struct {
	In, Out                     string
	IPv6                        bool
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	ICMPType                    uint8 // known where Protocol is ICMP's
	State                       uint32
	Status                      uint32 // known with State: DNAT, SNAT and SEEN_REPLY, ASSURED
	// SourceLocal and DestinationLocal say whether these are the host's own.
	SourceLocal, DestinationLocal bool
	Mark                          uint32
}

// The states of conntrack as bits, and what of its status is known of a packet
// (linux/netfilter/nf_conntrack_common.h).
const (
	StateInvalid     = 1 << 0
	StateEstablished = 1 << 1
	StateRelated     = 1 << 2
	StateNew         = 1 << 3
	StateUntracked   = 1 << 6

	StatusSeenReply = 1 << 1
	StatusConfirmed = 1 << 3
	StatusSNAT      = 1 << 4
	StatusDNAT      = 1 << 5

	knownStatus = StatusSeenReply | StatusConfirmed | StatusSNAT | StatusDNAT
)

const (
	typeUnicast = 1
	typeLocal   = 2
)

// Holds says whether a packet passes the test.
func (t *Test) Holds(p *Packet) Tri {
	v := t.plain(p)
	if t.Not && v != Maybe {
		return Yes - v
	}
	return v
}

func (t *Test) plain(p *Packet) Tri {
	switch t.Field {
	case In:
		return tri(t.names(p.In))
	case Out:
		return tri(t.names(p.Out))
	case Source:
		return t.address(p.Source)
	case Destination:
		return t.address(p.Destination)
	case Protocol:
		return t.number(uint64(p.Protocol), 1, p.Protocol != 0)
	case SourcePort:
		return t.port(p, p.SourcePort)
	case DestinationPort:
		return t.port(p, p.DestinationPort)
	case ICMPType:
		icmp := p.Protocol == 1 || p.Protocol == 58
		if !icmp && p.Protocol != 0 {
			return No
		}
		return t.number(uint64(p.ICMPType), 1, icmp)
	case State:
		return t.bits(p.State, ^uint32(0), p.State != 0)
	case Status:
		return t.bits(p.Status, knownStatus, p.State != 0)
	case SourceType:
		return t.kind(p.Source, p.SourceLocal)
	case DestinationType:
		return t.kind(p.Destination, p.DestinationLocal)
	case Mark:
		mark := p.Mark
		if t.Bits != 0 {
			mark &= t.Bits
		}
		return t.number(uint64(mark), 4, true)
	case Family:
		number := uint64(2)
		if p.IPv6 {
			number = 10
		}
		return t.number(number, 1, true)
	}
	return Maybe
}

func (t *Test) names(name string) bool {
	for _, n := range t.Names {
		if n == name {
			return true
		}
		if prefix, ok := strings.CutSuffix(n, "*"); ok && strings.HasPrefix(name, prefix) && name != "" {
			return true
		}
	}
	return false
}

func (t *Test) address(a netip.Addr) Tri {
	if !a.IsValid() {
		if len(t.Ranges) == 0 {
			return No
		}
		return Maybe
	}
	if a.Is4() {
		b := a.As4()
		return t.within(b[:])
	}
	b := a.As16()
	return t.within(b[:])
}

func (t *Test) port(p *Packet, port uint16) Tri {
	switch p.Protocol {
	case 6, 17, 33, 132, 136:
		return t.number(uint64(port), 2, port != 0)
	case 0:
		return Maybe
	}
	return No
}

func (t *Test) number(n uint64, size int, known bool) Tri {
	if !known {
		if len(t.Ranges) == 0 {
			return No
		}
		return Maybe
	}
	var room [4]byte
	value := room[:size]
	for i := size - 1; i >= 0; i-- {
		value[i] = byte(n)
		n >>= 8
	}
	return t.within(value)
}

func (t *Test) within(value []byte) Tri {
	for _, r := range t.Ranges {
		if len(r[0]) == len(value) && bytes.Compare(r[0], value) <= 0 && bytes.Compare(value, r[1]) <= 0 {
			return Yes
		}
	}
	return No
}

func (t *Test) bits(have, known uint32, told bool) Tri {
	switch {
	case !told:
		return Maybe
	case have&t.Bits != 0:
		return Yes
	case t.Bits&^known != 0:
		return Maybe
	}
	return No
}

// kind knows the host's own addresses, and takes all others for those of hosts.
func (t *Test) kind(a netip.Addr, local bool) Tri {
	switch {
	case local:
		return t.number(typeLocal, 4, true)
	case a.IsMulticast():
		return t.number(5, 4, true)
	}
	return t.number(typeUnicast, 4, true)
}

// String gives the condition much as nft(8) would.
func (t *Test) String() string {
	if t.Field == Opaque {
		return t.Text
	}
	name := fieldNames[t.Field]
	if t.Field == Mark && t.Bits != 0 {
		name += fmt.Sprintf(" & %#x", t.Bits)
	}
	not := ""
	if t.Not {
		not = "!= "
	}
	return name + " " + not + t.values()
}

func (t *Test) values() string {
	var out []string
	switch t.Field {
	case In, Out:
		for _, n := range t.Names {
			out = append(out, fmt.Sprintf("%q", n))
		}
	case State:
		out = bitNames(t.Bits, map[uint32]string{StateInvalid: "invalid", StateEstablished: "established", StateRelated: "related", StateNew: "new", StateUntracked: "untracked"})
		return strings.Join(out, ",")
	case Status:
		out = bitNames(t.Bits, map[uint32]string{1: "expected", StatusSeenReply: "seen-reply", 4: "assured", StatusConfirmed: "confirmed", StatusSNAT: "snat", StatusDNAT: "dnat"})
		return strings.Join(out, ",")
	default:
		for _, r := range t.Ranges {
			low, high := t.value(r[0]), t.value(r[1])
			switch prefix, ok := prefixOf(r); {
			case low == high:
				out = append(out, low)
			case ok && (t.Field == Source || t.Field == Destination):
				out = append(out, prefix)
			default:
				out = append(out, low+"-"+high)
			}
		}
	}
	if len(out) > 6 {
		out = append(out[:6], fmt.Sprintf("%d more", len(t.Names)+len(t.Ranges)-6))
	}
	if len(out) == 1 {
		return out[0]
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

func bitNames(bits uint32, names map[uint32]string) (out []string) {
	for i := range 32 {
		if b := uint32(1) << i; bits&b != 0 {
			name := names[b]
			if name == "" {
				name = fmt.Sprintf("%#x", b)
			}
			out = append(out, name)
		}
	}
	return out
}

func (t *Test) value(p []byte) string {
	if t.Field == Source || t.Field == Destination {
		if a, ok := netip.AddrFromSlice(p); ok {
			return a.String()
		}
	}
	var n uint64
	for _, b := range p {
		n = n<<8 | uint64(b)
	}
	switch {
	case t.Field == Protocol:
		if name := map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 58: "ipv6-icmp", 132: "sctp"}[n]; name != "" {
			return name
		}
	case t.Field == SourceType || t.Field == DestinationType:
		if name := map[uint64]string{1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}[n]; name != "" {
			return name
		}
	case t.Field == Mark:
		return fmt.Sprintf("%#x", n)
	case t.Field == Family:
		return map[uint64]string{2: "ipv4", 10: "ipv6"}[n]
	}
	return fmt.Sprint(n)
}

// prefixOf gives a range of addresses as the prefix that it is.
func prefixOf(r [2][]byte) (string, bool) {
	low, ok1 := netip.AddrFromSlice(r[0])
	high, ok2 := netip.AddrFromSlice(r[1])
	if !ok1 || !ok2 || low.BitLen() != high.BitLen() {
		return "", false
	}
	for bits := range low.BitLen() + 1 {
		p := netip.PrefixFrom(low, bits)
		if p.Masked().Addr() == low && Last(p) == high {
			return p.String(), true
		}
	}
	return "", false
}

// Last is the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Masked gives the one value of a mark that a test is for, with its mask.
func (t *Test) Masked() (value, mask uint32, ok bool) {
	if t.Field != Mark || len(t.Ranges) != 1 || len(t.Ranges[0][0]) != 4 || !bytes.Equal(t.Ranges[0][0], t.Ranges[0][1]) {
		return 0, 0, false
	}
	if mask = t.Bits; mask == 0 {
		mask = ^uint32(0)
	}
	return binary.BigEndian.Uint32(t.Ranges[0][0]), mask, true
}
