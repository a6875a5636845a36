package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ServeUDP listens on addr, as [Host.ServeTCP] does. Each datagram is answered with the [Seen] line and the
// datagram's own payload, from the address that it was sent to.
func (h *Host) ServeUDP(addr string, opts ...ServerOption) *Server {
	h.lab.t.Helper()
	s := newServer(h, opts)
	var conn *net.UDPConn
	h.must(h.Do(func() error {
		config := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
			var err error
			if controlErr := raw.Control(func(fd uintptr) { err = wantDestination(int(fd), network == "udp6") }); controlErr != nil {
				return controlErr
			}
			return err
		}}
		pc, err := config.ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			return err
		}
		conn = pc.(*net.UDPConn)
		return nil
	}))
	s.addr = unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	s.stops = append(s.stops, conn)
	h.lab.track(s)
	s.done.Go(func() { s.answerAll(conn) })
	return s
}

// wantDestination has each datagram come with the address it was sent to. An IPv6 socket for both families tells
// it in IPv6 form.
func wantDestination(fd int, v6 bool) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

func (s *Server) answerAll(conn *net.UDPConn) {
	payload, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oobn, _, peer, err := conn.ReadMsgUDPAddrPort(payload, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for an earlier answer
		}
		local, from := destination(oob[:oobn])
		seen := Seen{Peer: unmap(peer), Local: netip.AddrPortFrom(local, s.addr.Port()), Name: s.name}
		s.note(seen.Peer)
		answer := append([]byte(fmt.Sprintln(seen)), payload[:n]...)
		_, _, _ = conn.WriteMsgUDPAddrPort(answer, from, peer)
	}
}

// destination reads where a datagram was sent to, and turns that into the control message to answer from there.
func destination(oob []byte) (netip.Addr, []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			var info unix.Inet4Pktinfo
			copy(info.Spec_dst[:], m.Data[8:12])
			return netip.AddrFrom4(info.Spec_dst), unix.PktInfo4(&info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			var info unix.Inet6Pktinfo
			copy(info.Addr[:], m.Data[:16])
			addr := netip.AddrFrom16(info.Addr)
			if addr.IsLinkLocalUnicast() {
				info.Ifindex = binary.NativeEndian.Uint32(m.Data[16:])
			}
			return addr.Unmap(), unix.PktInfo6(&info)
		}
	}
	return netip.Addr{}, nil
}
