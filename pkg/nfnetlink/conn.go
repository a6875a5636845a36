//go:build linux

// Package nfnetlink speaks the kernel's netfilter netlink: batches that commit
// whole or not at all, requests that stand alone, dumps, what is told to
// multicast groups, generations, and errors with the exact attribute that the
// kernel did not like.
//
// It knows messages and attributes, not what they mean. A batch is one sendmsg
// call, asks for no acknowledgement (they overflow the receive buffer from a
// few hundred messages on, while errors come anyway) and ends with a request
// for the generation, whose answer is the barrier behind which no error can
// follow.
package nfnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a caller can act on.
var (
	// ErrStale says that the ruleset has changed since the generation that
	// the batch was tied to.
	ErrStale = errors.New("the kernel's ruleset has changed in between")
	// ErrInterrupted says that the ruleset changed during a dump.
	ErrInterrupted = errors.New("the kernel's ruleset changed while it was read")
)

// answerTime bounds the wait for an answer. The kernel answers while it works
// on the request, so what is waited for is its other users' locks.
const answerTime = 60 * time.Second

// Conn is a netlink socket. It belongs to the network namespace of the thread
// that dialed it, and serves one goroutine at a time.
type Conn struct {
	fd  int
	seq uint32
	buf []byte
	out []byte // for requests
	// dumping says that a dump that Start asked for is not read to its end, and
	// began is the sequence number that it was asked for by first; unsure says
	// that nothing of it was read yet.
	dumping, unsure bool
	began           uint32
}

const receiveBuffer = 4 << 20

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter netlink socket: %w", err)
	}
	c := &Conn{fd: fd, seq: 1, buf: make([]byte, 128<<10)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		c.Close()
		return nil, fmt.Errorf("bind a netfilter netlink socket: %w", err)
	}
	for _, opt := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		// Kernels without them say less about an error; nothing else changes.
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	c.grow(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer)
	tv := unix.NsecToTimeval(int64(answerTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		c.Close()
		return nil, fmt.Errorf("bound the wait on a netfilter netlink socket: %w", err)
	}
	return c, nil
}

// Close closes the socket. After a transaction that deleted something this
// waits some 10 ms for the kernel to free it; the transaction is in force
// before.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// grow sets a buffer's size, past the system's limit where that is allowed.
func (c *Conn) grow(force, plain, size int) {
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, plain, size)
	}
}

// send hands the kernel one or more whole messages.
func (c *Conn) send(p []byte) error {
	if len(p) > 100<<10 {
		c.grow(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, len(p)+(64<<10))
	}
	for {
		err := unix.Sendto(c.fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EMSGSIZE):
			return fmt.Errorf("a transaction of %d bytes is more than this system lets a process without "+
				"CAP_NET_ADMIN in the initial user namespace send: raise the sysctl net.core.wmem_max there: %w", len(p), err)
		default:
			return fmt.Errorf("send to the kernel: %w", err)
		}
	}
}

// receive reads answers until done says so. The messages are valid during the
// call only.
func (c *Conn) receive(each func(Message) (done bool, err error)) error {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("the kernel gave no answer in %v: %w", answerTime, os.ErrDeadlineExceeded)
		case err != nil:
			return fmt.Errorf("receive from the kernel: %w", err)
		}
		done := false
		err = c.eachMessage(n, func(m Message) (err error) {
			if !done {
				done, err = each(m)
			}
			return err
		})
		if done || err != nil {
			return err
		}
	}
}

// drain reads what there is without waiting for more. What did not fit the
// receive buffer is lost.
func (c *Conn) drain(each func(Message)) error {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("receive from the kernel: %w", err)
		}
		if err := c.eachMessage(n, func(m Message) error { each(m); return nil }); err != nil {
			return err
		}
	}
}

