package lab

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Capture records what passes an interface, in both directions, from before its packet filters on the way in
// and after them on the way out.
type Capture struct {
	host   *Host
	name   string
	filter Filter
	keep   bool

	done chan struct{}
	stop int // the write end of the pipe that wakes the reader

	mu      sync.Mutex
	ring    *ring
	packets []Packet
	count   int
	bytes   int64
	dropped int
	changed chan struct{} // closed and replaced when count grows
}

// Capture records the packets of an interface that filter chooses; nil chooses all, ARP included. It sees
// every packet from the moment it returns.
func (h *Host) Capture(name string, filter Filter) *Capture {
	h.lab.t.Helper()
	return h.capture(name, filter, true)
}

// Count counts instead of recording, for more packets than memory should hold. The filter sees some 150 bytes of
// each.
func (h *Host) Count(name string, filter Filter) *Capture {
	h.lab.t.Helper()
	return h.capture(name, filter, false)
}

func (h *Host) capture(name string, filter Filter, keep bool) *Capture {
	h.lab.t.Helper()
	link, err := h.link(name)
	h.must(err)
	c := &Capture{
		host: h, name: name, filter: filter, keep: keep,
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	h.must(h.Do(func() (err error) {
		c.ring, err = openRing(link.Attrs().Index, ringFor(keep))
		return err
	}))
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		c.ring.close()
		h.must(fmt.Errorf("open pipe: %w", err))
	}
	c.stop = pipe[1]
	go c.read(c.ring.fd, pipe[0])
	h.lab.track(c)
	return c
}

// read empties the ring whenever the kernel has put something in.
func (c *Capture) read(fd, stop int) {
	defer close(c.done)
	defer unix.Close(stop)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[1].Revents != 0 {
			return
		}
		if poll[0].Revents&unix.POLLERR != 0 {
			// The interface went down or away. Reading the error clears it.
			_, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		}
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
}

// drain needs the lock.
func (c *Capture) drain() {
	before := c.count
	c.ring.drain(func(p *Packet) {
		if c.filter != nil && !c.filter(p) {
			return
		}
		c.count++
		c.bytes += int64(p.Length)
		if c.keep {
			c.packets = append(c.packets, p.clone())
		}
	})
	if c.count != before {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// Sync returns when every packet that was sent before the call has been recorded, see [Lab.Settle].
func (c *Capture) Sync() {
	c.host.lab.t.Helper()
	c.host.lab.Settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
}

// Packets returns what was recorded so far, without waiting. Call Sync first to prove an absence.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	return append([]Packet(nil), c.packets...)
}

// Count returns how many packets the filter chose so far, without waiting.
func (c *Capture) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	return c.count
}

// Bytes returns the size of the chosen packets so far, counted as [Packet].Length.
func (c *Capture) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	return c.bytes
}

// Wait waits until n packets were chosen. It returns what was recorded, which may be more.
func (c *Capture) Wait(n int, within time.Duration) ([]Packet, error) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		c.drain()
		count, changed := c.count, c.changed
		c.mu.Unlock()
		if count >= n {
			return c.Packets(), nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return c.Packets(), fmt.Errorf("capture on %s:%s: %d of %d packets: %w", c.host.name, c.name, count, n, os.ErrDeadlineExceeded)
		}
	}
}

// Reset forgets what was recorded so far, after a Sync.
func (c *Capture) Reset() {
	c.host.lab.t.Helper()
	c.Sync()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets, c.count, c.bytes = nil, 0, 0
}

// Drops returns how many packets the kernel could not record. A count is exact only where it is 0.
func (c *Capture) Drops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, err := c.ring.drops(); err == nil {
		c.dropped += n
	}
	return c.dropped
}

// String lists the packets, one a line, for the message of a test that fails.
func (c *Capture) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s:%s, %d packets", c.host.name, c.name, c.Count())
	for _, p := range c.Packets() {
		fmt.Fprintf(&s, "\n\t%s", p)
	}
	return s.String()
}

// Stop ends the capture after a Sync. What was recorded stays readable.
func (c *Capture) Stop() {
	c.host.lab.t.Helper()
	c.Sync()
	_ = c.Close()
}

// Close ends the capture at once.
func (c *Capture) Close() error {
	c.host.lab.forget(c)
	c.mu.Lock()
	stop := c.stop
	c.stop = -1
	c.mu.Unlock()
	if stop < 0 {
		return nil
	}
	c.Drops()
	unix.Close(stop) // the reader sees the hangup
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	c.ring.close()
	return nil
}
