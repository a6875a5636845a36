package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Protocol numbers that a policy has names for (IANA protocol-numbers).
const (
	ProtocolICMP    = 1
	ProtocolTCP     = 6
	ProtocolUDP     = 17
	ProtocolGRE     = 47
	ProtocolESP     = 50
	ProtocolAH      = 51
	ProtocolICMPv6  = 58
	ProtocolSCTP    = 132
	ProtocolUDPLite = 136
)

// ProtocolName gives the name that a policy has for a protocol number, or the
// number where it has none.
func ProtocolName(number uint8) string {
	switch number {
	case ProtocolICMP:
		return "icmp"
	case ProtocolTCP:
		return "tcp"
	case ProtocolUDP:
		return "udp"
	case ProtocolGRE:
		return "gre"
	case ProtocolESP:
		return "esp"
	case ProtocolAH:
		return "ah"
	case ProtocolICMPv6:
		return "icmpv6"
	case ProtocolSCTP:
		return "sctp"
	case ProtocolUDPLite:
		return "udplite"
	}
	return strconv.Itoa(int(number))
}

// HasPorts is true for the protocols that have ports.
func HasPorts(number uint8) bool {
	switch number {
	case ProtocolTCP, ProtocolUDP, ProtocolSCTP, ProtocolUDPLite:
		return true
	}
	return false
}

// protocolNumber finds a protocol by its name.
func protocolNumber(name string) (uint8, bool) {
	switch name {
	case "tcp":
		return ProtocolTCP, true
	case "udp":
		return ProtocolUDP, true
	case "sctp":
		return ProtocolSCTP, true
	case "udplite":
		return ProtocolUDPLite, true
	case "icmp":
		return ProtocolICMP, true
	case "icmpv6":
		return ProtocolICMPv6, true
	case "gre":
		return ProtocolGRE, true
	case "esp":
		return ProtocolESP, true
	case "ah":
		return ProtocolAH, true
	}
	return 0, false
}

func protocolNames() []string {
	return []string{"tcp", "udp", "sctp", "udplite", "icmp", "icmpv6", "gre", "esp", "ah"}
}

const protocolsTake = "a protocol, or a list of protocols"

// protocols decodes a list of protocols, each of them named once.
func (d *decoder) protocols(n *node) []Protocol {
	var list []Protocol
	d.each(n, func(n *node) {
		text, ok := d.text(n)
		if !ok {
			return
		}
		p := Protocol{Place: d.at(n)}
		if p.Number, ok = protocolNumber(text); !ok {
			number, isNumber := parseNumber(text, 255)
			if !isNumber {
				d.fail(p.Place, unknownProtocol(text))
				return
			}
			p.Number = uint8(number)
		}
		if i := slices.IndexFunc(list, func(q Protocol) bool { return q.Number == p.Number }); i >= 0 {
			d.fail(p.Place, fmt.Sprintf("the protocol %s is named twice; take one out", ProtocolName(p.Number)),
				Note{list[i].Place, "first named here"})
			return
		}
		list = append(list, p)
	})
	return list
}

func unknownProtocol(text string) string {
	switch text {
	case "any", "all", "ip":
		return quote(text) + " is not a protocol; name those that you mean, as [tcp, udp], or leave `protocol` out where it is not required"
	case "both":
		return quote(text) + " is not a protocol; write [tcp, udp]"
	}
	if parts := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune("/,+ ", r) }); len(parts) > 1 && allProtocols(parts) {
		return fmt.Sprintf("%s is not a protocol; write a list: [%s]", quote(text), strings.Join(parts, ", "))
	}
	if near := nearest(text, protocolNames()); near != "" {
		return fmt.Sprintf("unknown protocol %s; did you mean %q?", quote(text), near)
	}
	return fmt.Sprintf("unknown protocol %s; a protocol is tcp, udp, sctp, udplite, icmp, icmpv6, gre, esp, ah or a number from 0 to 255", quote(text))
}

func allProtocols(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		_, ok := protocolNumber(name)
		return !ok
	})
}

// portsNeedProtocol checks that every protocol has ports where ports are
// named. It is called for each key that takes ports.
func (w written) portsNeedProtocol(key string, protocols []Protocol) {
	v := w.value(key)
	if v == nil {
		return
	}
	at := w.d.at(deref(v))
	if !w.has("protocol") {
		w.d.fail(at, fmt.Sprintf("`%s` needs a `protocol`: add `protocol: tcp`, udp, sctp, udplite, or several", key))
		return
	}
	for _, p := range protocols {
		if !HasPorts(p.Number) {
			w.d.fail(p.Place, fmt.Sprintf("the protocol %s has no ports; take it out, or give it an entry of its own without `%s`", ProtocolName(p.Number), key),
				Note{at, "`" + key + "` stands here"})
		}
	}
}
