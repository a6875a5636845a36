//go:build linux

package nfnetlink

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// unread is what lies in the receive buffer, in bytes of memory.
func unread(t *testing.T, c *Conn) int {
	t.Helper()
	n, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_MEMINFO) // SK_MEMINFO_RMEM_ALLOC comes first
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The kernel does not begin with a dump before it is received, and gives it
// also where it was not put off.
func TestStreamIsPutOff(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	const n = 5000
	carry(t, c, ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, n)
	before, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctGet, unix.AF_INET, nil); err != nil {
		t.Fatal(err)
	}
	if size := unread(t, c); size == 0 || size > 4<<10 {
		t.Errorf("%d bytes are there before anything is received", size)
	}
	if after, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil || after != before {
		t.Errorf("the receive buffer had %d bytes, and has %d; %v", before, after, err)
	}
	if got := flows(t, c); len(got) != n {
		t.Errorf("%d flows, want %d", len(got), n)
	}
	// As on a kernel that refuses, and whose word of that was lost.
	c.dumping, c.unsure = true, true
	room := make([]byte, DatagramSize)
	seen := 0
	for {
		p, err := c.Receive(room)
		if err != nil {
			t.Fatal(err)
		}
		if len(p) == 0 {
			break
		}
		if err := EachMessage(p, func(Message) error { seen++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if seen != n {
		t.Errorf("%d flows when it was asked for again, want %d", seen, n)
	}
}

func TestStreamUnprivileged(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			err = c.Start(ctGet, unix.AF_INET, nil)
		}
		if err == nil {
			_, err = c.Receive(make([]byte, DatagramSize))
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
	if got := flows(t, c); len(got) != 0 {
		t.Errorf("%d flows", len(got))
	}
}
