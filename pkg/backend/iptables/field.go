package iptables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What iptables cannot ask.
var (
	errFlags       = errors.New("iptables sees six of TCP's eight flags, so it cannot tell that there are no others")
	errAnyProtocol = errors.New("iptables takes the protocol 0 for any")
	errWildcard    = errors.New("iptables takes a + at the end of a name for any ending")
)

// familyOf is the family whose packets have a field; Inet is both.
func familyOf(f ruleset.Field) ruleset.Family {
	switch f.Type() {
	case ruleset.IPv4Addr, ruleset.ICMPType:
		return ruleset.IPv4
	case ruleset.IPv6Addr, ruleset.ICMPv6Type, ruleset.HopLimit:
		return ruleset.IPv6
	}
	return ruleset.Inet
}

// span gives the atoms of which one is true where a field is between two values.
func (t *translator) span(f ruleset.Field, lo, hi []byte) ([]atom, error) {
	ext := func(text string, args ...any) []atom { return []atom{{slot: match, text: fmt.Sprintf(text, args...)}} }
	single := bytes.Equal(lo, hi)
	switch f {
	case ruleset.IPSaddr, ruleset.IP6Saddr, ruleset.IPDaddr, ruleset.IP6Daddr:
		s := source
		if f == ruleset.IPDaddr || f == ruleset.IP6Daddr {
			s = destination
		}
		return []atom{{slot: s, lo: address(lo), hi: address(hi)}}, nil
	case ruleset.IIfName, ruleset.OIfName:
		s := input
		if f == ruleset.OIfName {
			s = output
		}
		pattern, err := interfaces(lo, hi)
		return []atom{{slot: s, text: pattern}}, err
	case ruleset.SrcPort:
		return []atom{{slot: sourcePort, ports: [2]uint16{binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(hi)}}}, nil
	case ruleset.DstPort:
		return []atom{{slot: destinationPort, ports: [2]uint16{binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(hi)}}}, nil
	case ruleset.L4Proto:
		if lo[0] == 0 {
			return nil, errAnyProtocol
		}
		var out []atom
		for p := int(lo[0]); p <= int(hi[0]); p++ {
			out = append(out, atom{slot: protocol, proto: uint8(p)})
		}
		return out, nil
	case ruleset.ICMPTypeField, ruleset.ICMPv6TypeField:
		name := "-m icmp %%s--icmp-type %d"
		if f == ruleset.ICMPv6TypeField {
			name = "-m icmp6 %%s--icmpv6-type %d"
		}
		var out []atom
		for n := int(lo[0]); n <= int(hi[0]); n++ {
			out = append(out, ext(name, n)...)
		}
		return out, nil
	case ruleset.CtOrigProtoDst:
		return []atom{firstPort(binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(hi))}, nil
	case ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr:
		return tuple("ctorigsrc", lo, hi), nil
	case ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr:
		return tuple("ctorigdst", lo, hi), nil
	case ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr:
		return tuple("ctrepldst", lo, hi), nil
	case ruleset.FibDaddrOIfName, ruleset.FibSaddrOIfName:
		return nil, errWays
	case ruleset.TCPFlagsField:
		return nil, errFlags
	}
	if !single {
		return nil, errors.New("iptables cannot match a range of this")
	}
	switch f {
	case ruleset.IP6HopLimit:
		return ext("-m hl %%s--hl-eq %d", lo[0]), nil
	case ruleset.IIf:
		return nil, errors.New("iptables knows interfaces by name only")
	case ruleset.CtDirection:
		return ext("-m conntrack %%s--ctdir %s", map[byte]string{ruleset.CtOriginal: "ORIGINAL", ruleset.CtReply: "REPLY"}[lo[0]]), nil
	case ruleset.FibDaddrType, ruleset.FibDaddrIifType, ruleset.FibSaddrType, ruleset.FibSaddrOifType:
		return t.kind(f, binary.BigEndian.Uint32(lo))
	case ruleset.FibSaddrIif:
		if t.place.table == "nat" || t.place.builtin != "PREROUTING" {
			return nil, errors.New("iptables can ask for the way back in PREROUTING of raw and mangle alone")
		}
		a := atom{slot: match, text: "-m rpfilter", not: false}
		if binary.BigEndian.Uint32(lo) == 0 {
			a.text = "-m rpfilter --invert"
		}
		return []atom{a}, nil
	case ruleset.MetaMark:
		return ext("-m mark %%s--mark %#x", binary.BigEndian.Uint32(lo)), nil
	case ruleset.CtMark:
		return ext("-m connmark %%s--mark %#x", binary.BigEndian.Uint32(lo)), nil
	}
	return nil, fmt.Errorf("iptables cannot match the field %d in this way", f)
}

