package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// proxy is a transparent proxy on the gateway: it finds out where each
// connection was meant to go. Where that is what to says, it goes there in the
// client's place; else it answers itself, as a server of the lab does, with
// the first destination for its own address.
func proxy(t *testing.T, gw *lab.Host, port int, to func(meant netip.AddrPort) string) {
	t.Helper()
	var listener net.Listener
	err := gw.Do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go serveProxy(gw, conn.(*net.TCPConn), to)
			}
		}
	}()
}

func serveProxy(gw *lab.Host, client *net.TCPConn, to func(netip.AddrPort) string) {
	defer client.Close()
	meant, err := originalDestination(client)
	if err != nil {
		fmt.Fprintln(client, err)
		return
	}
	if onward := to(meant); onward != "" {
		server, err := gw.DialTCP(lab.Patience, onward, lab.NoGreeting())
		if err != nil {
			return
		}
		defer server.Close()
		go func() { _, _ = io.Copy(server, client) }()
		_, _ = io.Copy(client, server)
		return
	}
	peer := client.RemoteAddr().(*net.TCPAddr).AddrPort()
	fmt.Fprintln(client, lab.Seen{Peer: netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), Local: meant, Name: "proxy"})
	_, _ = io.Copy(client, client)
}

// originalDestination asks conntrack, by SO_ORIGINAL_DST or, in IPv6,
// IP6T_SO_ORIGINAL_DST, which has the same number.
func originalDestination(conn *net.TCPConn) (meant netip.AddrPort, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return meant, err
	}
	v4 := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is4()
	controlErr := raw.Control(func(fd uintptr) {
		if v4 {
			// A sockaddr_in, in a type that is as long.
			var in *unix.IPv6Mreq
			if in, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); err == nil {
				meant = netip.AddrPortFrom(netip.AddrFrom4([4]byte(in.Multiaddr[4:8])), binary.BigEndian.Uint16(in.Multiaddr[2:]))
			}
			return
		}
		var in6 *unix.IPv6MTUInfo // begins with a sockaddr_in6
		if in6, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST); err == nil {
			port := binary.NativeEndian.AppendUint16(nil, in6.Addr.Port)
			meant = netip.AddrPortFrom(netip.AddrFrom16(in6.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	return meant, errors.Join(err, controlErr)
}

// itself has a proxy answer everything.
func itself(netip.AddrPort) string { return "" }

// meetsProxy connects by TCP, and sees that the proxy answers and knows where the
// client meant to go.
func meetsProxy(t *testing.T, h *lab.Host, remote string) *lab.Conn {
	t.Helper()
	c, err := h.DialTCP(lab.Patience, remote)
	if err != nil {
		t.Errorf("%s opens %s: %v", h.Name(), remote, err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	if s := c.Seen(); s.Name != "proxy" || s.Peer != c.Local() || s.Local.String() != remote {
		t.Errorf("%s opens %s: answered with %v, want the proxy, %s and %s", h.Name(), remote, s, c.Local(), remote)
	}
	return c
}
