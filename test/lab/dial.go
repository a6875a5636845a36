package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DialOption changes how a client opens a connection.
type DialOption func(*dialing)

type dialing struct {
	local  netip.AddrPort
	device string
	silent bool
	ttl    int
}

// From binds the client to an address, with or without a port: "192.168.1.10:500", "192.168.1.10", ":500".
func From(local string) DialOption {
	return func(d *dialing) { d.local = parseLocal(local) }
}

// Via binds the client to an interface.
func Via(name string) DialOption { return func(d *dialing) { d.device = name } }

// TTL sets the hop limit of the client's packets.
func TTL(n int) DialOption { return func(d *dialing) { d.ttl = n } }

// NoGreeting does not wait for a server's line: for servers that are not the lab's.
func NoGreeting() DialOption { return func(d *dialing) { d.silent = true } }

// parseLocal panics on what is neither an address nor an address and port: a mistake in a test.
func parseLocal(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	if port, ok := strings.CutPrefix(s, ":"); ok {
		return netip.AddrPortFrom(netip.Addr{}, netip.MustParseAddrPort("0.0.0.0:"+port).Port())
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	return netip.MustParseAddrPort(s)
}

func (d *dialing) prepare(fd int, v6 bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if d.device != "" {
		if err := unix.BindToDevice(fd, d.device); err != nil {
			return err
		}
	}
	if d.ttl > 0 {
		level, option := unix.IPPROTO_IP, unix.IP_TTL
		if v6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		if err := unix.SetsockoptInt(fd, level, option, d.ttl); err != nil {
			return err
		}
	}
	return wantICMP(fd, v6, true)
}

// Conn is a client's TCP connection.
type Conn struct {
	*net.TCPConn
	lab    *Lab
	seen   Seen
	reader *bufio.Reader
}

// DialTCP connects to addr within the given time, which includes reading the server's line. Errors are
// [NetError].
func (h *Host) DialTCP(within time.Duration, addr string, opts ...DialOption) (*Conn, error) {
	remote, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial tcp: %w", err)
	}
	var d dialing
	for _, opt := range opts {
		opt(&d)
	}
	deadline := time.Now().Add(within)
	conn, err := h.dialTCP(&d, remote, deadline)
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: conn, lab: h.lab, reader: bufio.NewReader(conn)}
	if !d.silent {
		if err := c.greet(deadline); err != nil {
			conn.Close()
			return nil, &NetError{Op: "read greeting of", Remote: addr, Err: err}
		}
	}
	h.lab.track(c)
	return c, nil
}

func (h *Host) dialTCP(d *dialing, remote netip.AddrPort, deadline time.Time) (*net.TCPConn, error) {
	v6 := remote.Addr().Is6()
	// The dialer closes a socket that failed, and the reason with it; the copy keeps both.
	twin := -1
	dialer := net.Dialer{Deadline: deadline, KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			if err = d.prepare(int(fd), v6); err != nil {
				return
			}
			if twin >= 0 {
				unix.Close(twin)
			}
			twin, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	if d.local != (netip.AddrPort{}) {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(d.local)
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = dialer.DialContext(context.Background(), "tcp", remote.String())
		return err
	})
	if twin >= 0 {
		defer unix.Close(twin)
	}
	if err != nil {
		e := &NetError{Op: "dial tcp", Remote: remote.String(), Err: err}
		if twin >= 0 {
			e.ICMP = lastICMP(twin)
		}
		return nil, e
	}
	// Kept on, one ICMP error would cut the open connection.
	_ = wantICMP(twin, v6, false)
	return conn.(*net.TCPConn), nil
}

func (c *Conn) greet(deadline time.Time) error {
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return err
	}
	if c.seen, err = ParseSeen(line); err != nil {
		return err
	}
	return c.SetReadDeadline(time.Time{})
}

// Seen returns what the server saw when the connection was opened.
func (c *Conn) Seen() Seen { return c.seen }

// Local returns the client's own address and port.
func (c *Conn) Local() netip.AddrPort { return unmap(c.LocalAddr().(*net.TCPAddr).AddrPort()) }

// Read reads what follows the server's line.
func (c *Conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// WriteTo writes what follows the server's line to w.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return c.reader.WriteTo(w) }

// Echo sends a payload and waits within the given time for it to come back unchanged.
func (c *Conn) Echo(within time.Duration, payload string) error {
	deadline := time.Now().Add(within)
	if err := c.SetDeadline(deadline); err != nil {
		return &NetError{Op: "echo", Remote: c.RemoteAddr().String(), Err: err}
	}
	defer c.SetDeadline(time.Time{})
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.TCPConn, payload)
		sent <- err
	}()
	got := make([]byte, len(payload))
	_, err := io.ReadFull(c.reader, got)
	if sendErr := <-sent; sendErr != nil {
		err = sendErr
	}
	if err != nil {
		return &NetError{Op: "echo", Remote: c.RemoteAddr().String(), Err: err}
	}
	if !bytes.Equal(got, []byte(payload)) {
		return &NetError{Op: "echo", Remote: c.RemoteAddr().String(), Err: fmt.Errorf("sent %q, got %q", clip(payload), clip(string(got)))}
	}
	return nil
}

// Download reads to the end, see [ServeBytes], and returns how many bytes there were.
func (c *Conn) Download(within time.Duration) (int64, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, c.reader)
	if err != nil {
		return n, &NetError{Op: "download from", Remote: c.RemoteAddr().String(), Err: err}
	}
	return n, nil
}

// Close closes the connection. The side that closes first keeps the pair of ports busy for a minute (TIME_WAIT).
func (c *Conn) Close() error {
	c.lab.forget(c)
	return c.TCPConn.Close()
}

// Abort closes the connection with a RST, which frees its ports at once.
func (c *Conn) Abort() error {
	if err := c.SetLinger(0); err != nil {
		return err
	}
	return c.Close()
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
