package packet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// pace is how often those talk who never stop.
const pace = 5 * time.Millisecond

// chatters has a host tell its name, from a port of UDP, again and again to
// everybody it has heard of.
func chatters(t *testing.T, h *lab.Host, port int) {
	t.Helper()
	var socket *net.UDPConn
	if err := h.Do(func() error {
		c, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err == nil {
			socket = c.(*net.UDPConn)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); socket.Close(); group.Wait() })
	group.Go(func() {
		known := map[netip.AddrPort]bool{}
		for room := make([]byte, 100); ctx.Err() == nil; {
			_, peer, err := socket.ReadFromUDPAddrPort(room)
			if err != nil || known[peer] {
				continue
			}
			known[peer] = true
			group.Go(func() {
				for tick := time.NewTicker(pace); ctx.Err() == nil; <-tick.C {
					_, _ = socket.WriteToUDPAddrPort([]byte(h.Name()), peer)
				}
			})
		}
	})
}

// talker is a client of UDP that never stops, and hears who answers.
type talker struct {
	mu   sync.Mutex
	said int
	from map[string]bool
}

func talks(t *testing.T, h *lab.Host, remote string) *talker {
	t.Helper()
	u := socket(t, h, remote)
	c := &talker{from: map[string]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); u.Close(); group.Wait() })
	group.Go(func() {
		for tick := time.NewTicker(pace); ctx.Err() == nil; <-tick.C {
			_ = u.Send("on and on")
			c.mu.Lock()
			c.said++
			c.mu.Unlock()
		}
	})
	group.Go(func() {
		for ctx.Err() == nil {
			if text, err := u.Receive(lab.Patience); err == nil {
				c.mu.Lock()
				c.from[string(text)] = true
				c.mu.Unlock()
			}
		}
	})
	return c
}

// forget begins to listen anew.
func (c *talker) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = 0
	clear(c.from)
}

// hears sees that a host, and no other, answers while the client says ten more
// things; "" is nobody.
func (c *talker) hears(t *testing.T, name string) {
	t.Helper()
	const more = 10
	if !within(func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.said > more && (name == "" || c.from[name]) }) {
		t.Errorf("%s is not heard", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for from := range c.from {
		if from != name {
			t.Errorf("%q is heard, want %q", from, name)
		}
	}
}
