package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watching is a Watch that goes on, and what it has told.
type watching struct {
	*Watch
	t      testing.TB
	cancel func()
	done   chan error

	mu     sync.Mutex
	told   []Event
	idle   int
	labels uint16
	begun  int        // the number of connections that were open then, and one
	hold   sync.Mutex // locked, the watch waits with what it tells
	change *sync.Cond
}

// watch watches the test's namespace until its end.
func watch(t testing.TB, o ListenOptions) *watching {
	t.Helper()
	x, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{Watch: x, t: t, cancel: cancel, done: make(chan error, 1)}
	w.change = sync.NewCond(&w.mu)
	t.Cleanup(w.stop)
	go func() {
		w.done <- x.Run(ctx, func(e *Event) error {
			w.hold.Lock()
			defer w.hold.Unlock()
			w.mu.Lock()
			defer w.mu.Unlock()
			if e.Kind == EventBegin {
				w.begun = e.Open + 1
				w.change.Broadcast()
				return nil
			}
			if e.Kind == EventNew || e.Kind == EventOpen {
				w.labels++
				e.Label = w.labels
			}
			w.told = append(w.told, *e)
			w.change.Broadcast()
			return nil
		}, func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.idle++
			w.change.Broadcast()
			return nil
		})
	}()
	w.until("it has begun", func() bool { return w.begun > 0 })
	return w
}

// stop ends it, and fails the test if it did not end well.
func (w *watching) stop() {
	if w.cancel == nil {
		return
	}
	w.cancel()
	w.cancel = nil
	select {
	case err := <-w.done:
		if err != nil {
			w.t.Error(err)
		}
	case <-time.After(20 * time.Second):
		w.t.Error("the watch does not end")
		return
	}
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
}

// until waits for what the watch tells, whose lock is held for the condition.
func (w *watching) until(what string, condition func() bool) {
	w.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { w.mu.Lock(); w.idle = math.MinInt32; w.mu.Unlock(); w.change.Broadcast() })
	defer late.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !condition() {
		if w.idle < 0 {
			var last []string
			for _, e := range w.told[max(0, len(w.told)-20):] {
				last = append(last, eventText(e))
			}
			w.t.Fatalf("waited too long until %s; of %d events the last are:\n%s", what, len(w.told), strings.Join(last, "\n"))
		}
		w.change.Wait()
	}
}

// events waits for n events in all, and gives their texts.
func (w *watching) events(n int) []string {
	w.t.Helper()
	w.until(fmt.Sprintf("there are %d events", n), func() bool { return len(w.told) >= n })
	w.mu.Lock()
	defer w.mu.Unlock()
	var texts []string
	for _, e := range w.told {
		texts = append(texts, eventText(e))
	}
	return texts
}

func eventText(e Event) string {
	text := []string{"new", "update", "destroy", "open", "lost", "resync"}[e.Kind]
	if e.Compared {
		text += " compared"
	}
	switch e.Kind {
	case EventLost:
		return fmt.Sprintf("%s %d", text, e.Gap.Messages)
	case EventResync:
		return fmt.Sprintf("%s %d, %d began, %d ended", text, e.Resync.Messages, e.Resync.Began, e.Resync.Ended)
	}
	return text + " " + e.Flow.String()
}

func wantEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// remove deletes what a list finds of a flow.
func remove(t testing.TB, c *Conn, match func(*Flow) bool) {
	t.Helper()
	var found []Flow
	err := c.List(&Filter{}, func(f *Flow) bool {
		if match(f) {
			found = append(found, *f)
		}
		return true
	})
	if err == nil {
		_, err = c.DeleteAll(found)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What the kernel tells of a connection is told, in order and whole, in both
// families.
func TestWatch(t *testing.T) {
	c := open(t)
	sysctl(t, "nf_conntrack_acct", "1")
	sysctl(t, "nf_conntrack_timestamp", "1")
	w := watch(t, ListenOptions{Updates: true})
	before := time.Now()
	tcp := flow(unix.IPPROTO_TCP, "192.168.1.10", "198.51.100.1")
	tcp.Mark = 7
	udp := flow(unix.IPPROTO_UDP, "fd00::10", "2001:db8::1")
	create(t, c, tcp, "203.0.113.7", "")
	create(t, c, udp, "", "")
	create(t, c, flow(unix.IPPROTO_ICMP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	remove(t, c, func(f *Flow) bool { return true })
	got := w.events(6)
	slices.Sort(got[3:]) // the order of the table
	wantEvents(t, got,
		"new tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 > 198.51.100.1:443",
		"new udp [fd00::10]:4000 > [2001:db8::1]:443",
		"new icmp 192.168.1.10 > 198.51.100.1 -> 203.0.113.7 > 198.51.100.1",
		"destroy icmp 192.168.1.10 > 198.51.100.1 -> 203.0.113.7 > 198.51.100.1",
		"destroy tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 > 198.51.100.1:443",
		"destroy udp [fd00::10]:4000 > [2001:db8::1]:443")
	for _, e := range w.told {
		if e.Time.Before(before) || time.Since(e.Time) < 0 || e.Began.Before(before.Add(-time.Millisecond)) || e.Began.After(e.Time) {
			t.Errorf("%s at %v, began %v; the test began %v", eventText(e), e.Time, e.Began, before)
		}
		if e.Flow.Protocol == ProtocolTCP && e.Flow.Mark != 7 {
			t.Errorf("%s has the mark %d", eventText(e), e.Flow.Mark)
		}
		if e.Kind == EventDestroy && (e.Flow.Start.IsZero() || e.Flow.Stop.IsZero()) {
			t.Errorf("%s from %v to %v", eventText(e), e.Flow.Start, e.Flow.Stop)
		}
	}
}

func sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/netfilter/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// Those that are open are told first, where that is wanted, and each has the
// label that it was given, and when it began, until its end.
func TestWatchExisting(t *testing.T) {
	for _, existing := range []bool{true, false} {
		c := open(t)
		sysctl(t, "nf_conntrack_events", "1") // also of what begins before the watch
		old := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
		create(t, c, old, "203.0.113.7", "")
		began := time.Now()
		w := watch(t, ListenOptions{Existing: existing})
		create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.11", "198.51.100.2"), "203.0.113.7", "")
		text := func(source string) string {
			far := "198.51.100.1:443"
			if source == "192.168.1.11" {
				far = "198.51.100.2:443"
			}
			return "udp " + source + ":4000 > " + far + " -> 203.0.113.7:4000 > " + far
		}
		want := []string{"open " + text("192.168.1.10")}
		if !existing {
			want = nil
		}
		want = append(want, "new "+text("192.168.1.11"), "destroy "+text("192.168.1.10"))
		w.events(len(want) - 1)
		remove(t, c, func(f *Flow) bool { return f.Original.Source == old.Original.Source })
		wantEvents(t, w.events(len(want)), want...)
		last := w.told[len(want)-1]
		if existing && last.Label != 1 || !existing && last.Label != 0 || !last.Began.IsZero() {
			t.Errorf("existing %v: the first has the label %d and began %v", existing, last.Label, last.Began)
		}
		remove(t, c, func(*Flow) bool { return true })
		w.events(len(want) + 1)
		if e := w.told[len(want)]; e.Label != uint16(len(want)-1) || e.Began.Before(began) || e.Began.After(e.Time) {
			t.Errorf("existing %v: the second has the label %d and began %v", existing, e.Label, e.Began)
		}
		w.stop()
	}
}

// The kernel says nothing of the end of what began when nobody listened. It is
// found all the same.
func TestWatchFindsSilentEnds(t *testing.T) {
	c := open(t)
	sysctl(t, "nf_conntrack_events", "0")
	create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	create(t, c, flow(unix.IPPROTO_UDP, "fd00::10", "2001:db8::1"), "2001:db8::7", "")
	sysctl(t, "nf_conntrack_events", "2")
	w := watch(t, ListenOptions{Existing: true, Sweep: time.Millisecond})
	w.events(2)
	remove(t, c, func(*Flow) bool { return true })
	got := w.events(4)[2:]
	slices.Sort(got)
	wantEvents(t, got,
		"destroy compared udp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 > 198.51.100.1:443",
		"destroy compared udp [fd00::10]:4000 > [2001:db8::1]:443 -> [2001:db8::7]:4000 > [2001:db8::1]:443")
	w.stop()
	if w.tracker.known.silent != 0 || w.tracker.known.len() != 0 {
		t.Errorf("%d are open, of %d the end will not be told", w.tracker.known.len(), w.tracker.known.silent)
	}
}

// A kernel that is to tell nothing is no source of a log.
func TestWatchNeedsEvents(t *testing.T) {
	open(t)
	sysctl(t, "nf_conntrack_events", "0")
	if w, err := Listen(ListenOptions{}); !errors.Is(err, ErrNoEvents) {
		t.Errorf("%v, %v", w, err)
	}
}

func TestWatchWithoutCapability(t *testing.T) {
	open(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends without its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			_, err = Listen(ListenOptions{})
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "watch connections: needs CAP_NET_ADMIN: ") {
		t.Error(err)
	}
}

// An error of who is told ends the watch, as it is.
func TestWatchEndsWithAnError(t *testing.T) {
	c := open(t)
	w, err := Listen(ListenOptions{Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1"), "", "")
	mine := errors.New("mine")
	if err := w.Run(context.Background(), func(*Event) error { return mine }, nil); !errors.Is(err, mine) {
		t.Error(err)
	}
}
