package conntrack

import (
	"context"
	"errors"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// tracker makes events of what was received, in one goroutine.
type tracker struct {
	*Watch
	in      *receiver
	ctx     context.Context
	yield   func(*Event) error
	idle    func() error
	event   Event
	decoder decoder
	known   known

	round    record        // recordSeen or 0: what records have that the present listing, or the last, has seen
	listing  bool          // the table is being listed
	marked   uint32        // the mark that is waited for; 0: none
	marks    uint32        // so far
	gaps     Resync        // since the last comparison
	missed   bool          // there were gaps
	again    bool          // the last comparison left something open
	took     time.Duration // the last comparison
	finished time.Time     // and when it was over
}

func (t *tracker) run() error {
	if err := t.synchronize(true); err != nil {
		return err
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := t.rest(); err != nil {
			return err
		}
		due, wanted := t.due()
		if wait := time.Until(due); !wanted {
			timer.Reset(time.Hour)
		} else if wait > 0 {
			timer.Reset(wait)
		} else {
			if err := t.synchronize(false); err != nil {
				return err
			}
			continue
		}
		select {
		case <-t.ctx.Done():
			return nil
		case p := <-t.in.queue:
			if err := t.handle(p); err != nil {
				return err
			}
		case <-timer.C:
		}
	}
}

// due is when the next comparison with the table is to begin, if one is wanted.
// After a gap that is at once. Where there is one gap after the other it takes
// a fifth of the time at most, so that it is not what makes them.
func (t *tracker) due() (at time.Time, wanted bool) {
	switch {
	case t.missed:
		return t.finished.Add(4 * t.took), true
	case t.again, t.known.silent > 0:
		return t.finished.Add(max(t.options.Sweep, 99*t.took)), true
	}
	return time.Time{}, false
}

// rest calls idle where nothing is queued.
func (t *tracker) rest() error {
	if t.idle == nil || len(t.in.queue) > 0 {
		return nil
	}
	return t.idle()
}

// last tells what was received before the end, and what had been lost by then.
func (t *tracker) last() error {
	for p := range t.in.queue {
		if err := t.handle(p); err != nil {
			return err
		}
	}
	lost, err := t.listener.Lost()
	if err != nil {
		return err
	}
	if t.in.gap || lost != t.in.counted {
		g := &Gap{Messages: uint64(lost - t.in.counted), From: t.in.sure, To: now()}
		if err := t.lost(g); err != nil {
			return err
		}
	}
	return t.rest()
}

// pending handles what is queued, without waiting for more.
func (t *tracker) pending() error {
	for range len(t.in.queue) {
		if err := t.handle(<-t.in.queue); err != nil {
			return err
		}
	}
	return nil
}

func (t *tracker) handle(p parcel) error {
	defer t.in.release(p)
	switch {
	case p.err != nil:
		return p.err
	case p.gap != nil:
		return t.lost(p.gap)
	}
	return nfnetlink.EachMessage(p.messages, func(m nfnetlink.Message) error {
		switch m.Type {
		case unix.NLMSG_ERROR:
			if m.Seq == t.marked {
				t.marked = 0
			}
		case ctNew:
			kind := EventUpdate
			if m.Flags&unix.NLM_F_CREATE != 0 {
				kind = EventNew
			}
			return t.told(kind, m, p.at)
		case ctDelete:
			return t.told(EventDestroy, m, p.at)
		}
		return nil
	})
}

// lost tells of a gap.
func (t *tracker) lost(g *Gap) error {
	if !t.missed {
		t.gaps.From = g.From
	}
	t.missed, t.gaps.To = true, g.To
	t.gaps.Messages += g.Messages
	if t.marked != 0 {
		// The answer that is waited for may be lost too.
		if err := t.mark(); err != nil {
			return err
		}
	}
	t.event = Event{Kind: EventLost, Time: g.To, Gap: *g}
	return t.yield(&t.event)
}

func (t *tracker) mark() error {
	t.marks++
	t.marked = t.marks
	return t.listener.Mark(t.marked)
}

var errNoFlow = errors.New("the kernel tells of a connection without addresses of its family")

// told does what a message of the kernel says.
func (t *tracker) told(kind EventKind, m nfnetlink.Message, at time.Time) error {
	t.event = Event{Kind: kind, Time: at}
	if !t.decoder.flow(m, &t.event.Flow) || !t.event.Flow.nameable() {
		return errNoFlow
	}
	return t.toldOf()
}

// toldOf does what the event says.
func (t *tracker) toldOf() error {
	e := &t.event
	r, ok := t.known.get(&e.Flow)
	switch e.Kind {
	case EventNew:
		return t.toldNew(r, ok, e.Time)
	case EventDestroy:
		return t.toldDestroy(r, ok)
	}
	if ok && !r.has(recordDead) {
		e.Began, e.Label = r.began(), r.label()
	}
	return t.yield(e)
}

func (t *tracker) toldNew(r record, ok bool, at time.Time) error {
	e := &t.event
	if ok && r.has(recordListed) {
		t.known.silent-- // it is not silent
	}
	switch {
	case ok && r.has(recordFresh) && !r.has(recordDead):
		// It was listed before the kernel's word of it was read.
		if r.has(recordTold) {
			if r.began().IsZero() {
				r |= beginning(at)
			}
			t.known.set(&e.Flow, r&^(recordListed|recordFresh))
			return nil
		}
	case ok && !r.has(recordDead):
		// The same entry again, in every way: one like it ended in a gap.
		again := e.Flow
		if err := t.gone(again.bare(), r, at); err != nil {
			return err
		}
		*e = Event{Kind: EventNew, Time: at, Flow: again}
	}
	e.Began = at
	if !e.Flow.Start.IsZero() {
		e.Began = e.Flow.Start
	}
	return t.begin(recordTold)
}

// begin tells that a connection began, or is open, and knows it from then on.
func (t *tracker) begin(bits record) error {
	e := &t.event
	if bits.has(recordTold) {
		if err := t.yield(e); err != nil {
			return err
		}
	}
	if bits.has(recordListed) {
		t.known.silent++
	}
	t.known.set(&e.Flow, (beginning(e.Began) | t.round | bits).labelled(e.Label))
	return nil
}

func (t *tracker) toldDestroy(r record, ok bool) error {
	e := &t.event
	alive := ok && !r.has(recordDead)
	if alive {
		e.Began, e.Label = r.began(), r.label()
	}
	if !e.Flow.Start.IsZero() {
		e.Began = e.Flow.Start
	}
	t.end(&e.Flow, r, alive)
	return t.yield(e)
}

// end forgets a connection. While the table is listed it is remembered as dead:
// the listing may hold it from before its end.
func (t *tracker) end(f *Flow, r record, alive bool) {
	if alive && r.has(recordListed) {
		t.known.silent--
	}
	switch {
	case t.listing:
		t.known.set(f, recordDead)
	case alive:
		t.known.remove(f)
	}
}

// gone tells that a connection has ended without the kernel's word.
func (t *tracker) gone(f Flow, r record, at time.Time) error {
	t.gaps.Ended++
	t.event = Event{Kind: EventDestroy, Time: at, Compared: true, Began: r.began(), Label: r.label(), Flow: f}
	return t.yield(&t.event)
}
