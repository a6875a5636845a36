package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
)

// xtMatch turns a match of x_tables into tests: info is its structure as
// include/uapi/linux/netfilter/xt_*.h has it. The same structures are in
// ip_tables and, for what it has no expressions of its own, in nf_tables.
func xtMatch(name string, revision byte, info []byte) []Test {
	opaque := []Test{{Text: "match " + name}}
	switch name {
	case "comment":
		return nil
	case "tcp":
		return xtTCP(info)
	case "udp", "udplite":
		return xtUDP(info)
	case "multiport":
		return xtMultiport(info)
	case "conntrack":
		return xtConntrack(revision, info)
	case "state":
		if len(info) >= 4 {
			return []Test{{Field: State, Bits: xtState(native32(info))}}
		}
	case "addrtype":
		return xtAddrtype(revision, info)
	case "mark":
		if revision >= 1 && len(info) >= 9 {
			mark, mask := native32(info), native32(info[4:])
			t := Test{Field: Mark, Not: info[8] != 0, Ranges: big32(mark)}
			if mask != ^uint32(0) {
				t.Bits = mask
			}
			if mask != 0 {
				return []Test{t}
			}
		}
	case "icmp", "icmp6":
		if len(info) >= 4 {
			t := Test{Field: ICMPType, Not: info[3] != 0, Ranges: [][2][]byte{{{info[0]}, {info[0]}}}}
			if name == "icmp" && info[0] == 0xff {
				t = Test{Field: Protocol, Ranges: [][2][]byte{{{1}, {1}}}}
			} else if info[1] != 0 || info[2] != 0xff {
				return append([]Test{t}, opaque...) // the code too
			}
			return []Test{t}
		}
	}
	return opaque
}

// comment is the text of a match "comment".
func xtComment(info []byte) string {
	text, _, _ := bytes.Cut(info, []byte{0})
	return string(text)
}

func xtPorts(field Field, low, high uint16, not bool) []Test {
	if low == 0 && high == 0xffff && !not {
		return nil
	}
	return []Test{{Field: field, Not: not, Ranges: ports(low, high)}}
}

func ports(low, high uint16) [][2][]byte {
	return [][2][]byte{{binary.BigEndian.AppendUint16(nil, low), binary.BigEndian.AppendUint16(nil, high)}}
}

// xtTCP reads struct xt_tcp.
func xtTCP(p []byte) []Test {
	if len(p) < 12 {
		return []Test{{Text: "match tcp"}}
	}
	not := p[11]
	out := xtPorts(SourcePort, native16(p), native16(p[2:]), not&1 != 0)
	out = append(out, xtPorts(DestinationPort, native16(p[4:]), native16(p[6:]), not&2 != 0)...)
	if option, mask := p[8], p[9]; option != 0 || mask != 0 {
		out = append(out, Test{Text: fmt.Sprintf("tcp flags %#x/%#x", p[10], mask)})
	}
	return out
}

// xtUDP reads struct xt_udp.
func xtUDP(p []byte) []Test {
	if len(p) < 9 {
		return []Test{{Text: "match udp"}}
	}
	out := xtPorts(SourcePort, native16(p), native16(p[2:]), p[8]&1 != 0)
	return append(out, xtPorts(DestinationPort, native16(p[4:]), native16(p[6:]), p[8]&2 != 0)...)
}

// xtMultiport reads struct xt_multiport_v1.
func xtMultiport(p []byte) []Test {
	const most = 15
	if len(p) < 2+2*most+most+1 || int(p[1]) > most || p[0] == 2 { // either port
		return []Test{{Text: "match multiport"}}
	}
	t := Test{Field: SourcePort, Not: p[2+2*most+most] != 0}
	if p[0] == 1 {
		t.Field = DestinationPort
	}
	for i := 0; i < int(p[1]); i++ {
		low := native16(p[2+2*i:])
		high := low
		if p[2+2*most+i] != 0 && i+1 < int(p[1]) { // with the next one it is a range
			i++
			high = native16(p[2+2*i:])
		}
		t.Ranges = append(t.Ranges, ports(low, high)...)
	}
	return []Test{t}
}

// xtState turns the state bits of x_tables into those of nf_tables, which has
// another one for untracked packets.
func xtState(b uint32) uint32 {
	const untracked = 1 << 8
	out := b & (StateInvalid | StateEstablished | StateRelated | StateNew)
	if b&untracked != 0 {
		out |= StateUntracked
	}
	return out
}

