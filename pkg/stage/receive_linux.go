package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/simulate"
	"golang.org/x/sys/unix"
)

// listen has a socket on the gateway that receives what is delivered there. A
// group is joined as a server would.
func (s *stage) listen(p *simulate.Packet) error {
	k := local{unix.AF_INET, p.Protocol}
	if p.Source.Is6() {
		k.family = unix.AF_INET6
	}
	fd, open := s.local[k]
	if !open {
		err := s.gateway.Do(func() (err error) {
			fd, err = unix.Socket(k.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(p.Protocol))
			return err
		})
		if err != nil {
			return fmt.Errorf("open a raw socket: %w", err)
		}
		s.local[k] = fd
		if k.family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
				return fmt.Errorf("ask for the destinations of packets: %w", err)
			}
		}
	}
	if !p.Destination.IsMulticast() {
		return nil
	}
	return s.gateway.Do(func() error { return join(fd, p.Interface, p.Destination) })
}

// gather reads all sockets until they are empty.
func (s *stage) gather(take func(Seen) bool, p *simulate.Packet, token uint32) error {
	buffer := make([]byte, 65536)
	for {
		n, from, err := receive(s.around, buffer)
		if err != nil {
			return err
		}
		if n < 0 {
			break
		}
		a, ok := from.(*unix.SockaddrLinklayer)
		if !ok || a.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		r, ok := parse(buffer[:n])
		if !ok {
			continue
		}
		if r.carries(p, token) {
			take(Seen{Verdict: simulate.Forwarded, Out: s.linkOf(a.Ifindex), Left: r.Ends})
			continue
		}
		switch r.answers(p, token) {
		case reset, refused:
			take(Seen{Verdict: simulate.Rejected})
		case noWay:
			take(Seen{Verdict: simulate.Unrouted})
		case handshake:
			take(Seen{Verdict: simulate.Synproxy})
		}
	}
	for k, fd := range s.local {
		if err := s.gatherLocal(k, fd, buffer, take, p, token); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) gatherLocal(k local, fd int, buffer []byte, take func(Seen) bool, p *simulate.Packet, token uint32) error {
	control := make([]byte, 256)
	for {
		n, nc, _, from, err := unix.Recvmsg(fd, buffer, control, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("receive what is delivered: %w", err)
		}
		var r read
		if k.family == unix.AF_INET {
			var ok bool
			if r, ok = parse(buffer[:n]); !ok {
				continue
			}
		} else {
			r.protocol, r.body = k.protocol, buffer[:n]
			if a, ok := from.(*unix.SockaddrInet6); ok {
				r.Source = netip.AddrFrom16(a.Addr)
			}
			r.Destination = destinationOf(control[:nc])
			if simulate.HasPorts(k.protocol) && n >= 4 {
				r.SourcePort, r.DestinationPort = binary.BigEndian.Uint16(r.body), binary.BigEndian.Uint16(r.body[2:])
			}
		}
		if r.carries(p, token) {
			take(Seen{Verdict: simulate.Delivered, Left: r.Ends})
		}
	}
}

func destinationOf(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16 {
			a, _ := netip.AddrFromSlice(m.Data[:16])
			return a
		}
	}
	return netip.Addr{}
}

// receive gives -1 where there is nothing.
func receive(fd int, buffer []byte) (int, unix.Sockaddr, error) {
	for {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		switch {
		case err == nil:
			return n, from, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return -1, nil, nil
		default:
			return -1, nil, fmt.Errorf("receive packets: %w", err)
		}
	}
}

func (s *stage) linkOf(index int) string {
	for i := range s.ends {
		if s.ends[i].index == index {
			return s.ends[i].name
		}
	}
	return ""
}
