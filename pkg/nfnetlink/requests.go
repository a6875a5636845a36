//go:build linux

package nfnetlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Requests are messages of any subsystem that the kernel carries out one after
// the other, each on its own: one that it refuses leaves the others alone. Fill
// it with Message, then give it to Do.
type Requests struct {
	Encoder
	starts []int
}

// Message starts a message; its attributes are written until the next call.
// Flags are beyond NLM_F_REQUEST.
func (r *Requests) Message(typ, flags uint16, family uint8) {
	r.finish()
	r.starts = append(r.starts, r.begin(typ, flags|unix.NLM_F_REQUEST, 0, family, 0))
}

// Messages is how many messages there are.
func (r *Requests) Messages() int { return len(r.starts) }

// Reset empties it, and keeps the memory.
func (r *Requests) Reset() { r.buf, r.starts = r.buf[:0], r.starts[:0] }

func (r *Requests) finish() {
	if n := len(r.starts); n > 0 {
		r.end(r.starts[n-1])
	}
}

const (
	// sendSize is less than what every socket may send at once.
	sendSize = 96 << 10
	// refusalSize is more than what one refusal takes of the receive buffer,
	// with what the kernel reckons for the memory around it.
	refusalSize = 2 << 10
)

// Do carries the requests out, and hands over what the kernel says of each one
// that it refuses; Error.Message is its number. It asks for an acknowledgement
// of a few only, and sends no more at once than there is room for refusals, so
// that none is lost.
func (c *Conn) Do(r *Requests, refused func(*Error)) error {
	if r.overflown {
		return fmt.Errorf("an attribute is longer than the %d bytes that netlink can tell", maxAttribute)
	}
	r.finish()
	most, err := c.refusals()
	if err != nil {
		return err
	}
	for from := 0; from < len(r.starts); {
		to := from + 1
		for to < len(r.starts) && to-from < most && r.endOf(to)-r.starts[from] <= sendSize {
			to++
		}
		if err := c.doSome(r, from, to, refused); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// refusals is how many the receive buffer holds.
func (c *Conn) refusals() (int, error) {
	size, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of the receive buffer: %w", err)
	}
	return max(size/refusalSize, 1), nil
}

func (r *Requests) endOf(i int) int {
	if i+1 < len(r.starts) {
		return r.starts[i+1]
	}
	return len(r.buf)
}

func (c *Conn) doSome(r *Requests, from, to int, refused func(*Error)) error {
	first := c.seq + 1
	for _, at := range r.starts[from:to] {
		binary.NativeEndian.PutUint32(r.buf[at+8:], c.nextSeq())
	}
	// The answer to the last one says that no other is to come.
	flags := r.buf[r.starts[to-1]+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	if err := c.send(r.buf[r.starts[from]:r.endOf(to-1)]); err != nil {
		return err
	}
	return c.receive(func(m Message) (bool, error) {
		i := int(m.Seq - first)
		if i < 0 || i >= to-from || m.Type != unix.NLMSG_ERROR {
			return false, nil
		}
		if e := parseError(m); e.Errno != 0 {
			e.Message = from + i
			if i == 0 && e.Errno == unix.EPERM {
				return true, e // said once, of all that was sent
			}
			refused(e)
		}
		return i == to-from-1, nil
	})
}
