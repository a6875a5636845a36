package conntrack

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/flood"
	"golang.org/x/sys/unix"
)

// ledger is what somebody who believes the events knows. The tests never use
// the same addresses twice.
type ledger struct {
	open         map[key4]bool
	past         map[key4]int // times that it began, and 1<<16 times that it ended
	began, ended int
	messages     uint64 // lost
	late         bool   // it may be told of the end alone
	gaps         int
	wrong        []string
}

func (l *ledger) read(events []Event) {
	l.open, l.past = map[key4]bool{}, map[key4]int{}
	for _, e := range events {
		var key key4
		if e.Flow.Original.Source.IsValid() {
			key = name4(&e.Flow)
		}
		switch e.Kind {
		case EventNew, EventOpen:
			if l.past[key] != 0 {
				l.wrong = append(l.wrong, "told before: "+eventText(e))
			}
			l.past[key]++
			l.open[key] = true
			l.began++
		case EventDestroy:
			// The message that it began may have been lost.
			if l.past[key] > 1 || l.past[key] == 0 && (l.gaps == 0 && !l.late || e.Compared) {
				l.wrong = append(l.wrong, "had not begun, or ended before: "+eventText(e))
			}
			l.past[key] += 1 << 16
			delete(l.open, key)
			l.ended++
		case EventLost:
			l.messages += e.Gap.Messages
			l.gaps++
			if e.Gap.From.After(e.Gap.To) {
				l.wrong = append(l.wrong, fmt.Sprintf("a gap from %v to %v", e.Gap.From, e.Gap.To))
			}
		}
	}
}

// agrees ends the watch when it is through with all that has happened, and
// compares what it told with the kernel's table and the kernel's own count.
func (w *watching) agrees(c *Conn) *ledger {
	t := w.t
	t.Helper()
	table := map[key4]string{}
	if err := c.List(&Filter{}, func(f *Flow) bool { table[name4(f)] = f.String(); return true }); err != nil {
		t.Fatal(err)
	}
	l := &ledger{}
	w.until("it has settled", func() bool {
		gaps, resyncs, last := 0, 0, EventLost
		for _, e := range w.told {
			switch e.Kind {
			case EventLost:
				gaps++
				last = e.Kind
			case EventResync:
				resyncs++
				last = e.Kind
			}
		}
		if gaps > 0 && last != EventResync {
			return false
		}
		*l = ledger{}
		l.read(w.told)
		return len(l.open) == len(table)
	})
	drops := kernelDrops(t, w.Port())
	lost, err := w.Lost()
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	*l = ledger{}
	l.read(w.told)
	for _, text := range l.wrong[:min(len(l.wrong), 10)] {
		t.Error(text)
	}
	for key, text := range table {
		if !l.open[key] {
			t.Errorf("open and not known: %s", text)
		}
	}
	for key := range l.open {
		if table[key] == "" {
			t.Errorf("known and not open: %v", key)
		}
	}
	if n := w.tracker.known.len(); n != len(table) {
		t.Errorf("the watch knows %d, and %d are open", n, len(table))
	}
	if l.messages != drops || uint64(lost) != drops {
		t.Errorf("told of %d lost messages (%d at the end), the kernel of %d", l.messages, lost, drops)
	}
	return l
}

// kernelDrops is the column Drops of /proc/net/netlink for a port.
func kernelDrops(t testing.TB, port uint32) (drops uint64) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		if f := strings.Fields(line); len(f) == 10 && f[1] == fmt.Sprint(unix.NETLINK_NETFILTER) && f[2] == fmt.Sprint(port) {
			if _, err := fmt.Sscan(f[8], &drops); err != nil {
				t.Fatal(err)
			}
			return drops
		}
	}
	t.Fatalf("no socket with port %d in\n%s", port, text)
	return 0
}

// burst begins n connections from 10.0.0.0/8; those of another base are others.
func burst(t testing.TB, base, n int) {
	t.Helper()
	if err := fill(base, n); err != nil {
		t.Fatal(err)
	}
}

func fill(base, n int) error {
	return flood.Fill(n, func(i int, e *flood.Entry) {
		i += base
		e.Protocol = unix.IPPROTO_UDP
		e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000)
		e.Destination = netip.MustParseAddrPort("198.51.100.1:443")
		e.SNAT = netip.MustParseAddrPort("203.0.113.7:0")
	})
}

