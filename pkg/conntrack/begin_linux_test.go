package conntrack

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// beside runs do again and again, on another thread of the test's namespace,
// until the returned function is called, which gives its error.
func beside(t testing.TB, do func(round int) error) (end func()) {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends in that namespace
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		for round := 0; err == nil; round++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
				err = do(round)
			}
		}
		done <- err
	}()
	return func() {
		t.Helper()
		close(stop)
		if err := errors.Join(<-done, ns.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A watch that begins while connections come and go tells all of them, once,
// and nothing that is not so.
func TestWatchBeginsWhileTheTableChanges(t *testing.T) {
	c := open(t)
	sysctl(t, "nf_conntrack_events", "1") // or some end without a word
	const standing, others = 5000, 300
	burst(t, 0, standing)
	conn, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rounds := 0
	end := beside(t, func(round int) error {
		rounds = round
		if err := fill(standing+round*others, others); err != nil {
			return err
		}
		var found []Flow
		err := conn.List(&Filter{}, func(f *Flow) bool {
			// Some of those that stand end too, at most one in ten.
			if n := f.ID % 1000; f.Original.Source.As4()[2] > standing>>8 && n < 900 || n < 3 {
				found = append(found, *f)
			}
			return true
		})
		if err == nil {
			_, err = conn.DeleteAll(found)
		}
		return err
	})
	watches := 0
	for range 5 {
		w := watch(t, ListenOptions{Existing: true})
		w.until("some have begun and ended", func() bool { return len(w.told) > standing/2+2000 })
		w.stop()
		watches++
		l := ledger{late: true} // those that ended before their place in the table was read
		l.read(w.told)
		for _, e := range w.told {
			if e.Compared && e.Kind != EventDestroy {
				t.Errorf("nothing was lost, and there is %s", eventText(e))
			}
		}
		for _, text := range l.wrong[:min(len(l.wrong), 10)] {
			t.Error(text)
		}
	}
	end()
	if watches != 5 || rounds == 0 {
		t.Errorf("%d watches in %d rounds", watches, rounds)
	}
	w := watch(t, ListenOptions{Existing: true})
	w.agrees(c)
}

// What is told is not kept: the memory that an event takes is used again.
func TestEventsTakeNoMemory(t *testing.T) {
	c := open(t)
	l, err := nfnetlink.Listen(1<<20, unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_UPDATE, unix.NFNLGRP_CONNTRACK_DESTROY)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newReceiver(l, 1, now())
	const n = 100
	burst(t, 0, n)
	remove(t, c, func(*Flow) bool { return true })
	go r.run()
	var parcels []parcel
	for messages := 0; messages < 2*n; {
		p := <-r.queue
		if err := nfnetlink.EachMessage(p.messages, func(nfnetlink.Message) error { messages++; return nil }); err != nil {
			t.Fatal(err)
		}
		parcels = append(parcels, p)
	}
	r.stop()
	told := 0
	tr := &tracker{Watch: &Watch{}, in: &receiver{free: make(chan []byte, 100)}, known: newKnown(), yield: func(*Event) error { told++; return nil }}
	each := testing.AllocsPerRun(20, func() {
		for _, p := range parcels {
			if err := tr.handle(p); err != nil {
				t.Fatal(err)
			}
			<-tr.in.free
		}
	})
	if each > 5 || told != 21*2*n || tr.known.len() != 0 {
		t.Errorf("%d events of %d connections took %.0f allocations a time, and %d are known", told, n, each, tr.known.len())
	}
}