// xtConntrack reads struct xt_conntrack_mtinfo1 to 3.
func xtConntrack(revision byte, p []byte) []Test {
	const (
		flagsAt, invertAt, stateAt, statusAt = 146, 148, 150, 152
		onState, onStatus, onAlias           = 1 << 0, 1 << 6, 1 << 13
		snat, dnat                           = 1 << 6, 1 << 7
	)
	opaque := Test{Text: "match conntrack"}
	if revision < 2 || len(p) < 154 {
		return []Test{opaque}
	}
	flags, invert := native16(p[flagsAt:]), native16(p[invertAt:])
	var out []Test
	if flags&onState != 0 {
		state := uint32(native16(p[stateAt:]))
		not := invert&onState != 0
		switch virtual := state & (snat | dnat); {
		case virtual == 0:
			out = append(out, Test{Field: State, Not: not, Bits: xtState(state)})
		case state == virtual:
			t := Test{Field: Status, Not: not}
			if virtual&snat != 0 {
				t.Bits |= StatusSNAT
			}
			if virtual&dnat != 0 {
				t.Bits |= StatusDNAT
			}
			out = append(out, t)
		default:
			out = append(out, opaque)
		}
	}
	if flags&onStatus != 0 {
		out = append(out, Test{Field: Status, Not: invert&onStatus != 0, Bits: uint32(native16(p[statusAt:]))})
	}
	if flags&^(onState|onStatus|onAlias) != 0 {
		out = append(out, opaque)
	}
	return out
}

// xtAddrtype reads struct xt_addrtype_info_v1, of bits 1<<RTN_*.
func xtAddrtype(revision byte, p []byte) []Test {
	if revision != 1 || len(p) < 8 {
		return []Test{{Text: "match addrtype"}}
	}
	source, destination, flags := native16(p), native16(p[2:]), native32(p[4:])
	var out []Test
	kinds := func(field Field, mask uint16, not bool) {
		if mask == 0 {
			return
		}
		t := Test{Field: field, Not: not}
		for m := mask; m != 0; m &= m - 1 {
			t.Ranges = append(t.Ranges, big32(uint32(bits.TrailingZeros16(m)))...)
		}
		out = append(out, t)
	}
	kinds(SourceType, source, flags&1 != 0)
	kinds(DestinationType, destination, flags&2 != 0)
	if flags&^3 != 0 { // of one interface alone
		out = append(out, Test{Text: "addrtype --limit-iface"})
	}
	return out
}

func big32(n uint32) [][2][]byte {
	p := binary.BigEndian.AppendUint32(nil, n)
	return [][2][]byte{{p, p}}
}

func native16(p []byte) uint16 { return binary.NativeEndian.Uint16(p) }
func native32(p []byte) uint32 { return binary.NativeEndian.Uint32(p) }

// xtTarget turns a target of x_tables into a verdict. A target that is not known
// ends no walk, as a log does not.
func xtTarget(name string, revision byte, info []byte) (Verdict, string) {
	switch name {
	case "REJECT":
		return Reject, ""
	case "NOTRACK":
		return Untrack, ""
	case "CT":
		if len(info) >= 2 && native16(info)&1 != 0 { // XT_CT_NOTRACK
			return Untrack, ""
		}
	case "DNAT":
		return DNAT, natTo(revision, info)
	case "REDIRECT":
		return DNAT, ""
	case "SNAT":
		return SNAT, natTo(revision, info)
	case "MASQUERADE":
		return SNAT, ""
	case "NETMAP":
		return DNAT, ""
	case "DROP": // ebtables has it, and xt_DROP does not exist
		return Drop, ""
	}
	return Other, ""
}

// natTo reads struct nf_nat_range2: flags, two addresses, two ports. Revision 0 of
// SNAT and DNAT has struct nf_nat_ipv4_multi_range_compat.
func natTo(revision byte, p []byte) string {
	const addresses, ports = 1, 2
	var flags uint32
	var address netip.Addr
	var port uint16
	switch {
	case revision == 0 && len(p) >= 20: // size, flags, two addresses, two ports
		flags, port = native32(p[4:]), binary.BigEndian.Uint16(p[16:])
		address = netip.AddrFrom4([4]byte(p[8:]))
	case revision > 0 && len(p) >= 40:
		flags, port = native32(p), binary.BigEndian.Uint16(p[36:])
		address = netip.AddrFrom16([16]byte(p[4:]))
		if bytes.Equal(p[8:20], make([]byte, 12)) {
			address = netip.AddrFrom4([4]byte(p[4:]))
		}
	default:
		return ""
	}
	switch {
	case flags&addresses == 0:
		return ""
	case flags&ports == 0:
		return address.String()
	}
	return netip.AddrPortFrom(address, port).String()
}
