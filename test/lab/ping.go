package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// PingOptions change a ping. The zero value is 56 bytes from the host's own choice of address.
type PingOptions struct {
	Size int    // of the whole IP packet, as an MTU counts it; 0 is 84
	ID   uint16 // identifier; 0 is a new one
	Seq  uint16
	DF   bool // forbid fragments, and ignore what the kernel knows about the path
	TTL  int
	From string // source address
}

// Reply is the answer to a ping: an echo, or the ICMP error of a router on the way.
type Reply struct {
	ICMP
	Time time.Duration
}

// Echo reports whether the answer is one, and not an error.
func (r Reply) Echo() bool {
	return r.V6 && r.Type == 129 || !r.V6 && r.Type == 0
}

// Ping sends one ICMP or ICMPv6 echo request and waits for the answer to it. An ICMP error is an answer, not an
// error: errors are [NetError] and mean silence, or that the packet was not sent.
func (h *Host) Ping(addr string, within time.Duration, o PingOptions) (Reply, error) {
	dst, err := netip.ParseAddr(addr)
	if err != nil {
		return Reply{}, fmt.Errorf("ping: %w", err)
	}
	conn, err := h.pingSocket(dst, o)
	if err != nil {
		return Reply{}, &NetError{Op: "ping", Remote: addr, Err: err}
	}
	defer conn.Close()
	request := echoRequest(dst, o)
	sent := time.Now()
	if err := conn.SetDeadline(sent.Add(within)); err != nil {
		return Reply{}, &NetError{Op: "ping", Remote: addr, Err: err}
	}
	if _, err := conn.WriteToIP(request, &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()}); err != nil {
		return Reply{}, &NetError{Op: "ping", Remote: addr, Err: err}
	}
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromIP(buffer)
		if err != nil {
			return Reply{}, &NetError{Op: "ping", Remote: addr, Err: err}
		}
		message := ICMP{V6: dst.Is6()}
		message.From, _ = netip.AddrFromSlice(from.IP)
		message.From = message.From.Unmap()
		if message.answers(buffer[:n], request) {
			return Reply{ICMP: message, Time: time.Since(sent)}, nil
		}
	}
}

func (h *Host) pingSocket(dst netip.Addr, o PingOptions) (*net.IPConn, error) {
	network := "ip4:icmp"
	if dst.Is6() {
		network = "ip6:ipv6-icmp"
	}
	var local *net.IPAddr
	if o.From != "" {
		local = &net.IPAddr{IP: netip.MustParseAddr(o.From).AsSlice()}
	}
	var conn *net.IPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenIP(network, local)
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) { err = o.apply(int(fd), dst.Is6()) })
		err = errors.Join(err, controlErr)
	}
	if err != nil {
		conn.Close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return conn, nil
}

func (o PingOptions) apply(fd int, v6 bool) error {
	level, discover, mode, ttl := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, unix.IP_TTL
	if v6 {
		level, discover, mode, ttl = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, unix.IPV6_UNICAST_HOPS
	}
	if o.DF {
		mode = unix.IP_PMTUDISC_PROBE // the same number in IPv6
	}
	if err := unix.SetsockoptInt(fd, level, discover, mode); err != nil {
		return err
	}
	if o.DF && v6 {
		if err := unix.SetsockoptInt(fd, level, unix.IPV6_DONTFRAG, 1); err != nil {
			return err
		}
	}
	if o.TTL > 0 {
		return unix.SetsockoptInt(fd, level, ttl, o.TTL)
	}
	return nil
}

// echoRequest leaves the checksum of ICMPv6 to the kernel, which fills it in on raw sockets (RFC 3542, 3.1).
func echoRequest(dst netip.Addr, o PingOptions) []byte {
	header, kind := 20, byte(8)
	if dst.Is6() {
		header, kind = 40, 128
	}
	size := max(o.Size, header+8)
	if o.Size == 0 {
		size = header + 64
	}
	id := o.ID
	if id == 0 {
		id = uint16(serial.Add(1)<<1|1) ^ uint16(os.Getpid()<<8)
	}
	b := make([]byte, size-header)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], o.Seq)
	for i := range b[8:] {
		b[8+i] = byte(i)
	}
	if dst.Is4() {
		binary.BigEndian.PutUint16(b[2:], ^fold(sum(0, b)))
	}
	return b
}

// answers reads an ICMP message into m, and reports whether it is about the request.
func (m *ICMP) answers(b, request []byte) bool {
	if len(b) < 8 {
		return false
	}
	m.Type, m.Code = b[0], b[1]
	if (Reply{ICMP: *m}).Echo() {
		return bytes.Equal(b[4:], request[4:])
	}
	if !m.Unreachable() && !m.TooBig() && !m.TimeExceeded() {
		return false
	}
	quoted, err := DecodeIP(b[8:])
	if err != nil && !errors.Is(err, errShort) || !quoted.IsEchoRequest() ||
		quoted.SrcPort != binary.BigEndian.Uint16(request[4:]) || uint16(quoted.Seq) != binary.BigEndian.Uint16(request[6:]) {
		return false
	}
	if m.TooBig() {
		m.MTU = int(binary.BigEndian.Uint32(b[4:]))
		if !m.V6 {
			m.MTU &= 0xffff
		}
	}
	return true
}
