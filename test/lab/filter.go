package lab

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Filter chooses packets. Its packet is only valid during the call.
type Filter func(*Packet) bool

// AnyIP chooses all IP packets.
func AnyIP(p *Packet) bool { return p.IsIP() }

// Outgoing chooses what the capturing host sends.
func Outgoing(p *Packet) bool { return p.Outgoing }

// Incoming chooses what the capturing host receives.
func Incoming(p *Packet) bool { return !p.Outgoing }

// IsTCP chooses TCP.
func IsTCP(p *Packet) bool { return p.Proto == unix.IPPROTO_TCP }

// IsUDP chooses UDP.
func IsUDP(p *Packet) bool { return p.Proto == unix.IPPROTO_UDP }

// IsICMP chooses ICMP and ICMPv6 without neighbour discovery and multicast reports.
func IsICMP(p *Packet) bool {
	return p.Proto == unix.IPPROTO_ICMP ||
		p.Proto == unix.IPPROTO_ICMPV6 && (p.ICMPType < 130 || p.ICMPType > 143)
}

// SrcIn chooses packets from an address or a prefix. It panics on a string that is neither.
func SrcIn(prefix string) Filter {
	want := mustPrefix(prefix)
	return func(p *Packet) bool { return p.IsIP() && want.Contains(p.Src) }
}

// DstIn chooses packets to an address or a prefix. It panics on a string that is neither.
func DstIn(prefix string) Filter {
	want := mustPrefix(prefix)
	return func(p *Packet) bool { return p.IsIP() && want.Contains(p.Dst) }
}

// SrcPort chooses TCP and UDP from a port, and echoes with that identifier.
func SrcPort(port uint16) Filter {
	return func(p *Packet) bool { return p.IsIP() && p.SrcPort == port }
}

// DstPort chooses TCP and UDP to a port, and echoes with that identifier.
func DstPort(port uint16) Filter {
	return func(p *Packet) bool { return p.IsIP() && p.DstPort == port }
}

// HasFlags chooses TCP segments with all of the given flags.
func HasFlags(flags TCPFlags) Filter {
	return func(p *Packet) bool { return IsTCP(p) && p.Flags&flags == flags }
}

// All chooses what every filter chooses.
func All(filters ...Filter) Filter {
	return func(p *Packet) bool {
		for _, f := range filters {
			if !f(p) {
				return false
			}
		}
		return true
	}
}

// Any chooses what at least one filter chooses.
func Any(filters ...Filter) Filter {
	return func(p *Packet) bool {
		for _, f := range filters {
			if f(p) {
				return true
			}
		}
		return false
	}
}

// Not chooses what a filter does not choose.
func Not(f Filter) Filter { return func(p *Packet) bool { return !f(p) } }

// mustPrefix panics: a wrong constant is a mistake in a test.
func mustPrefix(s string) netip.Prefix {
	p, err := parsePrefix(s)
	if err != nil {
		panic("lab: " + err.Error())
	}
	return p.Masked()
}
