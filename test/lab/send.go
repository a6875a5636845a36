package lab

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SendPacket sends an IP packet out of an interface as it is: past the host's own netfilter, routes and
// checksums. The next hop is looked up in the host's routes and neighbours, which may send ARP first.
func (h *Host) SendPacket(name string, packets ...[]byte) {
	h.lab.t.Helper()
	for _, packet := range packets {
		mac, err := h.nextHop(name, packet)
		h.must(err)
		h.SendPacketTo(name, mac, packet)
	}
}

// SendPacketTo is [Host.SendPacket] to a given hardware address.
func (h *Host) SendPacketTo(name string, mac net.HardwareAddr, packet []byte) {
	h.lab.t.Helper()
	fd, to, err := h.packetSocket(name, mac, packet)
	h.must(err)
	if err := unix.Sendto(fd, packet, 0, to); err != nil {
		h.must(fmt.Errorf("send packet to %s: %w", name, err))
	}
}

// packetSocket returns the host's socket that receives nothing and puts the link-layer header on by itself.
// It is kept: to close a packet socket takes milliseconds.
func (h *Host) packetSocket(name string, mac net.HardwareAddr, packet []byte) (int, *unix.SockaddrLinklayer, error) {
	link, err := h.link(name)
	if err != nil {
		return -1, nil, err
	}
	p, err := DecodeIP(packet)
	if err != nil {
		return -1, nil, err
	}
	to := &unix.SockaddrLinklayer{
		Protocol: networkOrder(p.EtherType), Ifindex: link.Attrs().Index, Halen: uint8(len(mac)),
	}
	copy(to.Addr[:], mac)
	h.sending.Lock()
	defer h.sending.Unlock()
	if h.sender == nil {
		err = h.Do(func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open packet socket: %w", err)
			}
			h.sender = &sender{fd}
			return nil
		})
		if err != nil {
			return -1, nil, err
		}
		h.lab.track(h.sender)
	}
	return h.sender.fd, to, nil
}

// sender is a packet socket that is closed with the lab.
type sender struct{ fd int }

// Close closes the socket.
func (s *sender) Close() error {
	closePacketSocket(s.fd)
	return nil
}

// nextHop returns the hardware address that a packet has to be sent to.
func (h *Host) nextHop(name string, packet []byte) (net.HardwareAddr, error) {
	p, err := DecodeIP(packet)
	if err != nil {
		return nil, err
	}
	link, err := h.link(name)
	if err != nil {
		return nil, err
	}
	if len(link.Attrs().HardwareAddr) == 0 || link.Attrs().Flags&net.FlagLoopback != 0 {
		return make(net.HardwareAddr, 6), nil
	}
	if p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil
	}
	hop := p.Dst
	routes, err := h.nl.RouteGetWithOptions(p.Dst.AsSlice(), &netlink.RouteGetOptions{OifIndex: link.Attrs().Index})
	if err == nil && len(routes) > 0 && routes[0].Gw != nil {
		hop, _ = netip.AddrFromSlice(routes[0].Gw)
		hop = hop.Unmap()
	}
	return h.resolve(link, hop)
}

// resolve asks the kernel's neighbour table, and has it ask the network where it does not know.
func (h *Host) resolve(link netlink.Link, hop netip.Addr) (net.HardwareAddr, error) {
	family := netlink.FAMILY_V4
	if hop.Is6() {
		family = netlink.FAMILY_V6
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	index := link.Attrs().Index
	asked := false
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		list, err := h.nl.NeighList(index, family)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		failed := false
		for _, n := range list {
			if ip, ok := netip.AddrFromSlice(n.IP); !ok || ip.Unmap() != hop {
				continue
			}
			if n.State&usable != 0 && len(n.HardwareAddr) > 0 {
				return n.HardwareAddr, nil
			}
			failed = n.State&netlink.NUD_FAILED != 0
		}
		if asked && failed {
			break
		}
		if !asked {
			// NTF_USE resolves as if a packet had to be sent (net/core/neighbour.c, neigh_add).
			use := &netlink.Neigh{LinkIndex: index, Family: family, IP: hop.AsSlice(), Flags: unix.NTF_USE}
			if err := h.nl.NeighSet(use); err != nil {
				return nil, fmt.Errorf("resolve %s: %w", hop, err)
			}
			asked = true
		}
		if err := h.lab.settle(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("resolve %s on %s: %w", hop, link.Attrs().Name, unix.EHOSTUNREACH)
}

// SendItself sends one UDP packet over loopback, in IPv4, to a port that is open: no answer comes.
func (h *Host) SendItself(t testing.TB) {
	t.Helper()
	err := h.Do(func() error {
		server, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer server.Close()
		_, err = server.WriteTo([]byte("x"), server.LocalAddr())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
