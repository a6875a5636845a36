package stage

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// join joins a group on a link of the calling thread's namespace.
func join(fd int, name string, group netip.Addr) error {
	l, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("join the group %s: %w", group, err)
	}
	if group.Is6() {
		err = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(l.Index)})
	} else {
		err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(l.Index)})
	}
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("join the group %s on %s: %w", group, name, err)
	}
	return nil
}
