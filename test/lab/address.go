package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addr gives an interface an address such as 192.168.1.10/24 or fd00:1::10/64. It can be used at once.
func (h *Host) Addr(name string, prefixes ...string) {
	h.lab.t.Helper()
	for _, prefix := range prefixes {
		h.must(h.addr(name, prefix))
	}
	h.must(h.lab.ready())
}

func (h *Host) addr(name, prefix string) error {
	link, addr, err := h.linkAndAddr(name, prefix)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.nl.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("add %s to %s: %w", prefix, name, err)
	}
	return nil
}

// DelAddr takes an address from an interface.
func (h *Host) DelAddr(name, prefix string) {
	h.lab.t.Helper()
	link, addr, err := h.linkAndAddr(name, prefix)
	h.must(err)
	if err := h.nl.AddrDel(link, addr); err != nil {
		h.must(fmt.Errorf("remove %s from %s: %w", prefix, name, err))
	}
}

func (h *Host) linkAndAddr(name, prefix string) (netlink.Link, *netlink.Addr, error) {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return nil, nil, fmt.Errorf("address of %s: %w", name, err)
	}
	link, err := h.link(name)
	if err != nil {
		return nil, nil, err
	}
	return link, &netlink.Addr{IPNet: ipNet(p)}, nil
}

// ipNet keeps the host bits.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Addrs returns the addresses of an interface, without IPv6 link-local ones.
func (h *Host) Addrs(name string) []netip.Prefix {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	list, err := h.nl.AddrList(link, netlink.FAMILY_ALL)
	h.must(err)
	var prefixes []netip.Prefix
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || ip.Is6() && ip.IsLinkLocalUnicast() {
			continue
		}
		ones, _ := a.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return prefixes
}

// Neighbor sets a permanent ARP or neighbour entry.
func (h *Host) Neighbor(name, ip string, mac net.HardwareAddr) {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	h.must(h.nl.NeighSet(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           net.ParseIP(ip),
		HardwareAddr: mac,
	}))
}

// FlushNeighbors forgets who has which hardware address, as a host does that boots. Entries set by
// [Host.Neighbor] stay.
func (h *Host) FlushNeighbors(name string) {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	list, err := h.nl.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	h.must(err)
	for _, n := range list {
		if n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
			continue
		}
		if err := h.nl.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			h.must(fmt.Errorf("forget %s: %w", n.IP, err))
		}
	}
}
