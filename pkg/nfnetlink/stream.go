//go:build linux

package nfnetlink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DatagramSize is room for what the kernel sends at once of a dump. It fills
// as much as the last reader had room for, up to 32 KiB.
const DatagramSize = 32 << 10

// Start asks for a dump, which Receive then reads. What is left of a dump that
// was not read to its end is read first.
//
// The kernel answers what it can while it takes a request, under a lock that all
// requests of the subsystem need, in all namespaces. Where a filter leaves little
// over, that is the whole walk through a large table. So the request is made
// when the receive buffer is full already: the kernel then puts the dump off
// until there is room (netlink_dump), and walks in the call that receives,
// without the lock. Two dumps are so made at the same time.
func (c *Conn) Start(typ uint16, family uint8, attributes func(*Encoder)) error {
	for c.dumping {
		if _, err := c.Receive(c.buf); err != nil && c.dumping {
			return fmt.Errorf("read the rest of the dump before: %w", err)
		}
	}
	const acknowledgements = 8 // some 700 bytes each; the smallest buffer is 2304
	e := &Encoder{buf: c.out[:0]}
	c.began = c.seq + 1
	for range acknowledgements {
		e.end(e.begin(unix.NLMSG_NOOP, unix.NLM_F_REQUEST|unix.NLM_F_ACK, c.nextSeq(), 0, 0))
	}
	at := len(e.buf)
	dump := e.begin(typ, unix.NLM_F_DUMP|unix.NLM_F_REQUEST, c.nextSeq(), family, 0)
	if attributes != nil {
		attributes(e)
	}
	e.end(dump)
	c.out = e.buf
	c.small(true)
	err := c.send(e.buf)
	c.small(false)
	c.dumping, c.unsure = err == nil, err == nil
	copy(c.out, c.out[at:])
	c.out = c.out[:len(c.out)-at]
	return err
}

// small makes the receive buffer as small as can be, and what does not fit it no
// error; or as large as it was.
func (c *Conn) small(yes bool) {
	// Where one of them fails, the dump begins at once.
	if yes {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
		return
	}
	c.grow(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer)
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 0)
}

// Receive reads what the kernel sends next of the dump that Start asked for:
// whole messages, in room. It gives none when the dump is over.
func (c *Conn) Receive(room []byte) ([]byte, error) {
	for c.dumping {
		flags := unix.MSG_TRUNC
		if c.unsure {
			// A dump that was put off has its beginning there by the time that an
			// acknowledgement is received.
			flags |= unix.MSG_DONTWAIT
		}
		n, _, err := unix.Recvfrom(c.fd, room, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) && c.unsure:
			c.unsure = false // it was not put off, and not begun
			if err := c.send(c.out); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("the kernel gave no answer in %v: %w", answerTime, os.ErrDeadlineExceeded)
		case err != nil:
			return nil, fmt.Errorf("receive from the kernel: %w", err)
		case n > len(room):
			return nil, fmt.Errorf("receive from the kernel: a message of %d bytes is larger than the buffer", n)
		}
		size, err := c.untilEnd(room[:n])
		if size > 0 || err != nil {
			return room[:size], err
		}
	}
	return nil, nil
}

// untilEnd gives the length of the messages before the end of the dump, and
// notes that there is one.
func (c *Conn) untilEnd(p []byte) (int, error) {
	size := len(p)
	for rest := p; len(rest) > 0; {
		at := len(p) - len(rest)
		m, behind, err := First(rest)
		if err != nil {
			c.dumping = false
			return 0, err
		}
		rest = behind
		switch end, err := m.End(); {
		case m.Seq != c.seq && end && err != nil && m.Seq-c.began < c.seq-c.began:
			c.dumping = false // of an acknowledgement: what holds for all requests
			return 0, err
		case m.Seq != c.seq:
			// Of a request before; the kernel does not mix two in a datagram.
			return 0, nil
		case c.unsure && errors.Is(err, unix.ENOBUFS):
			return 0, nil // the dump is put off
		case end:
			c.dumping = false
			return at, err
		}
	}
	c.unsure = false
	return size, nil
}