// eachMessage takes apart a datagram of n bytes in the receive buffer.
func (c *Conn) eachMessage(n int, each func(Message) error) error {
	if n > len(c.buf) {
		return fmt.Errorf("receive from the kernel: a message of %d bytes is larger than the buffer", n)
	}
	for p := c.buf[:n]; len(p) > 0; {
		m, rest, err := First(p)
		if err != nil {
			return err
		}
		p = rest
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// Message is one netlink message.
type Message struct {
	Type  uint16
	Flags uint16
	Seq   uint32
	Body  []byte // behind the netlink header
}

// First takes the first message off what was received, and gives the rest.
func First(p []byte) (Message, []byte, error) {
	if len(p) < unix.NLMSG_HDRLEN {
		return Message{}, nil, errors.New("a truncated netlink header")
	}
	size := int(binary.NativeEndian.Uint32(p))
	if size < unix.NLMSG_HDRLEN || size > len(p) {
		return Message{}, nil, fmt.Errorf("a netlink message that claims %d of %d bytes", size, len(p))
	}
	m := Message{
		Type:  binary.NativeEndian.Uint16(p[4:]),
		Flags: binary.NativeEndian.Uint16(p[6:]),
		Seq:   binary.NativeEndian.Uint32(p[8:]),
		Body:  p[unix.NLMSG_HDRLEN:size],
	}
	return m, p[min((size+3)&^3, len(p)):], nil
}

// End says whether the message ends an answer, and with what error.
func (m Message) End() (bool, error) {
	switch m.Type {
	case unix.NLMSG_DONE:
		if len(m.Body) >= 4 {
			if code := int32(binary.NativeEndian.Uint32(m.Body)); code < 0 {
				return true, syscall.Errno(-code)
			}
		}
		return true, nil
	case unix.NLMSG_ERROR:
		if e := parseError(m); e.Errno != 0 {
			return true, e
		}
		return true, nil
	}
	return false, nil
}

// Family is the family that the netfilter header names.
func (m Message) Family() uint8 {
	if len(m.Body) < sizeofGenmsg {
		return 0
	}
	return m.Body[0]
}

// Attributes gives the attributes behind the netfilter header.
func (m Message) Attributes() []byte {
	if len(m.Body) < sizeofGenmsg {
		return nil
	}
	return m.Body[sizeofGenmsg:]
}

// Dump asks for all objects of a kind and hands each to yield. The message is
// valid during the call only. ErrInterrupted means that what was yielded may
// be a mix of two generations.
func (c *Conn) Dump(typ uint16, family uint8, attributes func(*Encoder), yield func(Message) error) error {
	return c.request(typ, unix.NLM_F_DUMP, family, attributes, yield)
}

// Get asks for one object, or for several elements that the attributes name:
// the kernel answers one by one until it finds that one is not there.
func (c *Conn) Get(typ uint16, family uint8, attributes func(*Encoder), yield func(Message) error) error {
	return c.request(typ, unix.NLM_F_ACK, family, attributes, yield)
}

func (c *Conn) request(typ, flags uint16, family uint8, attributes func(*Encoder), yield func(Message) error) error {
	seq, err := c.ask(typ, flags, family, attributes)
	if err != nil {
		return err
	}
	interrupted := false
	var failed error
	err = c.receive(func(m Message) (bool, error) {
		if m.Seq != seq {
			return false, nil
		}
		if m.Flags&unix.NLM_F_DUMP_INTR != 0 {
			interrupted = true
		}
		if end, err := m.End(); end {
			return true, err
		}
		// An error of the caller must not leave half a dump in the socket.
		if failed == nil {
			failed = yield(m)
		}
		return false, nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && interrupted {
		err = ErrInterrupted
	}
	return err
}

// ask sends a request and gives its sequence number.
func (c *Conn) ask(typ, flags uint16, family uint8, attributes func(*Encoder)) (uint32, error) {
	seq := c.nextSeq()
	e := &Encoder{buf: c.out[:0]}
	start := e.begin(typ, flags|unix.NLM_F_REQUEST, seq, family, 0)
	if attributes != nil {
		attributes(e)
	}
	e.end(start)
	c.out = e.buf
	return seq, c.send(e.buf)
}

func (c *Conn) nextSeq() uint32 {
	c.seq++
	return c.seq
}

// Generation is the number of the ruleset that is in force. Every transaction
// of anyone on the namespace's nftables changes it.
func (c *Conn) Generation() (uint32, error) {
	var id uint32
	err := c.Get(Nftables(unix.NFT_MSG_GETGEN), 0, nil, func(m Message) error {
		id = generation(m)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the ruleset's generation: %w", err)
	}
	return id, nil
}

func generation(m Message) uint32 {
	var id uint32
	for a := Attributes(m.Attributes()); a.Next(); {
		if a.Type() == unix.NFTA_GEN_ID {
			id = a.Uint32()
		}
	}
	return id
}
