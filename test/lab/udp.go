package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// UDPConn is a client's UDP socket, connected to one server.
type UDPConn struct {
	*net.UDPConn
	lab *Lab
}

// DialUDP opens a socket that talks to remote. Nothing is sent.
func (h *Host) DialUDP(remote string, opts ...DialOption) (*UDPConn, error) {
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil, fmt.Errorf("dial udp: %w", err)
	}
	var d dialing
	for _, opt := range opts {
		opt(&d)
	}
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) { err = d.prepare(int(fd), to.Addr().Is6()) })
		return errors.Join(controlErr, err)
	}}
	if d.local != (netip.AddrPort{}) {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(d.local)
	}
	var conn net.Conn
	err = h.Do(func() (err error) {
		conn, err = dialer.DialContext(context.Background(), "udp", to.String())
		return err
	})
	if err != nil {
		return nil, &NetError{Op: "dial udp", Remote: remote, Err: err}
	}
	c := &UDPConn{UDPConn: conn.(*net.UDPConn), lab: h.lab}
	h.lab.track(c)
	return c, nil
}

// Local returns the client's own address and port.
func (c *UDPConn) Local() netip.AddrPort { return unmap(c.LocalAddr().(*net.UDPAddr).AddrPort()) }

// Send sends one datagram.
func (c *UDPConn) Send(payload string) error {
	_, err := c.Write([]byte(payload))
	return c.fail("send udp to", err)
}

// Receive waits for one datagram from the server.
func (c *UDPConn) Receive(within time.Duration) ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, c.fail("receive udp from", err)
	}
	buffer := make([]byte, 1<<16)
	n, err := c.Read(buffer)
	if err != nil {
		return nil, c.fail("receive udp from", err)
	}
	return buffer[:n], nil
}

// Exchange sends a payload and waits for a server of the lab to answer that payload.
func (c *UDPConn) Exchange(within time.Duration, payload string) (Seen, error) {
	if err := c.Send(payload); err != nil {
		return Seen{}, err
	}
	for deadline := time.Now().Add(within); ; {
		answer, err := c.Receive(time.Until(deadline))
		if err != nil {
			return Seen{}, err
		}
		line, rest, _ := bytes.Cut(answer, []byte("\n"))
		if string(rest) == payload {
			return ParseSeen(string(line))
		}
	}
}

func (c *UDPConn) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	raw, rawErr := c.SyscallConn()
	if rawErr != nil {
		raw = nil
	}
	return netError(op, c.RemoteAddr().String(), err, raw)
}

// Close closes the socket.
func (c *UDPConn) Close() error {
	c.lab.forget(c)
	return c.UDPConn.Close()
}

// UDPExchange sends one datagram from a new socket, and waits for the answer of a server of the lab. local may be
// empty, an address, or an address and port.
func (h *Host) UDPExchange(local, remote, payload string, within time.Duration) (Seen, error) {
	c, err := h.DialUDP(remote, From(local))
	if err != nil {
		return Seen{}, err
	}
	defer c.Close()
	return c.Exchange(within, payload)
}

// SendUDP sends one datagram from a new socket, and waits for nothing. Unlike [UDPConn] it can broadcast.
func (h *Host) SendUDP(local, remote, payload string) error {
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return fmt.Errorf("send udp: %w", err)
	}
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	from := ""
	if local != "" {
		from = local
		if !strings.HasPrefix(local, ":") {
			from = parseLocal(local).String()
		}
	}
	return h.Do(func() error {
		config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			controlErr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			})
			return errors.Join(controlErr, err)
		}}
		conn, err := config.ListenPacket(context.Background(), network, from)
		if err != nil {
			return &NetError{Op: "bind udp", Remote: local, Err: err}
		}
		defer conn.Close()
		if _, err := conn.WriteTo([]byte(payload), net.UDPAddrFromAddrPort(to)); err != nil {
			return &NetError{Op: "send udp to", Remote: remote, Err: err}
		}
		return nil
	})
}
