package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// Switch is a learning switch: a bridge in a namespace of its own, which answers to nobody.
type Switch struct {
	lab    *Lab
	name   string
	bridge string
	ports  int
}

// Switch connects ports on one network. Spanning tree and multicast snooping are off.
func (l *Lab) Switch(name string, ports ...Port) *Switch {
	l.t.Helper()
	s, err := l.newSwitch(name, ports...)
	if err == nil {
		err = l.ready()
	}
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	return s
}

func (l *Lab) newSwitch(name string, ports ...Port) (*Switch, error) {
	if err := l.ensureFabric(); err != nil {
		return nil, err
	}
	s := &Switch{lab: l, name: name, bridge: fmt.Sprintf("sw%d", serial.Add(1))}
	if err := addBridge(l.fabric, s.bridge); err != nil {
		return nil, fmt.Errorf("switch %s: %w", name, err)
	}
	for _, p := range ports {
		if err := s.connect(p.Host, p.Name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ensureFabric makes the namespace that all switches of a lab share.
func (l *Lab) ensureFabric() error {
	l.mu.Lock()
	have := l.fabric != nil
	l.mu.Unlock()
	if have {
		return nil
	}
	fabric, err := l.host("fabric")
	if err != nil {
		return err
	}
	err = fabric.Do(func() error {
		if err := writeSysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil && HasIPv6() {
			return err
		}
		for _, family := range []string{"iptables", "ip6tables", "arptables"} {
			_ = writeSysctl("net.bridge.bridge-nf-call-"+family, "0") // absent without br_netfilter
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.fabric = fabric
	l.mu.Unlock()
	return nil
}

// Connect adds a port for an interface that it makes on a host.
func (s *Switch) Connect(h *Host, name string) {
	s.lab.t.Helper()
	err := s.connect(h, name)
	if err == nil {
		err = s.lab.ready()
	}
	if err != nil {
		s.lab.t.Fatalf("lab: %v", err)
	}
}

func (s *Switch) connect(h *Host, name string) error {
	fabric := s.lab.fabric
	master, err := fabric.link(s.bridge)
	if err != nil {
		return fmt.Errorf("switch %s: %w", s.name, err)
	}
	s.ports++
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("%s-%d", s.bridge, s.ports)
	attrs.Flags = net.FlagUp
	attrs.MasterIndex = master.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(h.fd)}
	if err := fabric.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("switch %s: connect %s:%s: %w", s.name, h.name, name, err)
	}
	return h.setUp(name)
}

// Bridge makes a bridge on the host itself, out of interfaces that it already has, and sets it up. Where the
// kernel has br_netfilter, whether bridged packets pass the IP hooks is up to the sysctls
// net.bridge.bridge-nf-call-iptables and -ip6tables; set them.
func (h *Host) Bridge(name string, ports ...string) {
	h.lab.t.Helper()
	h.must(addBridge(h, name))
	for _, p := range ports {
		h.must(h.enslave(p, name))
	}
	h.must(h.lab.ready())
}

// Enslave makes an interface a port of a bridge on the same host.
func (h *Host) Enslave(port, bridge string) {
	h.lab.t.Helper()
	h.must(h.enslave(port, bridge))
	h.must(h.lab.ready())
}

func (h *Host) enslave(port, bridge string) error {
	master, err := h.link(bridge)
	if err != nil {
		return err
	}
	link, err := h.link(port)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetMaster(link, master); err != nil {
		return fmt.Errorf("add %s to %s: %w", port, bridge, err)
	}
	return nil
}

func addBridge(h *Host, name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.Flags = net.FlagUp
	snooping := false
	if err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	return nil
}
