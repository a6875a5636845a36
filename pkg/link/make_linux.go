package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readyWithin bounds the wait for links to come up.
const readyWithin = 5 * time.Second

// Make makes a described host in the calling thread's network namespace, which
// must be new. Each link is one end of a veth pair; the other one, by the name
// that farName gives, is put into far, and up, without an address. When Make
// returns, both ends pass packets.
func (h Host) Make(far *NetNS, farName func(i int) string) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err == nil {
		err = handle.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	indexes := map[string]int{"lo": lo.Attrs().Index}
	for i, l := range h.Links {
		if indexes[l.Name], err = l.make(handle, far, farName(i)); err != nil {
			return fmt.Errorf("make the link %s: %w", l.Name, err)
		}
	}
	if err := far.Do(func() error { return h.wake(farName) }); err != nil {
		return err
	}
	for _, r := range h.Routes {
		if err := r.make(handle, indexes); err != nil {
			return fmt.Errorf("make the route to %s: %w", r.To, err)
		}
	}
	for _, r := range h.Rules {
		rule := r.netlink()
		rule.Protocol = uint8(ProtocolStatic)
		if err := handle.RuleAdd(rule); err != nil {
			return fmt.Errorf("make %s: %w", r, err)
		}
	}
	if err := h.ready(handle, func(i int) string { return h.Links[i].Name }); err != nil {
		return err
	}
	return h.settled(handle, indexes)
}

// settled waits until the host takes what is sent to its IPv6 addresses: the
// local routes come from a work queue, later than the addresses (addrconf_dad_work
// of net/ipv6/addrconf.c).
func (h Host) settled(handle *netlink.Handle, indexes map[string]int) error {
	type local struct {
		address netip.Addr
		index   int
	}
	wanted := map[local]bool{}
	for _, l := range h.Links {
		for _, a := range l.Addresses {
			if l.Up && a.Prefix.Addr().Is6() {
				wanted[local{a.Prefix.Addr(), indexes[l.Name]}] = true
			}
		}
	}
	for deadline := time.Now().Add(readyWithin); len(wanted) > 0; time.Sleep(100 * time.Microsecond) {
		there, err := handle.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: localTable}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list the local routes: %w", err)
		}
		for _, r := range there {
			if to, ok := toPrefix(r.Dst); ok && r.Type == unix.RTN_LOCAL {
				delete(wanted, local{to.Addr(), r.LinkIndex})
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for IPv6 addresses to be ready: %w", os.ErrDeadlineExceeded)
		}
	}
	return nil
}

// StopResolving has the links of a host that was made in the calling thread's
// network namespace ask for no neighbour any more: what is sent goes out as it is
// (IFF_NOARP), so that the far end can be whoever it likes.
func (h Host) StopResolving() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	for _, l := range h.Links {
		made, err := handle.LinkByName(l.Name)
		if err == nil {
			err = handle.LinkSetARPOff(made)
		}
		if err != nil {
			return fmt.Errorf("have %s ask for no neighbour: %w", l.Name, err)
		}
	}
	return nil
}

// make gives the index of the link.
func (l Link) make(handle *netlink.Handle, far *NetNS, farName string) (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = l.Name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: farName, PeerNamespace: netlink.NsFd(int(far.file.Fd()))}
	if err := handle.LinkAdd(pair); err != nil {
		return 0, err
	}
	made, err := handle.LinkByName(l.Name)
	if err != nil {
		return 0, err
	}
	if l.PointToPoint {
		if err := handle.LinkSetARPOff(made); err != nil {
			return 0, err
		}
	}
	if l.Up {
		if err := handle.LinkSetUp(made); err != nil {
			return 0, err
		}
	}
	for _, a := range l.Addresses {
		if err := handle.AddrAdd(made, a.netlink()); err != nil {
			return 0, fmt.Errorf("add %s: %w", a.Prefix, err)
		}
	}
	return made.Attrs().Index, nil
}

func (a Address) netlink() *netlink.Addr {
	own := a.Prefix.Addr()
	out := &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), own.BitLen())}}
	if own.Is6() {
		out.Flags = unix.IFA_F_NODAD
		return out
	}
	if a.Prefix.Bits() < 31 {
		out.Broadcast = net.IP(lastOf(a.Prefix).AsSlice())
	}
	return out
}

func (r HostRoute) make(handle *netlink.Handle, indexes map[string]int) error {
	out := &netlink.Route{
		Dst:   &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), r.To.Addr().BitLen())},
		Table: r.table(), Type: int(r.kind()), Priority: int(r.Metric), Protocol: netlink.RouteProtocol(ProtocolStatic),
		Scope: netlink.SCOPE_UNIVERSE, LinkIndex: indexes[r.Interface],
	}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	switch {
	case r.Gateway.IsValid() && r.To.Addr().Is4() && r.Gateway.Is6():
		out.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: r.Gateway.AsSlice()}
	case r.Gateway.IsValid():
		out.Gw = r.Gateway.AsSlice()
	case r.kind() == KindLocal:
		out.Scope = netlink.SCOPE_HOST
	case r.Family() == IPv4 && r.Interface != "":
		out.Scope = netlink.SCOPE_LINK
	}
	if l := r.Interface; l != "" && indexes[l] == 0 {
		return fmt.Errorf("there is no link %s", l)
	}
	return handle.RouteAdd(out)
}

// wake sets the far ends up. It runs in their namespace.
func (h Host) wake(farName func(i int) string) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	for i := range h.Links {
		end, err := handle.LinkByName(farName(i))
		if err == nil {
			err = handle.LinkSetUp(end)
		}
		if err != nil {
			return fmt.Errorf("set the far end of %s up: %w", h.Links[i].Name, err)
		}
	}
	return h.ready(handle, farName)
}

// ready waits until the links that are up pass packets. A veth's end that gets
// its carrier from the other one gets its queue from a work queue later
// (net/core/link_watch.c), which a question about it hurries; no event tells.
func (h Host) ready(handle *netlink.Handle, name func(i int) string) error {
	deadline := time.Now().Add(readyWithin)
	for i, l := range h.Links {
		for l.Up {
			found, err := handle.LinkByName(name(i))
			if err != nil {
				return fmt.Errorf("look at %s: %w", name(i), err)
			}
			a := found.Attrs()
			if a.RawFlags&unix.IFF_LOWER_UP != 0 && a.OperState == netlink.OperUp {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("wait for %s to come up: %w", name(i), os.ErrDeadlineExceeded)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return nil
}