// What fits the buffers is told, and nothing else.
func TestBurst(t *testing.T) {
	c := open(t)
	w := watch(t, ListenOptions{})
	if w.Buffer() < DefaultBuffer/2 {
		t.Skipf("the receive buffer has %d bytes, and this process may not enlarge it", w.Buffer())
	}
	w.hold.Lock() // nothing is worked on meanwhile
	const n = 40_000
	burst(t, 0, n)
	w.hold.Unlock()
	w.until("all have begun", func() bool { return len(w.told) >= n })
	l := w.agrees(c)
	if l.began != n || l.gaps != 0 {
		t.Errorf("%d began, with %d gaps", l.began, l.gaps)
	}
}

// What does not fit is counted as the kernel does, and what happened meanwhile
// is found.
func TestOverflow(t *testing.T) {
	c := open(t)
	burst(t, 0, 1000)
	w := watch(t, ListenOptions{Existing: true, Buffer: 16 << 10, Queue: 1})
	burst(t, 1000, 100)
	w.until("the first are known", func() bool { return len(w.told) >= 1100 || w.told[len(w.told)-1].Kind == EventResync })
	w.hold.Lock()
	burst(t, 2000, 5000)
	remove(t, c, func(f *Flow) bool { return f.ID%3 == 0 })
	w.hold.Unlock()
	l := w.agrees(c)
	if l.gaps == 0 || l.messages == 0 {
		t.Errorf("%d gaps with %d messages", l.gaps, l.messages)
	}
	began, ended := 0, 0
	for _, e := range w.told {
		if e.Kind == EventResync {
			began, ended = began+e.Resync.Began, ended+e.Resync.Ended
			if e.Resync.Messages == 0 || e.Resync.To.Before(e.Resync.From) || e.Resync.Took <= 0 {
				t.Errorf("%+v", e.Resync)
			}
		} else if e.Compared {
			if e.Kind == EventNew {
				began--
			} else {
				ended--
			}
			if !e.Flow.SNAT() || e.Flow.DNAT() || e.Flow.Reply.Destination != addr("203.0.113.7") {
				t.Errorf("%s: %+v", eventText(e), e.Flow)
			}
		}
	}
	if began != 0 || ended != 0 {
		t.Errorf("of what was found %d that began and %d that ended are not told", began, ended)
	}
}

// Connections come and go all the time, also while the table is listed, and
// messages are lost time and again: none is told twice, and none is missing in
// the end.
func TestResyncWhileTheTableChanges(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := open(t)
			burst(t, 0, 3000)
			w := watch(t, ListenOptions{Existing: true, Buffer: 24 << 10, Queue: 1})
			random := rand.New(rand.NewPCG(seed, 1))
			for round := range 15 {
				burst(t, 3000+round*1000, 1+random.IntN(1000))
				hit := uint32(1 + random.IntN(9))
				remove(t, c, func(f *Flow) bool { return f.ID%10 < hit })
			}
			l := w.agrees(c)
			t.Logf("%d began, %d ended, %d gaps, %d messages lost", l.began, l.ended, l.gaps, l.messages)
		})
	}
}

// The receiver keeps no more than its queue, whatever comes.
func TestReceiverIsBounded(t *testing.T) {
	open(t)
	l, err := nfnetlink.Listen(16<<10, unix.NFNLGRP_CONNTRACK_NEW)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newReceiver(l, 5*parcelSize, now())
	go r.run()
	const n = 20_000
	burst(t, 0, n)
	got, lost, parcels := 0, uint64(0), 0
	take := func(p parcel) {
		switch {
		case p.err != nil:
			t.Error(p.err)
		case p.gap != nil:
			lost += p.gap.Messages
		default:
			if cap(p.messages) > parcelSize {
				t.Errorf("a parcel of %d bytes", cap(p.messages))
			}
			parcels++
			if err := nfnetlink.EachMessage(p.messages, func(nfnetlink.Message) error { got++; return nil }); err != nil {
				t.Error(err)
			}
		}
		r.release(p)
	}
	for got+int(lost) < n {
		take(<-r.queue)
	}
	r.stop()
	for p := range r.queue {
		take(p)
	}
	if got+int(lost) != n || lost == 0 || lost != kernelDrops(t, l.Port()) {
		t.Errorf("of %d messages %d came, %d were lost, and the kernel counts %d", n, got, lost, kernelDrops(t, l.Port()))
	}
	if r.made > 5 {
		t.Errorf("%d buffers were made for %d parcels", r.made, parcels)
	}
}
