package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher tells that links, addresses, routes or rules of a network namespace
// have changed. What has is for [Read] to say: a notification is old when it
// is read, and some are lost when many come at once.
type Watcher struct {
	file *os.File
	buf  []byte
}

// Changed is what kind of thing has changed.
type Changed struct {
	Host     bool // links, addresses, routes, rules
	Settings bool // forwarding and the like of links (RTM_NEWNETCONF)
}

// watchBuffer is for some thousand notifications. When they are more, they are
// lost, and Next says that everything may have changed.
const watchBuffer = 1 << 20

// Watch begins to listen in the calling thread's network namespace.
func Watch() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	if err := listen(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Watcher{file: os.NewFile(uintptr(fd), "route netlink"), buf: make([]byte, 64<<10)}, nil
}

func listen(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, watchBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind a route netlink socket: %w", err)
	}
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return fmt.Errorf("join the route netlink group %d: %w", group, err)
		}
	}
	return nil
}

// Next waits for a change. After Close it fails with [os.ErrClosed].
func (w *Watcher) Next() (Changed, error) {
	for {
		n, err := w.file.Read(w.buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return Changed{Host: true, Settings: true}, nil
		case err != nil:
			return Changed{}, fmt.Errorf("wait for changes of links: %w", err)
		}
		if c := changed(w.buf[:n]); c != (Changed{}) {
			return c, nil
		}
	}
}

// Close ends Next.
func (w *Watcher) Close() error { return w.file.Close() }

// changed says what some notifications are about. One that is cut may be about
// anything.
func changed(p []byte) (c Changed) {
	for len(p) > 0 {
		if len(p) < unix.NLMSG_HDRLEN {
			return Changed{Host: true, Settings: true}
		}
		size := int(binary.NativeEndian.Uint32(p))
		if size < unix.NLMSG_HDRLEN || size > len(p) {
			return Changed{Host: true, Settings: true}
		}
		switch body := p[unix.NLMSG_HDRLEN:size]; binary.NativeEndian.Uint16(p[4:]) {
		case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
			c.Settings = true
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			c.Host = c.Host || matters(body)
		default:
			c.Host = true
		}
		p = p[min((size+3)&^3, len(p)):]
	}
	return c
}

// matters says whether a route can be one that a policy depends on. Routing
// daemons (their protocols begin at 10, see rtnetlink.h) make and unmake
// hundreds a second; of theirs only the default counts.
func matters(body []byte) bool {
	if len(body) < unix.SizeofRtMsg {
		return true
	}
	bits, protocol, kind := body[1], body[5], body[7]
	flags := binary.NativeEndian.Uint32(body[8:])
	switch {
	case flags&unix.RTM_F_CLONED != 0:
		return false
	case bits == 0 || kind == unix.RTN_LOCAL:
		return true
	}
	return protocol < 10 || Protocol(protocol) == ProtocolDHCP || Protocol(protocol) == ProtocolOwn
}
