package link

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Routes is the host's routing as it was when it was read: all tables and rules
// of both families, asked without the kernel. A look-up allocates nothing and
// takes less than 100 ns, with a million routes too; only addresses all over a
// million routes that differ take longer, for the memory's sake. Routes does not
// change, and may be asked by several goroutines.
//
// Addresses are asked for without a zone; IPv4 within IPv6 is IPv4.
type Routes struct {
	// Facts is what Read would have told.
	Facts Facts
	// Selectors are the rules of all but ipmasq, in their order, and Refusals the
	// routes that refuse, the first few thousand. A host that is described has
	// neither.
	Selectors []Selector
	Refusals  []Refusal

	ipv4 ranges[uint32]
	ipv6 ranges[uint64]
	held map[netip.Addr][]string
	// inVRF are the interfaces whose own addresses are in the table of a VRF.
	inVRF map[string]bool
}

// Kinds of address, or of what routing does with it (rtm_type of rtnetlink(7)).
const (
	KindUnspecified uint32 = iota
	KindUnicast
	KindLocal
	KindBroadcast
	KindAnycast
	KindMulticast
	KindBlackhole
	KindUnreachable
	KindProhibit
	KindThrow
)

// answer is what all addresses of a range have in common.
type answer struct {
	leaves []string
	way    int // so many of them are the next hops that a packet gets that has nothing but a destination
	kind   uint32
	// device is where the route of the kind is, of IPv4.
	device string
}

// Leaves names the interfaces by which a packet to an address may leave, each
// once, the most likely first; the slice is shared and must not be changed.
// None means that the host keeps the packet, refuses it or has no route.
//
// First come those of the longest prefix in the table that decides, all next
// hops and all metrics, the lowest first: a gateway with two uplinks has flows
// that came in by either. Behind them comes what rules lead to that ask for
// more than the destination, such as a mark, a source or an interface, and what
// routes for a type of service do.
func (r *Routes) Leaves(to netip.Addr) []string {
	if a := r.answer(to); a != nil {
		return a.leaves
	}
	return nil
}

// Way names those of the interfaces that a packet leaves by which has no mark
// and nothing else that a rule asks for: the next hops of the best route.
func (r *Routes) Way(to netip.Addr) []string {
	if a := r.answer(to); a != nil {
		return a.leaves[:a.way]
	}
	return nil
}

// Kind gives the kind of an address as "fib daddr type" of nft(8) does. It asks
// the local table alone of IPv4, where what is in no route is KindUnicast, and
// the rules of IPv6, where it is KindUnreachable. The first address of an IPv6
// network that is reached directly is KindUnicast here and anycast there.
func (r *Routes) Kind(a netip.Addr) uint32 {
	a = a.Unmap()
	if a.Is4() {
		switch b := a.As4(); {
		case b == [4]byte{} || b == [4]byte{255, 255, 255, 255}:
			return KindBroadcast
		case a.IsMulticast():
			return KindMulticast
		}
	}
	found := r.answer(a)
	switch {
	case found == nil || a == netip.IPv6Unspecified():
		return KindUnspecified
	case a.IsMulticast() && found.kind == KindUnicast:
		return KindMulticast
	}
	return found.kind
}

// Local says whether an address is the host's own: "fib daddr type local".
func (r *Routes) Local(a netip.Addr) bool { return r.Kind(a) == KindLocal }

// LocalOn says whether an address is the host's own on one interface: "fib
// daddr . iif type local". Of an address that two interfaces have, IPv4 takes
// the first alone.
func (r *Routes) LocalOn(a netip.Addr, iface string) bool {
	a = a.Unmap()
	if !a.Is4() || r.inVRF[iface] {
		return r.Holds(iface, a)
	}
	return r.Local(a) && r.answer(a).device == iface
}

// Holds says whether an address is one of an interface's, and ready for use.
func (r *Routes) Holds(iface string, a netip.Addr) bool {
	return slices.Contains(r.held[a.Unmap().WithZone("")], iface)
}

// Starts gives the addresses at which answers may change, of both families:
// from one to the next they are alike, but for addresses that no route is for,
// such as groups and that of all hosts. Not ok where there are more than most.
func (r *Routes) Starts(most int) (starts []netip.Addr, ok bool) {
	if r.ipv4.size()+r.ipv6.size() > most {
		return nil, false
	}
	r.ipv4.each(func(n uint32, _ uint64) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], n)
		starts = append(starts, netip.AddrFrom4(b))
	})
	r.ipv6.each(func(n, lower uint64) {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], n)
		binary.BigEndian.PutUint64(b[8:], lower)
		starts = append(starts, netip.AddrFrom16(b))
	})
	return starts, true
}

func (r *Routes) answer(a netip.Addr) *answer {
	switch a = a.Unmap(); {
	case a.Is4():
		k := keyOf(a)
		return r.ipv4.find(uint32(k.high>>32), 0)
	case a.Is6():
		k := keyOf(a)
		return r.ipv6.find(k.high, k.low)
	}
	return nil
}

// hold keeps the addresses that can be used.
func (r *Routes) hold() {
	r.held, r.inVRF = map[netip.Addr][]string{}, map[string]bool{}
	for _, l := range r.Facts.Links {
		for _, a := range l.Addresses {
			if at := a.Prefix.Addr(); !a.Tentative && !slices.Contains(r.held[at], l.Name) {
				r.held[at] = append(r.held[at], l.Name)
			}
		}
		if master, ok := r.Facts.Link(l.Master); ok && master.Kind == "vrf" {
			r.inVRF[l.Name] = true
		}
	}
}
