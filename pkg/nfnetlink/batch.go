//go:build linux

package nfnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Batch is a transaction on nf_tables. Fill it with Message, then give it to
// Commit or DryRun. It may be committed again, tied to another generation.
type Batch struct {
	Encoder
	starts []int // where each message starts
}

// firstMessage is where the messages start: behind BATCH_BEGIN and its
// generation.
const firstMessage = unix.NLMSG_HDRLEN + sizeofGenmsg + unix.NLA_HDRLEN + 4

// Message starts a message of nf_tables in the batch; its attributes are
// written to the batch until the next call. It returns the message's number,
// by which an Error names it. Flags are beyond NLM_F_REQUEST.
func (b *Batch) Message(msg int, flags uint16, family uint8) int {
	if len(b.starts) == 0 && len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, firstMessage)...)
	}
	b.finish()
	b.starts = append(b.starts, b.begin(Nftables(msg), flags|unix.NLM_F_REQUEST, 0, family, 0))
	return len(b.starts) - 1
}

// Room is how many bytes an attribute that was opened at start may still take,
// before its 16-bit length overflows.
func (b *Batch) Room(start int) int { return maxAttribute - (len(b.buf) - start) }

// Messages is how many messages there are.
func (b *Batch) Messages() int { return len(b.starts) }

// Reserve makes room for n bytes.
func (b *Batch) Reserve(n int) { b.buf = slices.Grow(b.buf, n) }

// finish writes the length of the last message.
func (b *Batch) finish() {
	if n := len(b.starts); n > 0 {
		b.end(b.starts[n-1])
	}
}

// Error is what the kernel says of one message of a batch.
type Error struct {
	syscall.Errno
	Message int    // number of the message in the batch, or -1
	Text    string // the kernel's own words, or ""
	// Offset is where in the message the offending attribute starts, or 0.
	Offset int
}

// Error gives the error code's text and the kernel's own words.
func (e *Error) Error() string {
	if e.Text != "" {
		return e.Errno.Error() + ": " + e.Text
	}
	return e.Errno.Error()
}

// Unwrap gives the error code.
func (e *Error) Unwrap() error { return e.Errno }

// Commit carries the batch out, if the ruleset is still of the given
// generation (ErrStale if not; 0 commits in any case). It returns the
// generation after it. Everything is in force or nothing is; the errors of all
// messages are joined.
func (c *Conn) Commit(b *Batch, generation uint32) (uint32, error) {
	return c.transact(b, generation, true)
}

// DryRun has the kernel validate the batch as Commit would and apply nothing.
func (c *Conn) DryRun(b *Batch, generation uint32) error {
	_, err := c.transact(b, generation, false)
	return err
}

func (c *Conn) transact(b *Batch, gen uint32, commit bool) (uint32, error) {
	if len(b.starts) == 0 {
		return gen, nil
	}
	if b.overflown {
		return 0, fmt.Errorf("an attribute is longer than the %d bytes that netlink can tell", maxAttribute)
	}
	b.finish()
	first := c.seq + 1
	begin := Encoder{buf: b.buf[:0:firstMessage]}
	start := begin.begin(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, c.nextSeq(), 0, unix.NFNL_SUBSYS_NFTABLES)
	from := 0
	if gen != 0 {
		begin.Uint32(unix.NFNL_BATCH_GENID, gen)
		begin.end(start)
	} else {
		// Without a generation the header is shorter: start behind the gap.
		from = firstMessage - len(begin.buf)
		begin.end(start)
		copy(b.buf[from:firstMessage], append([]byte(nil), begin.buf...))
	}
	for _, at := range b.starts {
		binary.NativeEndian.PutUint32(b.buf[at+8:], c.nextSeq())
	}
	whole := len(b.buf)
	if commit {
		end := b.begin(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, c.nextSeq(), 0, unix.NFNL_SUBSYS_NFTABLES)
		b.end(end)
	}
	err := c.send(b.buf[from:])
	b.buf = b.buf[:whole]
	if err != nil {
		return 0, err
	}
	return c.barrier(first)
}

// maxErrors bounds how many errors of one transaction are kept: each may
// follow from the one before.
const maxErrors = 100

// barrier asks for the generation and collects the errors that come before the
// answer. first is the sequence number of BATCH_BEGIN.
func (c *Conn) barrier(first uint32) (uint32, error) {
	var errs []error
	last := c.seq
	collect := func(m Message) {
		if m.Type != unix.NLMSG_ERROR || m.Seq < first || m.Seq > last || len(errs) == maxErrors {
			return
		}
		e := parseError(m)
		e.Message = int(m.Seq-first) - 1
		switch {
		case e.Errno == unix.ERESTART && m.Seq == first:
			errs = append(errs, ErrStale)
		case e.Errno != 0:
			errs = append(errs, e)
		}
	}
	// The kernel is through with the batch when sending it returns. Errors
	// by the thousand fill the receive buffer, and then the answer that is
	// waited for would not fit: take them out first.
	if err := c.drain(collect); err != nil {
		return 0, fmt.Errorf("read what the kernel says of the transaction: %w", err)
	}
	seq := c.nextSeq()
	e := &Encoder{}
	e.end(e.begin(Nftables(unix.NFT_MSG_GETGEN), unix.NLM_F_REQUEST, seq, 0, 0))
	if err := c.send(e.buf); err != nil {
		return 0, err
	}
	var gen uint32
	err := c.receive(func(m Message) (bool, error) {
		switch {
		case m.Seq == seq && m.Type == unix.NLMSG_ERROR:
			return true, parseError(m)
		case m.Seq == seq:
			gen = generation(m)
			return true, nil
		}
		collect(m)
		return false, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the end of the transaction: %w", err)
	}
	return gen, errors.Join(errs...)
}

// parseError reads an NLMSG_ERROR.
func parseError(m Message) *Error {
	e := &Error{Message: -1}
	if len(m.Body) < 4+unix.NLMSG_HDRLEN {
		e.Errno = unix.EBADMSG
		return e
	}
	e.Errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Body)))
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return e
	}
	skip := 4 + unix.NLMSG_HDRLEN
	if m.Flags&unix.NLM_F_CAPPED == 0 {
		size := binary.NativeEndian.Uint32(m.Body[4:])
		if size > uint32(len(m.Body)) {
			return e
		}
		skip = 4 + (int(size)+3)&^3
	}
	if skip > len(m.Body) {
		return e
	}
	for a := Attributes(m.Body[skip:]); a.Next(); {
		switch a.Type() {
		case unix.NLMSGERR_ATTR_MSG:
			e.Text = a.String()
		case unix.NLMSGERR_ATTR_OFFS:
			if v := a.Bytes(); len(v) >= 4 {
				e.Offset = int(binary.NativeEndian.Uint32(v))
			}
		}
	}
	return e
}

// MessageBytes is message i as it stands in the batch, header included.
func (b *Batch) MessageBytes(i int) []byte {
	end := len(b.buf)
	if i+1 < len(b.starts) {
		end = b.starts[i+1]
	}
	return b.buf[b.starts[i]:end]
}
