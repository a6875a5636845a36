//go:build linux

package nfnetlink

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Messages of conntrack, linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctGet    = ctNew | 1
	ctDelete = ctNew | 2
)

// addFlow writes the n-th UDP flow.
func addFlow(r *Requests, typ, flags uint16, n int) {
	r.Message(typ, flags, unix.AF_INET)
	for direction := range 2 {
		tuple := r.Open(uint16(1 + direction))
		ip := r.Open(1)
		r.Bytes(uint16(1+direction), binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(n)))
		r.Bytes(uint16(2-direction), []byte{198, 51, 100, 1})
		r.Close(ip)
		proto := r.Open(2)
		r.Uint8(1, unix.IPPROTO_UDP)
		r.Uint16(uint16(2+direction), 4000)
		r.Uint16(uint16(3-direction), 53)
		r.Close(proto)
		r.Close(tuple)
	}
	r.Uint32(7, 3600) // CTA_TIMEOUT
}

// carry does requests for flows from one number to another, and gives the
// messages that were refused, and why.
func carry(t *testing.T, c *Conn, typ, flags uint16, from, to int) map[int]error {
	t.Helper()
	r := &Requests{}
	for n := from; n < to; n++ {
		addFlow(r, typ, flags, n)
	}
	if r.Messages() != to-from {
		t.Errorf("%d messages", r.Messages())
	}
	refused := map[int]error{}
	if err := c.Do(r, func(e *Error) { refused[e.Message] = e }); err != nil {
		t.Fatal(err)
	}
	return refused
}

// flows are the numbers of what a dump has.
func flows(t *testing.T, c *Conn) map[uint32]bool {
	t.Helper()
	if err := c.Start(ctGet, unix.AF_INET, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	room := make([]byte, DatagramSize)
	for {
		p, err := c.Receive(room)
		if err != nil {
			t.Fatal(err)
		}
		if len(p) == 0 {
			return seen
		}
		for len(p) > 0 {
			m, rest, err := First(p)
			if err != nil {
				t.Fatal(err)
			}
			p = rest
			if m.Family() != unix.AF_INET {
				t.Errorf("family %d", m.Family())
			}
			for a := Attributes(m.Attributes()); a.Next(); {
				if a.Type() != 1 {
					continue
				}
				b := Attributes(a.Bytes())
				b.Next()
				d := Attributes(b.Bytes())
				d.Next()
				seen[d.Uint32()-0x0a000000] = true
			}
		}
	}
}

// Each request stands for itself, all refusals come back, and they belong to
// the message that they are about.
func TestRequests(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	const n = 20_000
	if refused := carry(t, c, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, n); len(refused) != 0 {
		t.Fatalf("%d refused: %v", len(refused), refused[0])
	}
	// The other half is there already.
	refused := carry(t, c, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, n/2, n/2*3)
	if len(refused) != n/2 || !errors.Is(refused[0], unix.EEXIST) || refused[n/2-1] == nil || refused[n/2] != nil {
		t.Errorf("%d refused, want %d: %v", len(refused), n/2, refused[0])
	}
	if got := flows(t, c); len(got) != n/2*3 || !got[0] || !got[n/2*3-1] {
		t.Errorf("%d flows", len(got))
	}
	if refused := carry(t, c, ctDelete, 0, 0, 2*n); len(refused) != n/2 || !errors.Is(refused[2*n-1], unix.ENOENT) {
		t.Errorf("%d refused, want %d", len(refused), n/2)
	}
	if got := flows(t, c); len(got) != 0 {
		t.Errorf("%d flows are left", len(got))
	}
	if err := c.Do(&Requests{}, nil); err != nil {
		t.Error(err)
	}
	r := &Requests{}
	addFlow(r, ctDelete, 0, 1)
	r.Reset()
	if r.Messages() != 0 || r.Len() != 0 {
		t.Errorf("%d messages of %d bytes after a reset", r.Messages(), r.Len())
	}
	r.Message(ctDelete, 0, unix.AF_INET)
	r.Bytes(1, make([]byte, 0xffff))
	if err := c.Do(r, nil); err == nil {
		t.Error("an attribute that is too long was sent")
	}
}

// A dump that is not read to its end is out of the way of what comes next.
func TestStreamLeftUnread(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	const n = 5000
	carry(t, c, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, n)
	room := make([]byte, DatagramSize)
	for range 3 {
		if err := c.Start(ctGet, unix.AF_INET, nil); err != nil {
			t.Fatal(err)
		}
		if p, err := c.Receive(room); err != nil || len(p) == 0 {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
	}
	if got := flows(t, c); len(got) != n {
		t.Errorf("%d flows, want %d", len(got), n)
	}
	if p, err := c.Receive(room); err != nil || len(p) != 0 {
		t.Errorf("%d bytes behind the end, %v", len(p), err)
	}
	// An error ends it too.
	broken := func(e *Encoder) {
		filter := e.Open(25 | unix.NLA_F_NESTED)             // CTA_FILTER
		e.Bytes(1, binary.NativeEndian.AppendUint32(nil, 1)) // CTA_FILTER_ORIG_FLAGS, of a tuple that is not there
		e.Close(filter)
	}
	if err := c.Start(ctGet, unix.AF_INET, broken); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Receive(room); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%d bytes, %v, want EINVAL", len(p), err)
	}
	if got := flows(t, c); len(got) != n {
		t.Errorf("%d flows, want %d", len(got), n)
	}
}

// All that is sent at once is refused with one answer.
func TestRequestsUnprivileged(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		r := &Requests{}
		for i := range 10 {
			addFlow(r, ctNew, unix.NLM_F_CREATE, i)
		}
		done <- c.Do(r, func(e *Error) { t.Errorf("message %d: %v", e.Message, e) })
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
	if got := flows(t, c); len(got) != 0 {
		t.Errorf("%d flows", len(got))
	}
}

func FuzzUntilEnd(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{20, 0, 0, 0, 0, 1, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		c := &Conn{seq: 7, dumping: true}
		if n, err := c.untilEnd(p); n < 0 || n > len(p) || err != nil && c.dumping {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
	})
}
