package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// ParseAddress reads where to serve. A port alone (:9742, 9742) is on the
// loopback addresses: metrics tell whoever reads them what the gateway does, and
// there is no password. Every other address has to be written out; names are not
// looked up, but for localhost.
func ParseAddress(text string) ([]netip.AddrPort, error) {
	host, port := "", text
	if strings.Contains(text, ":") {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return nil, fmt.Errorf("%q is not an address to serve metrics on: write :9742, 192.0.2.1:9742 or [2001:db8::1]:9742", text)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q has no port from 0 to 65535 to serve metrics on: write :9742 or 192.0.2.1:9742", text)
	}
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, uint16(n)) }
	switch host {
	case "", "localhost":
		return []netip.AddrPort{at(netip.AddrFrom4([4]byte{127, 0, 0, 1})), at(netip.IPv6Loopback())}, nil
	case "*":
		return nil, fmt.Errorf("write [::]:%s to serve metrics on all addresses, or 0.0.0.0:%s for those of IPv4", port, port)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address to serve metrics on: names are not looked up; write an address in numbers", host)
	}
	return []netip.AddrPort{at(a)}, nil
}

// listen binds the addresses. A host without IPv6, or with IPv6 alone, has one
// loopback address, and that is enough.
func listen(ctx context.Context, addr string) (list []net.Listener, err error) {
	addresses, err := ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	var missing error
	for _, a := range addresses {
		if a.Port() == 0 && len(list) > 0 { // one port, whichever the kernel chose
			a = netip.AddrPortFrom(a.Addr(), list[0].Addr().(*net.TCPAddr).AddrPort().Port())
		}
		network := "tcp" // of [::]: both families
		if a.Addr().Is4() {
			network = "tcp4"
		}
		var config net.ListenConfig
		l, err := config.Listen(ctx, network, a.String())
		switch {
		case err == nil:
			list = append(list, l)
		case len(addresses) > 1 && absent(err):
			missing = err
		default:
			closeAll(list)
			return nil, fmt.Errorf("serve metrics: %w", err)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("serve metrics: %w", missing)
	}
	return list, nil
}

// absent says whether the host does not have an address.
func absent(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

func closeAll(list []net.Listener) {
	for _, l := range list {
		l.Close()
	}
}
