package conntrack

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// filtersTuples says whether the running kernel can be trusted with filters of
// tuples. They came with 5.8, and were right with 5.16: before, one of the reply
// direction passed nothing.
func filtersTuples() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(name.Release[:]), 5, 16)
}

func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// questions are what to ask the kernel, so that every connection that a filter
// allows is allowed by one of them. Two are asked at once. Where that is not
// worth it, there is one, and none where nothing can fit.
//
// "Before or after translation" is a choice, of which the kernel knows none.
// But the reply direction has something else only where the status says so.
//
// Addresses of IPv6 are not asked for: what kernels (6.18 too) give is all
// connections but those.
func questions(f *Filter, tuples, two bool) []question {
	q := question{status: f.Status, statusMask: f.StatusMask, mark: f.Mark, markMask: f.MarkMask}
	if len(f.Families) == 1 {
		q.family = f.Families[0]
	}
	source, destination := exact(f.Sources), exact(f.Destinations)
	for _, a := range []netip.Addr{source, destination} {
		switch {
		case !a.IsValid():
		case q.family == 0:
			q.family = familyOf(a)
		case q.family != familyOf(a):
			return nil
		}
	}
	if !tuples {
		return []question{q}
	}
	if len(f.Protocols) == 1 && q.family != 0 {
		q.protocol = f.Protocols[0]
	}
	if !two {
		return []question{q}
	}
	ported := q.protocol == ProtocolTCP || q.protocol == ProtocolUDP
	sourcePort, destinationPort := onePort(f.SourcePorts), onePort(f.DestinationPorts)
	a, b := q, q
	switch {
	case source.Is4():
		a.original.source, b.reply.destination = source, source
		return both(a, b, StatusSNAT, StatusSNAT)
	case destination.Is4():
		a.original.destination, b.reply.source = destination, destination
		return both(a, b, StatusDNAT, StatusDNAT)
	case f.Translated && f.Status&f.StatusMask&(StatusSNAT|StatusDNAT) == 0:
		a.status, a.statusMask = a.status|StatusSNAT, a.statusMask|StatusSNAT
		return both(a, b, StatusDNAT, StatusSNAT|StatusDNAT)
	case ported && sourcePort != 0:
		a.original.sourcePort, b.reply.destinationPort = sourcePort, sourcePort
		return both(a, b, StatusSNAT, StatusSNAT)
	case ported && destinationPort != 0:
		a.original.destinationPort, b.reply.sourcePort = destinationPort, destinationPort
		return both(a, b, StatusDNAT, StatusDNAT)
	case len(f.Protocols) == 1 && q.family == 0:
		a.family, a.protocol = IPv4, f.Protocols[0]
		b.family, b.protocol = IPv6, f.Protocols[0]
		return []question{a, b}
	}
	return []question{q}
}

// both asks for a, and for those of b that have a status too, unless they
// may not have it.
func both(a, b question, status, mask Status) []question {
	if common := b.statusMask & mask; b.status&common != status&common {
		return []question{a}
	}
	b.status, b.statusMask = b.status|status, b.statusMask|mask
	return []question{a, b}
}

// halves makes two questions of a single one: for connections whose source is
// translated, and for the others. What the kernel takes for a dump is to write
// the entries, which two processors do in half the time.
//
// That bit alone never changes once a connection is in the table
// (IPS_UNCHANGEABLE_MASK; nf_nat_setup_info refuses what is confirmed). By any
// other, such as "replied", a connection could be on neither side: it changes
// between the two walks coming by. How even the halves are is the gateway's
// matter. Where one of them is empty, its walk costs a tenth of the dump, beside
// it.
func halves(list []question) []question {
	if len(list) != 1 || list[0].statusMask&StatusSNAT != 0 {
		return list
	}
	a, b := list[0], list[0]
	a.status, a.statusMask = a.status|StatusSNAT, a.statusMask|StatusSNAT
	b.statusMask |= StatusSNAT
	return []question{a, b}
}

// exact is the only address that a list allows, if there is just one.
func exact(list []netip.Prefix) netip.Addr {
	if len(list) == 1 && list[0].IsSingleIP() {
		return list[0].Addr()
	}
	return netip.Addr{}
}

func onePort(list []PortRange) uint16 {
	if len(list) == 1 && list[0].Low == list[0].High {
		return list[0].Low
	}
	return 0
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}
