package nftables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// pickSeed seeds the function by which a Pick chooses for the same fields the
// same number. It is not the kernel's own, which would be another at each load
// and move every client.
const pickSeed = 1

// pickedKey is how nft(8) is told the type of the key of a map that a Pick is
// looked up in: it has no name, and "mark", of the same size, does not do. What
// it is taken modulo does not count.
const pickedKey = "numgen inc mod 2"

// picked says whether a map is for what Pick chooses.
func picked(s *ruleset.Set) bool { return len(s.Key) == 1 && s.Key[0] == ruleset.Number }

// pickedData is the data of such a map: behind "typeof" stand fields.
func pickedData(types []ruleset.Type) string {
	names := make([]string, len(types))
	for i, t := range types {
		switch t {
		case ruleset.IPv4Addr:
			names[i] = "ip daddr"
		case ruleset.IPv6Addr:
			names[i] = "ip6 daddr"
		case ruleset.InetService:
			names[i] = "th dport"
		default:
			names[i] = typeName(t)
		}
	}
	return strings.Join(names, " . ")
}

func dataNames(s *ruleset.Set) string {
	if s.DataInterval {
		return "interval " + typeNames(s.Data)
	}
	return typeNames(s.Data)
}

// keyOf is what an action looks up in its map.
func keyOf(a ruleset.Action, proto string) string {
	switch {
	case a.Pick.Of == 0:
		return fieldNames(a.Fields, proto)
	case len(a.Pick.Fields) == 0:
		return fmt.Sprintf("numgen inc mod %d", a.Pick.Of)
	}
	return fmt.Sprintf("jhash %s mod %d seed %#x", fieldNames(a.Pick.Fields, proto), a.Pick.Of, pickSeed)
}

// translationText is what stands behind snat and dnat.
func translationText(a ruleset.Action, proto string) string {
	s := a.Family.String()
	if a.NAT.Prefix {
		s += " prefix"
	}
	if a.Map != "" {
		s += " to " + keyOf(a, proto) + " map @" + a.Map
	} else {
		s += " to " + addressesText(a.NAT)
	}
	if a.NAT.PortMin != 0 {
		s += portsText(a.NAT)
	}
	return s + flagsText(a.NAT)
}

// addressesText writes a range by its ends even where it is a prefix: nft(8)
// 1.0.6 reads no port behind a prefix, though it lists such a range as one.
func addressesText(n ruleset.NAT) string {
	one := netip.Addr.String
	if n.Low.Is6() && n.PortMin != 0 {
		one = func(a netip.Addr) string { return "[" + a.String() + "]" }
	}
	if n.Low == n.High && !n.Prefix {
		return one(n.Low)
	}
	return one(n.Low) + "-" + one(n.High)
}

func portsText(n ruleset.NAT) string {
	if n.PortMin == n.PortMax {
		return fmt.Sprintf(":%d", n.PortMin)
	}
	return fmt.Sprintf(":%d-%d", n.PortMin, n.PortMax)
}

// toPorts is what stands behind masquerade and redirect.
func toPorts(n ruleset.NAT) string {
	if n.PortMin == 0 {
		return flagsText(n)
	}
	return " to " + portsText(n) + flagsText(n)
}

func flagsText(n ruleset.NAT) string {
	var flags []string
	if n.Random {
		flags = append(flags, "random")
	}
	if n.FullyRandom {
		flags = append(flags, "fully-random")
	}
	if n.Persistent {
		flags = append(flags, "persistent")
	}
	if len(flags) == 0 {
		return ""
	}
	return " " + strings.Join(flags, ",")
}

func synproxyText(s ruleset.Syn) string {
	out := fmt.Sprintf("synproxy mss %d wscale %d", s.MSS, s.WindowScale)
	if s.Timestamp {
		out += " timestamp"
	}
	if s.SACK {
		out += " sack-perm"
	}
	return out
}

// spanText writes a value of a map of ranges. Where it is a single one its last
// field is written as a range from it to itself, or nft(8) 1.0.6 takes it for
// half a value. It lists it without; that list it cannot load.
func spanText(types []ruleset.Type, value []byte) string {
	low, high := value[:len(value)/2], value[len(value)/2:]
	text := keyText(types, low, high)
	if string(low) == string(high) {
		last := types[len(types)-1]
		at := len(low) - last.Padded()
		text += "-" + valueText(last, low[at:at+last.Size()])
	}
	return text
}

// maskedText writes field & High == Value.
func maskedText(m ruleset.Match, fields string) string {
	op := "=="
	if m.Op == ruleset.NotMasked {
		op = "!="
	}
	typ := m.Fields[0].Type()
	mask := valueText(typ, m.High)
	if strings.Contains(mask, "|") {
		mask = "(" + mask + ")"
	}
	return fmt.Sprintf("%s & %s %s %s", fields, mask, op, valueText(typ, m.Value))
}

func anyOfText(m ruleset.Match, fields string) string {
	switch typ := m.Fields[0].Type(); typ {
	case ruleset.Mark:
		return fmt.Sprintf("%s & %s != 0x0", fields, valueText(typ, m.Value))
	case ruleset.TCPFlags:
		return fields + " " + flagNames(m.Value[0], ",")
	}
	return fields + " " + bitNames(m.Fields[0], m.Value)
}