// firstPort asks for the port that a flow was first sent to.
func firstPort(lo, hi uint16) atom {
	a := atom{slot: match, ports: [2]uint16{lo, hi}, text: "-m conntrack %s--ctorigdstport " + strconv.Itoa(int(lo))}
	if lo != hi {
		a.text += ":" + strconv.Itoa(int(hi))
	}
	return a
}

// kind matches what an address is to the host.
func (t *translator) kind(f ruleset.Field, n uint32) ([]atom, error) {
	name := map[uint32]string{1: "UNICAST", 2: "LOCAL", 3: "BROADCAST", 4: "ANYCAST", 5: "MULTICAST"}[n]
	if name == "" {
		return nil, fmt.Errorf("iptables cannot match the kind of address %d", n)
	}
	if t.family == ruleset.IPv6 && name == "BROADCAST" {
		return nil, nil // there are none
	}
	text := "-m addrtype %s--dst-type " + name
	switch f {
	case ruleset.FibSaddrType:
		text = "-m addrtype %s--src-type " + name
	case ruleset.FibSaddrOifType:
		text = "-m addrtype %s--src-type " + name + " --limit-iface-out"
	case ruleset.FibDaddrIifType:
		text += " --limit-iface-in"
	}
	return []atom{{slot: match, text: text}}, nil
}

// masked matches some bits.
func masked(f ruleset.Field, mask, value []byte) (atom, error) {
	switch f {
	case ruleset.MetaMark, ruleset.CtMark:
		name := "mark"
		if f == ruleset.CtMark {
			name = "connmark"
		}
		m, v := binary.BigEndian.Uint32(mask), binary.BigEndian.Uint32(value)
		text := fmt.Sprintf("-m %s %%s--mark %#x/%#x", name, v, m)
		if m == 0xffffffff {
			text = fmt.Sprintf("-m %s %%s--mark %#x", name, v)
		}
		return atom{slot: match, text: text}, nil
	case ruleset.TCPFlagsField:
		if (mask[0]|value[0])&^0x3f != 0 {
			return atom{}, errFlags
		}
		return atom{slot: flags, text: flagNames(mask[0]) + " " + flagNames(value[0])}, nil
	}
	return atom{}, fmt.Errorf("iptables cannot match bits of the field %d", f)
}

// tcpFlagNames are those of the bits, from the lowest.
func tcpFlagNames() []string { return []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} }

func flagNames(bits byte) string {
	var out []string
	for i, name := range tcpFlagNames() {
		if bits&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return "NONE"
	}
	return strings.Join(out, ",")
}

// anyOf matches where one of some bits is set.
func anyOf(f ruleset.Field, value []byte) (atom, error) {
	ext := func(text string) (atom, error) { return atom{slot: match, text: text}, nil }
	switch f {
	case ruleset.CtStateField:
		bits := binary.BigEndian.Uint32(value)
		var names []string
		for _, s := range []struct {
			bit  uint32
			name string
		}{
			{ruleset.CtInvalid, "INVALID"}, {ruleset.CtNew, "NEW"}, {ruleset.CtRelated, "RELATED"},
			{ruleset.CtEstablished, "ESTABLISHED"}, {ruleset.CtUntracked, "UNTRACKED"},
		} {
			if bits&s.bit != 0 {
				names = append(names, s.name)
			}
		}
		return ext("-m conntrack %s--ctstate " + strings.Join(names, ","))
	case ruleset.CtStatusField:
		switch binary.BigEndian.Uint32(value) {
		case ruleset.CtSNAT:
			return ext("-m conntrack %s--ctstate SNAT")
		case ruleset.CtDNAT:
			return ext("-m conntrack %s--ctstate DNAT")
		case ruleset.CtSNAT | ruleset.CtDNAT:
			return ext("-m conntrack %s--ctstate SNAT,DNAT")
		case ruleset.CtConfirmed:
			return ext("-m conntrack %s--ctstatus CONFIRMED")
		}
		return atom{}, errors.New("iptables cannot match this status of a flow")
	}
	a, err := masked(f, value, make([]byte, len(value)))
	a.not = true
	return a, err
}

func tuple(option string, lo, hi []byte) []atom {
	var out []atom
	for _, p := range prefixes(address(lo), address(hi)) {
		value := p.String()
		if p.IsSingleIP() {
			value = p.Addr().String()
		}
		out = append(out, atom{slot: match, text: "-m conntrack %s--" + option + " " + value})
	}
	return out
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// interfaces is the pattern for a range of names.
func interfaces(lo, hi []byte) (string, error) {
	name := string(bytes.TrimRight(lo, "\x00"))
	if strings.HasSuffix(name, "+") {
		return "", errWildcard
	}
	if bytes.Equal(lo, hi) {
		return name, nil
	}
	for i := range hi {
		if want := byte(0xff); i < len(name) && hi[i] != lo[i] || i >= len(name) && hi[i] != want {
			return "", errors.New("iptables cannot match a range of names")
		}
	}
	return name + "+", nil
}
