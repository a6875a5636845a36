package top

import (
	"hash/maphash"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// identity names a flow. The kernel's ID is 32 bits of a hash, too few for a
// million flows, so both tuples are in it too. Two of a million flows have the
// same identity once in 37 million tables.
func identity(seed maphash.Seed, f *conntrack.Flow) uint64 {
	return maphash.Comparable(seed, struct {
		id              uint32
		zone            uint16
		protocol        uint8
		original, reply conntrack.Tuple
	}{f.ID, f.Zone, f.Protocol, f.Original, f.Reply})
}

// kind is what the entries of a section do to a flow, as far as it tells which
// end is the inside one.
type kind uint8

const (
	kindOther kind = iota
	kindInwards
	kindRedirect
)

func kindOf(entry string) kind {
	switch section, _, _ := strings.Cut(entry, " "); section {
	case "port_forward", "one_to_one":
		return kindInwards
	case "redirect":
		return kindRedirect
	}
	return kindOther
}

// hostOf is the inside end of a flow, and whether it opened the flow.
func hostOf(f *conntrack.Flow, k kind) (host netip.Addr, opened bool) {
	switch {
	case k == kindRedirect:
		return f.Original.Source, true
	case f.DNAT() && !(f.SNAT() && inside(f.Original.Source)):
		// Led inwards. What is translated at both ends comes from inside too: a
		// hairpin.
		if k == kindInwards || inside(f.Reply.Source) {
			return f.Reply.Source, false
		}
	case !f.SNAT() && inside(f.Original.Destination) && !inside(f.Original.Source):
		return f.Original.Destination, false
	}
	return f.Original.Source, true
}

// destinationOf is where a flow leads to. What is redirected leads to a service
// of the gateway itself; what its opener asked for says more.
func destinationOf(f *conntrack.Flow, k kind) netip.Addr {
	if k == kindRedirect {
		return f.Original.Destination
	}
	return f.Reply.Source
}

// inside says whether an address is of those that are used inside.
func inside(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() || a.Is4() && a.As4()[0] == 100 && a.As4()[1]&0xc0 == 64 // RFC 6598
}
