package top

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// reading is what one listing came to.
type reading struct {
	sample       *Sample
	took         time.Duration
	count, limit uint64 // of the kernel's table, where it tells
	err          error
}

// killed is what a kill came to.
type killed struct {
	row    Row
	flows  int
	spared int
	err    error
}

// sampler lists flows beside the screen, so that keys are answered while a
// million flows are read. All that the kernel is asked is asked by its
// goroutine, and the judge too.
type sampler struct {
	o     *Options
	table *Table

	settings chan settings // what the screen wants; the last one counts
	kills    chan Row
	readings chan reading
	killed   chan killed
	panicked chan string
}

// settings are what the screen can change.
type settings struct {
	question Question
	interval time.Duration
	paused   bool
}

func newSampler(o *Options) *sampler {
	return &sampler{o: o, table: NewTable(o),
		settings: make(chan settings, 1), kills: make(chan Row, 1),
		readings: make(chan reading, 1), killed: make(chan killed, 1), panicked: make(chan string, 1)}
}

// set replaces what was wanted before. Only one goroutine calls it.
func (s *sampler) set(w settings) {
	select {
	case <-s.settings:
	default:
	}
	s.settings <- w
}

// run reads until ctx is done. A panic is handed over, since the terminal has
// to be put right before anything is printed.
func (s *sampler) run(ctx context.Context, w settings) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked <- fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var began time.Time
	var took time.Duration
	rest := func() { next.Reset(time.Until(began.Add(pace(w.interval, took)))) }
	for {
		select {
		case <-ctx.Done():
			return
		case w = <-s.settings:
			rest()
		case row := <-s.kills:
			k := killed{row: row}
			k.err = s.kill(ctx, &k)
			select {
			case s.killed <- k:
			case <-ctx.Done():
				return
			}
			next.Reset(0) // so that one sees that they are gone
			began, took = time.Time{}, 0
		case <-next.C:
			if w.paused {
				continue // the next settings set the timer again
			}
			began = time.Now()
			r := s.read(ctx, w.question)
			took = time.Since(began)
			r.took = took
			select {
			case s.readings <- r:
			case <-ctx.Done():
				return
			}
			rest()
		}
	}
}

// read makes one sample.
func (s *sampler) read(ctx context.Context, q Question) (r reading) {
	s.table.Begin(time.Now(), q)
	r.err = s.o.Source.List(&s.o.Filter, func(f *conntrack.Flow) bool {
		s.table.Add(f)
		return ctx.Err() == nil
	})
	if r.err == nil {
		r.err = ctx.Err()
	}
	if r.err != nil {
		s.table.Abandon()
		return r
	}
	r.sample = s.table.End()
	if s.o.Fill != nil {
		r.count, r.limit, r.err = s.o.Fill()
	}
	return r
}

// killChunk bounds how many flows are in memory to be deleted.
const killChunk = 20_000

// kill deletes the flows of a row that were in a listing. It goes over the
// table as often as they need.
func (s *sampler) kill(ctx context.Context, k *killed) error {
	spare := func(f *conntrack.Flow) bool {
		if s.o.Spare == nil || !s.o.Spare(f) {
			return false
		}
		k.spared++
		return true
	}
	if f := k.row.Flow; f != nil {
		if spare(f) {
			return nil
		}
		n, err := s.o.Source.DeleteAll([]conntrack.Flow{*f})
		k.flows = n
		return err
	}
	for round := 0; round <= k.row.Flows/killChunk; round++ {
		var chunk []conntrack.Flow
		k.spared = 0
		err := s.o.Source.List(&s.o.Filter, func(f *conntrack.Flow) bool {
			if s.table.Has(k.row.Key, f) && !spare(f) {
				chunk = append(chunk, *f)
			}
			return len(chunk) < killChunk && ctx.Err() == nil
		})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		n, err := s.o.Source.DeleteAll(chunk)
		k.flows += n
		if err != nil || len(chunk) < killChunk {
			return err
		}
	}
	return nil
}
