//go:build linux

package nfnetlink

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listener is a socket that is sent what the kernel tells to multicast groups
// (unix.NFNLGRP_CONNTRACK_NEW and so on). Its methods may be called side by
// side, Receive by one goroutine at a time.
//
// What the kernel tells is not kept for anyone: a message that finds the
// receive buffer full is lost, and so are all that follow until the buffer has
// been emptied (NETLINK_S_CONGESTED in net/netlink/af_netlink.c). The next
// Receive says ErrOverrun then, ahead of what the buffer still holds, and Lost
// tells how many they were.
type Listener struct {
	fd, wake int
	port     uint32
	buffer   int
}

// What Receive says besides failures.
var (
	// ErrNothing says that nothing has arrived since.
	ErrNothing = errors.New("the kernel has told nothing")
	// ErrOverrun says that messages were lost.
	ErrOverrun = errors.New("the kernel told more than the receive buffer holds")
)

// Listen joins groups in the network namespace of the calling thread, with a
// receive buffer of so many bytes, or as many as this process may have; see
// Buffer. The kernel counts a small message as 768 bytes.
func Listen(buffer int, groups ...int) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter netlink socket: %w", err)
	}
	l := &Listener{fd: fd, wake: -1}
	if err := l.listen(buffer, groups); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Listener) listen(buffer int, groups []int) (err error) {
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	if err := unix.Bind(l.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind a netfilter netlink socket: %w", err)
	}
	name, err := unix.Getsockname(l.fd)
	if err != nil {
		return fmt.Errorf("ask for a netlink socket's port: %w", err)
	}
	if address, ok := name.(*unix.SockaddrNetlink); ok {
		l.port = address.Pid
	}
	// The kernel doubles what it is asked for, for its own bookkeeping. Without
	// the force it gives net.core.rmem_max at most, and no error.
	if unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer/2) != nil {
		_ = unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer/2)
	}
	if l.buffer, err = unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("ask for a receive buffer's size: %w", err)
	}
	_ = unix.SetsockoptInt(l.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	for _, group := range groups {
		if err := l.Join(group); err != nil {
			return err
		}
	}
	return nil
}

// Join has the kernel tell what it tells to a group from now on.
func (l *Listener) Join(group int) error {
	if err := unix.SetsockoptInt(l.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		return fmt.Errorf("join the netfilter netlink group %d: %w", group, err)
	}
	return nil
}

// Leave ends that. What nobody listens to, the kernel does not put together.
func (l *Listener) Leave(group int) error {
	if err := unix.SetsockoptInt(l.fd, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, group); err != nil {
		return fmt.Errorf("leave the netfilter netlink group %d: %w", group, err)
	}
	return nil
}

// Close closes the socket. No other method may be running.
func (l *Listener) Close() error {
	if l.wake >= 0 {
		unix.Close(l.wake)
	}
	return unix.Close(l.fd)
}

// Buffer is the size of the receive buffer that was got, in bytes, as the
// kernel counts them.
func (l *Listener) Buffer() int { return l.buffer }

// Port is the socket's netlink port, by which /proc/net/netlink lists it.
func (l *Listener) Port() uint32 { return l.port }

// Lost is how many messages the socket has lost since it was opened, modulo
// 2^32: the column Drops of /proc/net/netlink.
func (l *Listener) Lost() (uint32, error) {
	m, err := l.meminfo()
	return m[memDrops], err
}

// Waiting is how many bytes wait to be received, as the kernel counts them.
func (l *Listener) Waiting() (uint32, error) {
	m, err := l.meminfo()
	return m[memReceive], err
}

// SK_MEMINFO_* of linux/sock_diag.h.
const (
	memReceive = 0
	memDrops   = 8
)

func (l *Listener) meminfo() (m [9]uint32, err error) {
	size := uint32(unsafe.Sizeof(m))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(l.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return m, fmt.Errorf("ask what a netlink socket has lost: %w", errno)
	}
	return m, nil
}

// Receive takes what was sent at once, one message for most groups, without
// waiting. A message that is larger than p is cut, and then longer than its
// header says.
func (l *Listener) Receive(p []byte) (int, error) {
	for {
		n, err := unix.Read(l.fd, p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, ErrNothing
		case errors.Is(err, unix.ENOBUFS):
			return 0, ErrOverrun
		default:
			return 0, fmt.Errorf("receive what the kernel tells: %w", err)
		}
	}
}

// Overrun says whether the next Receive will say ErrOverrun.
func (l *Listener) Overrun() bool {
	fds := []unix.PollFd{{Fd: int32(l.fd)}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&unix.POLLERR != 0
}

// Wait waits until there is something to receive, or Wake is called.
func (l *Listener) Wait() error {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for what the kernel tells: %w", err)
		default:
			return nil
		}
	}
}

// Wake ends the Wait that is going on and all that come after.
func (l *Listener) Wake() {
	_, _ = unix.Write(l.wake, []byte{0, 0, 0, 0, 0, 0, 0, 1})
}

// Mark has the kernel answer, through the same buffer: what was told before is
// received before the answer, which EachMessage gives with the type
// unix.NLMSG_ERROR and this number.
func (l *Listener) Mark(number uint32) error {
	e := &Encoder{}
	e.end(e.begin(unix.NLMSG_NOOP, unix.NLM_F_REQUEST|unix.NLM_F_ACK, number, 0, 0))
	for {
		err := unix.Sendto(l.fd, e.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("send to the kernel: %w", err)
		}
	}
}

// EachMessage takes apart what was received, once or several times in a row.
// The messages share its memory.
func EachMessage(p []byte, each func(Message) error) error {
	for len(p) > 0 {
		m, rest, err := First(p)
		if err == nil {
			err = each(m)
		}
		if err != nil {
			return err
		}
		p = rest
	}
	return nil
}
