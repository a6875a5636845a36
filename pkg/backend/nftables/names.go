package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func typeName(t ruleset.Type) string {
	switch t {
	case ruleset.Verdict:
		return "verdict"
	case ruleset.IPv4Addr:
		return "ipv4_addr"
	case ruleset.IPv6Addr:
		return "ipv6_addr"
	case ruleset.InetService:
		return "inet_service"
	case ruleset.InetProto:
		return "inet_proto"
	case ruleset.IfName:
		return "ifname"
	case ruleset.CtDir:
		return "ct_dir"
	case ruleset.ICMPType:
		return "icmp_type"
	case ruleset.ICMPv6Type:
		return "icmpv6_type"
	case ruleset.Mark:
		return "mark"
	}
	return "integer"
}

func typeNames(types []ruleset.Type) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = typeName(t)
	}
	return strings.Join(names, " . ")
}

// fieldName is how a rule names a field. Proto is the transport protocol that
// the rule has tested before, or th.
func fieldName(f ruleset.Field, proto string) string {
	switch f {
	case ruleset.IIfName:
		return "iifname"
	case ruleset.IIf:
		return "iif"
	case ruleset.OIfName:
		return "oifname"
	case ruleset.NFProtoField:
		return "meta nfproto"
	case ruleset.L4Proto:
		return "meta l4proto"
	case ruleset.IPSaddr:
		return "ip saddr"
	case ruleset.IPDaddr:
		return "ip daddr"
	case ruleset.IP6Saddr:
		return "ip6 saddr"
	case ruleset.IP6Daddr:
		return "ip6 daddr"
	case ruleset.IP6HopLimit:
		return "ip6 hoplimit"
	case ruleset.SrcPort:
		return proto + " sport"
	case ruleset.DstPort:
		return proto + " dport"
	case ruleset.ICMPTypeField:
		return "icmp type"
	case ruleset.ICMPv6TypeField:
		return "icmpv6 type"
	case ruleset.CtStateField:
		return "ct state"
	case ruleset.CtStatusField:
		return "ct status"
	case ruleset.CtDirection:
		return "ct direction"
	case ruleset.CtOrigProtoDst:
		return "ct original proto-dst"
	case ruleset.CtOrigIPSaddr:
		return "ct original ip saddr"
	case ruleset.CtOrigIPDaddr:
		return "ct original ip daddr"
	case ruleset.CtOrigIP6Saddr:
		return "ct original ip6 saddr"
	case ruleset.CtOrigIP6Daddr:
		return "ct original ip6 daddr"
	case ruleset.CtReplyIPDaddr:
		return "ct reply ip daddr"
	case ruleset.CtReplyIP6Daddr:
		return "ct reply ip6 daddr"
	case ruleset.FibDaddrType:
		return "fib daddr type"
	case ruleset.FibDaddrIifType:
		return "fib daddr . iif type"
	case ruleset.FibSaddrOifType:
		return "fib saddr . oif type"
	case ruleset.FibSaddrType:
		return "fib saddr type"
	case ruleset.FibSaddrIif:
		return "fib saddr . iif oif"
	case ruleset.FibDaddrOIfName:
		return "fib daddr oifname"
	case ruleset.MetaMark:
		return "meta mark"
	case ruleset.CtMark:
		return "ct mark"
	case ruleset.TCPFlagsField:
		return "tcp flags"
	case ruleset.FibSaddrOIfName:
		return "fib saddr oifname"
	}
	return "?"
}

func fieldNames(fields []ruleset.Field, proto string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = fieldName(f, proto)
	}
	return strings.Join(names, " . ")
}

// valueText writes one value as nft(8) reads it.
func valueText(t ruleset.Type, v []byte) string {
	switch t {
	case ruleset.IPv4Addr, ruleset.IPv6Addr:
		if a, ok := netip.AddrFromSlice(v[:t.Size()]); ok {
			return a.String()
		}
	case ruleset.InetService:
		return strconv.Itoa(int(binary.BigEndian.Uint16(v)))
	case ruleset.InetProto:
		return protocolName(v[0])
	case ruleset.ICMPType, ruleset.ICMPv6Type, ruleset.HopLimit:
		return strconv.Itoa(int(v[0]))
	case ruleset.IfName:
		return strconv.Quote(strings.TrimRight(string(v), "\x00"))
	case ruleset.IfIndex, ruleset.Number:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(v)), 10)
	case ruleset.NFProto:
		if v[0] == uint8(ruleset.IPv6) {
			return "ipv6"
		}
		return "ipv4"
	case ruleset.Boolean: // nft(8) has words for it behind fib
		if binary.BigEndian.Uint32(v) == 0 {
			return "missing"
		}
		return "exists"
	case ruleset.TCPFlags:
		if v[0] != 0 {
			return flagNames(v[0], "|")
		}
	case ruleset.CtDir:
		if v[0] == ruleset.CtReply {
			return "reply"
		}
		return "original"
	case ruleset.FibAddrType:
		switch binary.BigEndian.Uint32(v) {
		case ruleset.RTNLocal:
			return "local"
		case ruleset.RTNBroadcast:
			return "broadcast"
		case ruleset.RTNMulticast:
			return "multicast"
		}
	}
	return fmt.Sprintf("0x%x", v)
}

// protocolName is the name of a protocol that nft(8) knows without
// /etc/protocols, else its number.
func protocolName(n uint8) string {
	switch n {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	case 136:
		return "udplite"
	case 47:
		return "gre"
	case 50:
		return "esp"
	case 51:
		return "ah"
	}
	return strconv.Itoa(int(n))
}

// flagNames names TCP flags.
func flagNames(flags byte, separator string) string {
	var names []string
	for i, name := range [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"} {
		if flags>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, separator)
}
