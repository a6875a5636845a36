package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ICMP is an error message that the network sent back.
type ICMP struct {
	From netip.Addr // who sent it, where the kernel tells
	V6   bool
	Type uint8
	Code uint8
	MTU  int // of the next hop, in "fragmentation needed" and "packet too big"
}

// String reads like 203.0.113.1: icmp type 3 code 13.
func (m ICMP) String() string {
	name := "icmp"
	if m.V6 {
		name = "icmpv6"
	}
	s := fmt.Sprintf("%s type %d code %d", name, m.Type, m.Code)
	if m.From.IsValid() {
		s = m.From.String() + ": " + s
	}
	if m.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", m.MTU)
	}
	return s
}

// Prohibited reports whether the message says that a filter forbade the packet.
func (m ICMP) Prohibited() bool {
	if m.V6 {
		return m.Type == 1 && (m.Code == 1 || m.Code == 5 || m.Code == 6)
	}
	return m.Type == 3 && (m.Code == 9 || m.Code == 10 || m.Code == 13)
}

// TooBig reports whether the message asks for smaller packets.
func (m ICMP) TooBig() bool {
	if m.V6 {
		return m.Type == 2
	}
	return m.Type == 3 && m.Code == 4
}

// Unreachable reports whether the message says that the destination cannot be reached, for whatever reason.
func (m ICMP) Unreachable() bool {
	if m.V6 {
		return m.Type == 1
	}
	return m.Type == 3 && m.Code != 4
}

// TimeExceeded reports whether the packet's hop limit ran out.
func (m ICMP) TimeExceeded() bool {
	if m.V6 {
		return m.Type == 3
	}
	return m.Type == 11
}

// NetError is what became of a packet or a connection. Err unwraps to the errno or the deadline.
type NetError struct {
	Op     string
	Remote string
	Err    error
	ICMP   *ICMP // nil where no ICMP error caused it: a RST, a local error, silence
}

func (e *NetError) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Remote, e.Err)
	if e.ICMP != nil {
		s += " (" + e.ICMP.String() + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *NetError) Unwrap() error { return e.Err }

func icmpOf(err error) *ICMP {
	var e *NetError
	if errors.As(err, &e) {
		return e.ICMP
	}
	return nil
}

// IsTimeout reports whether nothing came back: the packet, or its answer, was dropped.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, unix.ETIMEDOUT) || errors.As(err, &timeout) && timeout.Timeout()
}

// IsRefused reports a closed port: a RST, or an ICMP port unreachable.
func IsRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// IsReset reports a RST on a connection that was open.
func IsReset(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }

// IsProhibited reports an ICMP error that says a filter forbade the packet.
func IsProhibited(err error) bool {
	if m := icmpOf(err); m != nil {
		return m.Prohibited()
	}
	return errors.Is(err, unix.EACCES)
}

// IsUnreachable reports that there is no way to the destination: an ICMP error that does not speak of a filter
// or a port, or a missing route or neighbour on the host itself.
func IsUnreachable(err error) bool {
	if IsProhibited(err) || IsRefused(err) {
		return false
	}
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH)
}

// IsTooBig reports a packet above the MTU that it was not allowed to be fragmented for.
func IsTooBig(err error) bool { return errors.Is(err, unix.EMSGSIZE) }

// wantICMP has the kernel keep the ICMP errors of a socket, or no longer.
func wantICMP(fd int, v6, on bool) error {
	value := 0
	if on {
		value = 1
	}
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, value)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, value)
}

// lastICMP empties the error queue of a socket and returns the latest ICMP error in it, or nil.
func lastICMP(fd int) *ICMP {
	var last *ICMP
	data, oob := make([]byte, 2048), make([]byte, 512)
	for range 64 {
		_, n, _, _, err := unix.Recvmsg(fd, data, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return last
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			return last
		}
		for _, m := range messages {
			if e := parseExtendedError(m); e != nil {
				last = e
			}
		}
	}
	return last
}

// parseExtendedError reads a struct sock_extended_err and the address behind it.
func parseExtendedError(m unix.SocketControlMessage) *ICMP {
	v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
	v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
	if !v4 && !v6 || len(m.Data) < 16 {
		return nil
	}
	origin := m.Data[4]
	if origin != unix.SO_EE_ORIGIN_ICMP && origin != unix.SO_EE_ORIGIN_ICMP6 {
		return nil
	}
	e := &ICMP{V6: origin == unix.SO_EE_ORIGIN_ICMP6, Type: m.Data[5], Code: m.Data[6]}
	if e.TooBig() {
		e.MTU = int(binary.NativeEndian.Uint32(m.Data[8:]))
	}
	switch offender := m.Data[16:]; {
	case len(offender) >= 8 && binary.NativeEndian.Uint16(offender) == unix.AF_INET:
		e.From, _ = netip.AddrFromSlice(offender[4:8])
	case len(offender) >= 24 && binary.NativeEndian.Uint16(offender) == unix.AF_INET6:
		e.From, _ = netip.AddrFromSlice(offender[8:24])
	}
	return e
}

// netError adds to err what the socket's error queue knows.
func netError(op, remote string, err error, raw syscall.RawConn) error {
	if err == nil {
		return nil
	}
	e := &NetError{Op: op, Remote: remote, Err: err}
	if raw != nil {
		_ = raw.Control(func(fd uintptr) { e.ICMP = lastICMP(int(fd)) })
	}
	return e
}
