package flows

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// host answers what rules ask the host for, and remembers the answers.
type host struct {
	routes  Routes
	known   [remembered]known
	held    map[string][]link.Address // by interface
	holder  map[netip.Addr]string     // the first interface that holds an address
	uplinks map[string]bool           // those with a default route
	lends   [2]netip.Addr             // what interfaces without an address borrow, IPv4 first
}

// remembered is how many addresses' answers there is room for, each in one
// place: the hosts of the inside come again and again, those of the outside for
// all that is asked about one flow.
const (
	addressBits = 8 // more do not stay in the processor's nearest cache
	remembered  = 1 << addressBits
)

// known is what routes say of an address.
type known struct {
	addr   netip.Addr
	kind   uint32
	asked  bool // for what follows
	leaves []string
}

// NewHost is a host as rules see it. It serves one goroutine at a time.
func NewHost(facts link.Facts, routes Routes) explain.Host { return newHost(facts, routes) }

func newHost(facts link.Facts, routes Routes) *host {
	h := &host{
		routes: routes, held: map[string][]link.Address{},
		holder: map[netip.Addr]string{}, uplinks: map[string]bool{},
	}
	for _, l := range facts.Links {
		h.held[l.Name] = l.Addresses
		for _, a := range l.Addresses {
			own := a.Prefix.Addr()
			if h.holder[own] == "" {
				h.holder[own] = l.Name
			}
			if f := family(own); !h.lends[f].IsValid() && own.IsGlobalUnicast() {
				h.lends[f] = own
			}
		}
	}
	for _, r := range facts.Defaults {
		h.uplinks[r.Interface] = true
	}
	return h
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// address gives what is known of an address. It is valid until another one is
// asked for.
func (h *host) address(a netip.Addr) *known {
	var n uint64
	if a.Is4() {
		b := a.As4()
		n = uint64(binary.NativeEndian.Uint32(b[:]))
	} else {
		b := a.As16()
		n = binary.NativeEndian.Uint64(b[8:]) ^ binary.NativeEndian.Uint64(b[:])>>1
	}
	k := &h.known[n*0x9e3779b97f4a7c15>>(64-addressBits)]
	if k.addr != a {
		*k = known{addr: a, kind: h.routes.Kind(a)}
	}
	return k
}

// local says whether an address is the host's own.
func (h *host) local(a netip.Addr) bool { return h.address(a).kind == ruleset.RTNLocal }

// shared says whether an address is one that many hosts listen to.
func (h *host) shared(a netip.Addr) bool {
	k := h.address(a).kind
	return k == ruleset.RTNBroadcast || k == ruleset.RTNMulticast || a.IsMulticast()
}

// Kind is the kind of an address.
func (h *host) Kind(a netip.Addr) uint32 { return h.address(a).kind }

// Leaves gives the interfaces that lead to an address.
func (h *host) Leaves(to netip.Addr) []string {
	k := h.address(to)
	if !k.asked {
		k.asked, k.leaves = true, h.routes.Leaves(to)
	}
	return k.leaves
}

// Way gives those of them that a packet without a mark leaves by.
func (h *host) Way(to netip.Addr) []string { return h.routes.Way(to) }

// LocalOn says whether an address is the host's own, seen from an interface.
func (h *host) LocalOn(a netip.Addr, iface string) bool { return h.routes.LocalOn(a, iface) }

// Holds says whether an interface can lend an address to a packet with another
// one. One that has none of a family borrows another's (inet_select_addr,
// ipv6_dev_get_saddr).
func (h *host) Holds(iface string, a, other netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() != other.IsLinkLocalUnicast() {
		// A redirect makes do with the link-local one where there is no other.
		return a.IsLinkLocalUnicast() && slices.ContainsFunc(h.held[iface], func(x link.Address) bool { return x.Prefix.Addr() == a }) &&
			!slices.ContainsFunc(h.held[iface], func(x link.Address) bool { return x.Prefix.Addr().Is6() && !x.Prefix.Addr().IsLinkLocalUnicast() })
	}
	some := false
	list := h.held[iface]
	for i := range list {
		own := list[i].Prefix.Addr()
		if own == a {
			return true
		}
		if own.IsLoopback() && own != other {
			continue // only lent to itself
		}
		some = some || own.Is4() == a.Is4() && own.IsLinkLocalUnicast() == a.IsLinkLocalUnicast()
	}
	return !some && h.holder[a] != ""
}

// Address gives the address that an interface would lend to a packet with
// another one: of its network, or else the first of the same reach.
func (h *host) Address(iface string, other netip.Addr) netip.Addr {
	list := h.held[iface]
	fits := func(a link.Address) bool {
		own := a.Prefix.Addr()
		return own.Is4() == other.Is4() && (!own.IsLoopback() || own == other) && !a.Deprecated && !a.Tentative &&
			(own.IsLinkLocalUnicast() == other.IsLinkLocalUnicast() || own.Is4() && !own.IsLinkLocalUnicast())
	}
	i := slices.IndexFunc(list, func(a link.Address) bool { return fits(a) && !a.Secondary && a.Prefix.Contains(other) })
	if i < 0 {
		i = slices.IndexFunc(list, fits)
	}
	if i < 0 {
		return h.lends[family(other)]
	}
	return list[i].Prefix.Addr()
}
