package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Add makes routes, then the rules that lead to them, in the calling thread's
// network namespace. A route takes the place of another one of ours to the
// same destination in its table; what is there already stays.
func (r Routing) Add() error {
	return r.each(func(handle *netlink.Handle, names map[string]int) error {
		for _, x := range r.Routes {
			index, known := names[x.Interface]
			if !known {
				return fmt.Errorf("add %s: no such interface", x)
			}
			err := handle.RouteReplace(x.netlink(index))
			if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
				return fmt.Errorf("add %s: the next hop is in none of the networks of %s: %w", x, x.Interface, err)
			}
			if err != nil {
				return fmt.Errorf("add %s: %w", x, err)
			}
		}
		for _, x := range r.Rules {
			if err := handle.RuleAdd(x.netlink()); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add %s: %w", x, err)
			}
		}
		return nil
	})
}

// Remove takes rules out, then routes. What is gone already is no error.
func (r Routing) Remove() error {
	return r.each(func(handle *netlink.Handle, names map[string]int) error {
		for _, x := range r.Rules {
			if err := handle.RuleDel(x.netlink()); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove %s: %w", x, err)
			}
		}
		for _, x := range r.Routes {
			index, known := names[x.Interface]
			if !known {
				continue
			}
			if err := handle.RouteDel(x.netlink(index)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove %s: %w", x, err)
			}
		}
		return nil
	})
}

// each gives a socket and the indexes of the interfaces, unless there is
// nothing to do.
func (r Routing) each(do func(*netlink.Handle, map[string]int) error) error {
	if r.Empty() {
		return nil
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	links, err := dump(handle.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	names := make(map[string]int, len(links))
	for _, l := range links {
		names[l.Attrs().Name] = l.Attrs().Index
	}
	return do(handle, names)
}

func (r Route) netlink(index int) *netlink.Route {
	out := &netlink.Route{
		Dst:       &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), r.To.Addr().BitLen())},
		LinkIndex: index, Table: r.Table, Protocol: netlink.RouteProtocol(ProtocolOwn), Type: unix.RTN_UNICAST,
		Scope: netlink.SCOPE_UNIVERSE,
	}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	switch {
	case !r.Gateway.IsValid():
		if r.Family == IPv4 {
			out.Scope = netlink.SCOPE_LINK
		}
	case r.Family == IPv4 && r.Gateway.Is6(): // RFC 5549
		out.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: r.Gateway.AsSlice()}
	default:
		out.Gw = r.Gateway.AsSlice()
	}
	return out
}

func (r Rule) netlink() *netlink.Rule {
	out := netlink.NewRule()
	mask := r.Mask
	out.Family, out.Priority, out.Mark, out.Mask, out.Table = number(r.Family), r.Priority, r.Mark, &mask, r.Table
	out.Protocol = uint8(ProtocolOwn)
	return out
}
