package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"golang.org/x/sys/unix"
)

const (
	// etherMarker is an ethertype for experiments (IEEE 802): nothing receives it.
	etherMarker = 0x88b5
	// markerHops is how many queues a packet, and what it causes, may pass before
	// it is where it ends: in, out, an answer through lo and back.
	markerHops = 8
	// markerWithin bounds the wait for a marker.
	markerWithin = 5 * time.Second
)

// packetSocket receives what its namespace's links do, from the IP header on.
func packetSocket(protocol uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(networkOrder(protocol)))
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	return fd, nil
}

// sendingSocket sends frames, and receives nothing.
func sendingSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fd, fmt.Errorf("have a packet socket take checksums: %w", err)
	}
	return fd, nil
}

// Send sends a packet, which simulation has completed, and tells what became of
// it. It knows that nothing did without waiting for it: a marker that is sent
// behind the packet comes through the same queues after it.
func (g *Gateway) Send(p simulate.Packet) (Seen, error) {
	if g.stage == nil {
		if err := g.Fresh(); err != nil {
			return Seen{}, err
		}
	}
	s := g.stage
	s.token++
	token := 0x1badc0de + s.token*0x10001
	if err := s.listen(&p); err != nil {
		return Seen{}, err
	}
	if err := s.gather(func(Seen) bool { return false }, &p, token); err != nil { // what came before
		return Seen{}, err
	}
	unrouted := false
	err := onOneCPU(func() error {
		err := s.inject(&p, build(&p, token))
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			unrouted, err = true, nil
		}
		if err != nil {
			return err
		}
		return s.settle()
	})
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{Verdict: simulate.Dropped, Left: simulate.Ends{Source: p.Source, Destination: p.Destination, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort}}
	if unrouted {
		seen.Verdict = simulate.Unrouted
		return seen, nil
	}
	best := 0
	err = s.gather(func(x Seen) bool {
		if n := weight(x.Verdict); n > best {
			best, seen = n, x
		}
		return true
	}, &p, token)
	return seen, err
}

// weight says which of several things that are seen of a packet is what became
// of it: what has arrived may be answered too.
func weight(v simulate.Verdict) int {
	switch v {
	case simulate.Forwarded:
		return 3
	case simulate.Delivered:
		return 2
	}
	return 1
}

// inject puts a packet on the far end of the link that it comes by, or has the
// gateway send it.
func (s *stage) inject(p *simulate.Packet, b []byte) error {
	if p.From == flows.Gateway {
		return s.sendFromGateway(p, b)
	}
	protocol := uint16(unix.ETH_P_IP)
	if p.Source.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	for i := range s.ends {
		if e := &s.ends[i]; e.name == p.Interface {
			if !e.up {
				return fmt.Errorf("send a packet to %s: the link is not up", p.Interface)
			}
			to := &unix.SockaddrLinklayer{Ifindex: e.index, Protocol: networkOrder(protocol)}
			if err := unix.Sendto(s.sends, e.frame(protocol, p, b), 0, to); err != nil {
				return fmt.Errorf("send a packet to %s: %w", p.Interface, err)
			}
			return nil
		}
	}
	return fmt.Errorf("send a packet to %s: the gateway has no such link", p.Interface)
}

// frame is a packet as a card would hand it to the gateway: behind a
// virtio_net_hdr that says where its checksum is (linux/virtio_net.h).
func (e *end) frame(protocol uint16, p *simulate.Packet, b []byte) []byte {
	const needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	out := make([]byte, virtioHeader, virtioHeader+etherHeader+len(b))
	if at := checksumAt(p.Protocol); at > 0 {
		header := ipv4Header
		if p.Source.Is6() {
			header = ipv6Header
		}
		out[0] = needsChecksum
		binary.NativeEndian.PutUint16(out[6:], uint16(etherHeader+header))
		binary.NativeEndian.PutUint16(out[8:], uint16(at))
	}
	out = append(append(out, e.to[:6]...), 2, 0, 0, 0, 0, 1)
	return append(binary.BigEndian.AppendUint16(out, protocol), checked(p, b)...)
}

const (
	virtioHeader = 10
	etherHeader  = 14
)

// sendFromGateway sends as a program on the gateway would, but writes the
// headers itself.
func (s *stage) sendFromGateway(p *simulate.Packet, b []byte) error {
	family, at := unix.AF_INET, 0
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(p.Destination)}
	if p.Destination.Is6() {
		family, at = unix.AF_INET6, 1
		to = &unix.SockaddrInet6{Addr: p.Destination.As16()}
	}
	if s.sender[at] < 0 {
		err := s.gateway.Do(func() (err error) {
			s.sender[at], err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			return err
		})
		if err != nil {
			return fmt.Errorf("open a raw socket: %w", err)
		}
	}
	if err := unix.SetsockoptInt(s.sender[at], unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)); err != nil {
		return fmt.Errorf("mark packets: %w", err)
	}
	err := unix.Sendto(s.sender[at], b, 0, to)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil // a rule has dropped it, and the sender is told
	}
	if err != nil {
		return fmt.Errorf("send a packet from the gateway: %w", err)
	}
	return nil
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		return a.As4()
	}
	return b
}

// settle returns when what was sent on this CPU has gone as far as it goes. A
// veth hands a packet over by queueing it on the CPU that sends, in order
// (enqueue_to_backlog of net/core/dev.c). A marker comes after all that was
// queued before it; what that caused was queued behind it, and comes before the
// next one.
func (s *stage) settle() error {
	i := slices.IndexFunc(s.ends, func(e end) bool { return e.up })
	if i < 0 {
		return nil // it goes nowhere
	}
	e := &s.ends[i]
	to := &unix.SockaddrLinklayer{Ifindex: e.index, Protocol: networkOrder(etherMarker), Halen: 6, Addr: e.to}
	buffer := make([]byte, 64)
	for hop := range uint64(markerHops) {
		var mark [16]byte
		binary.NativeEndian.PutUint64(mark[:], hop)
		if err := unix.Sendto(s.around, mark[:], 0, to); err != nil {
			return fmt.Errorf("send a marker: %w", err)
		}
		for deadline, back := time.Now().Add(markerWithin), false; !back; {
			left := time.Until(deadline)
			if left <= 0 {
				return fmt.Errorf("wait for a marker to come through the gateway: %w", os.ErrDeadlineExceeded)
			}
			poll := []unix.PollFd{{Fd: int32(s.marks), Events: unix.POLLIN}}
			if _, err := unix.Poll(poll, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wait for a marker: %w", err)
			}
			n, _, err := receive(s.marks, buffer)
			if err != nil {
				return err
			}
			back = n >= 8 && binary.NativeEndian.Uint64(buffer) == hop
		}
	}
	return nil
}

// onOneCPU runs a function on a thread that stays on one processor.
func onOneCPU(run func() error) error {
	runtime.LockOSThread()
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("read the processors that may be used: %w", err)
	}
	defer func() {
		if unix.SchedSetaffinity(0, &allowed) == nil {
			runtime.UnlockOSThread()
		}
	}()
	for cpu := range 8192 {
		if allowed.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on one processor: %w", err)
	}
	return run()
}
