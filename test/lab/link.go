package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// Port is an interface that a link or a switch makes on a host.
type Port struct {
	Host *Host
	Name string
}

// Link connects two hosts by a veth pair. Both ends are up.
func (l *Lab) Link(a *Host, aName string, b *Host, bName string) {
	l.t.Helper()
	err := connect(a, aName, b, bName)
	if err == nil {
		err = l.ready()
	}
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
}

// connect leaves the wait for both ends to [Lab.ready].

func connect(a *Host, aName string, b *Host, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	attrs.Flags = net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd)}
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s:%s to %s:%s: %w", a.name, aName, b.name, bName, err)
	}
	return b.setUp(bName)
}

func (h *Host) setUp(name string) error {
	link, err := h.link(name)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func (h *Host) link(name string) (netlink.Link, error) {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	return link, nil
}

// change applies f to an interface, and fails the test where that fails.
func (h *Host) change(name, what string, f func(netlink.Link) error) {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	if err := f(link); err != nil {
		h.must(fmt.Errorf("%s %s: %w", what, name, err))
	}
}

// Up sets an interface up.
func (h *Host) Up(name string) {
	h.lab.t.Helper()
	h.change(name, "set up", h.nl.LinkSetUp)
	h.must(h.lab.ready())
}

// Down sets an interface down. The kernel drops its routes and, in IPv6, its addresses.
func (h *Host) Down(name string) {
	h.lab.t.Helper()
	h.change(name, "set down", h.nl.LinkSetDown)
}

// DeleteLink removes an interface. The other end of a veth goes with it.
func (h *Host) DeleteLink(name string) {
	h.lab.t.Helper()
	h.change(name, "delete", h.nl.LinkDel)
}

// Rename renames an interface, which must be down on old kernels.
func (h *Host) Rename(from, to string) {
	h.lab.t.Helper()
	h.change(from, "rename to "+to, func(link netlink.Link) error { return h.nl.LinkSetName(link, to) })
}

// SetMTU sets the MTU of one end of a link. A veth drops what is larger on arrival too.
func (h *Host) SetMTU(name string, mtu int) {
	h.lab.t.Helper()
	h.change(name, fmt.Sprintf("set mtu %d of", mtu), func(link netlink.Link) error { return h.nl.LinkSetMTU(link, mtu) })
}

// MTU returns the MTU of an interface.
func (h *Host) MTU(name string) int {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	return link.Attrs().MTU
}

// MAC returns the hardware address of an interface.
func (h *Host) MAC(name string) net.HardwareAddr {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	return link.Attrs().HardwareAddr
}

// HasLink reports whether the host has an interface of that name.
func (h *Host) HasLink(name string) bool {
	_, err := h.link(name)
	return err == nil
}

// Stub adds an interface to a network without anybody else on it, and sets it up.
func (h *Host) Stub(name string) {
	h.lab.t.Helper()
	h.must(h.lab.ensureFabric())
	h.must(connect(h, name, h.lab.fabric, fmt.Sprintf("stub%d", serial.Add(1))))
	h.must(h.lab.ready())
}
