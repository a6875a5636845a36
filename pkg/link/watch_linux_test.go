package link_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/test/lab"
)

// watching tells what a watcher tells.
func watching(t *testing.T, h *lab.Host) <-chan link.Changed {
	t.Helper()
	var w *link.Watcher
	if err := h.Do(func() (err error) { w, err = link.Watch(); return err }); err != nil {
		t.Fatal(err)
	}
	told := make(chan link.Changed, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := w.Next()
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				return
			}
			told <- c
		}
	}()
	t.Cleanup(func() { w.Close(); <-done })
	return told
}

// Everything that facts are made of is told, and what a routing daemon does
// with its own is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	told := watching(t, a)
	wait := func(what string, want func(link.Changed) bool) {
		t.Helper()
		limit := time.After(lab.Patience)
		for {
			select {
			case c := <-told:
				if want(c) {
					return
				}
			case <-limit:
				t.Fatalf("%s: nothing is told", what)
			}
		}
	}
	settle := func() {
		a.Sysctl("net.ipv4.conf.lo.rp_filter", "2")
		wait("a setting", func(c link.Changed) bool { return c.Settings })
		for len(told) > 0 {
			<-told
		}
	}
	host := func(c link.Changed) bool { return c.Host }
	l.Link(a, "eth0", b, "eth0")
	wait("a link", host)
	a.Addr("eth0", "192.0.2.1/24")
	wait("an address", host)
	a.Route("default", "192.0.2.2")
	wait("a route", host)
	a.Rule("fwmark 7 table 100")
	wait("a rule", host)
	a.Sysctl("net.ipv4.ip_forward", "1")
	wait("forwarding", func(c link.Changed) bool { return c.Settings })
	a.Sysctl("net.ipv6.conf.all.forwarding", "1")
	wait("IPv6 forwarding", func(c link.Changed) bool { return c.Settings })

	a.Sysctl("net.ipv4.conf.lo.rp_filter", "1")
	settle()
	a.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "proto", "186") // BGP's
	a.Sysctl("net.ipv4.conf.lo.rp_filter", "1")
	wait("a setting", func(c link.Changed) bool {
		if c.Host {
			t.Error("a routing daemon's route is told")
		}
		return c.Settings
	})
	a.Run(t, "ip", "route", "replace", "default", "via", "192.0.2.3", "proto", "186")
	wait("its default route", host)
}
