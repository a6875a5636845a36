package ruleset

import "net/netip"

// Way is what the policy has behind the interfaces of a name, or behind those
// that begin with it: what a backend goes by that cannot ask the routes.
type Way struct {
	Interface string
	Wildcard  bool // all interfaces that begin so, but those of a narrower Way
	// Addresses are those of IPv4 and of IPv6, ascending; Any says that the
	// policy does not tell, so that any address may be there.
	Addresses [2][]AddrRange
	Any       [2]bool
	Zones     []string // whose they are
}

// AddrRange is all addresses from Low to High.
type AddrRange struct{ Low, High netip.Addr }
