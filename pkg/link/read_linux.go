package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attempts is how often a dump is asked for that changes of the host keep
// interrupting.
const attempts = 10

// Read asks the kernel for the links, addresses and default routes of the
// calling thread's network namespace. The three answers are not one snapshot:
// what belongs to a link that came or went in between is left out.
func Read() (Facts, error) { return readHost(nil) }

// ReadRoutes reads the routing of the calling thread's network namespace, and
// with it what Read reads. A million routes take the kernel and the reading a
// few seconds. What leads over nexthop objects (ip-nexthop(8)) is known as long
// as the kernel tells their hops with the routes, which it does unless
// net.ipv4.nexthop_compat_mode is off.
func ReadRoutes() (*Routes, error) {
	r := &Routes{}
	facts, err := readHost(r)
	if err != nil {
		return nil, err
	}
	r.Facts = facts
	r.hold()
	return r, nil
}

func readHost(into *Routes) (Facts, error) {
	// No netlink.NewHandle without families: it opens a socket for each.
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Facts{}, fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	links, err := dump(handle.LinkList)
	if err != nil {
		return Facts{}, fmt.Errorf("list links: %w", err)
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return Facts{}, fmt.Errorf("list addresses: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	facts := Facts{Links: make([]Link, 0, len(links))}
	at := make(map[int]int, len(links))
	var vrfs []int
	for _, l := range links {
		attrs := l.Attrs()
		at[attrs.Index] = len(facts.Links)
		if vrf, ok := l.(*netlink.Vrf); ok {
			vrfs = append(vrfs, int(vrf.Table))
		}
		facts.Links = append(facts.Links, Link{
			Name:    attrs.Name,
			Index:   attrs.Index,
			Up:      attrs.RawFlags&unix.IFF_UP != 0,
			Carrier: attrs.RawFlags&unix.IFF_LOWER_UP != 0,
			Master:  names[attrs.MasterIndex],
			Kind:    l.Type(),
			MTU:     attrs.MTU,

			PointToPoint: attrs.RawFlags&(unix.IFF_POINTOPOINT|unix.IFF_NOARP) != 0 && attrs.RawFlags&unix.IFF_LOOPBACK == 0,
		})
	}
	for _, a := range addresses {
		i, known := at[a.LinkIndex]
		if address, ok := toAddress(a); ok && known {
			facts.Links[i].Addresses = append(facts.Links[i].Addresses, address)
		}
	}
	for _, family := range []Family{IPv4, IPv6} {
		rules, err := dump(func() ([]seenRule, error) { return readRules(family, vrfs) })
		if family == IPv6 && errors.Is(err, unix.EAFNOSUPPORT) {
			continue // booted with ipv6.disable=1; asked for its routes the kernel would tell those of IPv4
		}
		if err != nil {
			return Facts{}, fmt.Errorf("list %s rules: %w", family, err)
		}
		facts.addRules(rules)
		var tables *fib
		if into != nil {
			tables = newFIB(family, destinations(rules))
			into.Selectors = append(into.Selectors, selectors(rules)...)
		}
		seen, err := dump(func() ([]routes, error) { return readRoutes(handle, family, names, tables) })
		if err != nil {
			return Facts{}, fmt.Errorf("list %s routes: %w", family, err)
		}
		facts.add(seen[0], family)
		if into != nil {
			into.Refusals = append(into.Refusals, tables.refusals...)
		}
		switch {
		case into == nil:
		case family == IPv4:
			into.ipv4 = tables.ranges4()
		default:
			into.ipv6 = tables.ranges6()
		}
	}
	facts.sort()
	return facts, nil
}

// dump repeats a listing that the kernel marks as interrupted by a change.
func dump[T any](list func() ([]T, error)) (found []T, err error) {
	for range attempts {
		if found, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return found, err
}

func toAddress(a netlink.Addr) (Address, bool) {
	prefix, ok := toPrefix(a.IPNet)
	if !ok {
		return Address{}, false
	}
	peer, _ := toPrefix(a.Peer)
	address := Address{
		Prefix:     prefix,
		Peer:       peer,
		Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
		// An optimistic address is usable while its detection goes on (RFC 4429).
		Tentative: a.Flags&unix.IFA_F_DADFAILED != 0 ||
			a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
		Duplicate: a.Flags&unix.IFA_F_DADFAILED != 0,
	}
	// One bit, two meanings.
	if a.Flags&unix.IFA_F_SECONDARY != 0 {
		address.Secondary = prefix.Addr().Is4()
		address.Temporary = !prefix.Addr().Is4()
	}
	return address, true
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
