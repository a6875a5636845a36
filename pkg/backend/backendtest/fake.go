package backendtest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Fake is a backend in memory, for tests of what stands above backends. It
// passes the same suite as the real ones, refuses what a kernel would, and
// returns the same errors. The zero Fake is ready for use, and safe for use by
// several goroutines.
type Fake struct {
	// Intervene is asked at each point; an error that it returns is what the
	// call returns. It may change the fake, as somebody else who uses the
	// kernel may: call Disturb to have a commit go stale, Edit for drift.
	Intervene func(Point) error

	mu         sync.Mutex
	held       plan.Snapshot
	generation uint32
	neighbour  int
}

// Point is a moment at which Intervene is asked.
type Point string

// The points. All but the last come before the call has done anything.
const (
	AtWant    Point = "want"
	AtProbe   Point = "probe"
	AtHave    Point = "have"
	AtDryRun  Point = "dry run"
	AtCommit  Point = "commit"
	Committed Point = "committed" // the change is in force, the caller does not know
)

var _ backend.Backend = (*Fake)(nil)

func (f *Fake) at(p Point) error {
	if f.Intervene == nil {
		return nil
	}
	return f.Intervene(p)
}

// Name is "fake".
func (f *Fake) Name() string { return "fake" }

// Want encodes a ruleset.
func (f *Fake) Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) {
	if err := f.at(AtWant); err != nil {
		return nil, err
	}
	return want(rs)
}

// Probe gives the generation.
func (f *Fake) Probe(context.Context) (uint32, error) {
	if err := f.at(AtProbe); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now(), nil
}

// now is the generation; the first is 1, as in a kernel.
func (f *Fake) now() uint32 { return f.generation + 1 }

// Have gives what was committed, without the places, which no kernel keeps.
func (f *Fake) Have(ctx context.Context) (*plan.Snapshot, error) {
	if err := errors.Join(ctx.Err(), f.at(AtHave)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := forget(&f.held)
	s.Generation = f.now()
	return s, nil
}

// HaveAfter is Have.
func (f *Fake) HaveAfter(ctx context.Context, _ *plan.Changes) (*plan.Snapshot, error) {
	return f.Have(ctx)
}

// Commit applies the changes one by one, so that a wrong list of changes shows.
func (f *Fake) Commit(ctx context.Context, changes *plan.Changes, dryRun bool) error {
	point := AtCommit
	if dryRun {
		point = AtDryRun
	}
	if err := errors.Join(ctx.Err(), f.at(point)); err != nil {
		return err
	}
	if changes.Empty() {
		return nil
	}
	if err := f.commit(changes, dryRun); err != nil || dryRun {
		return err
	}
	return f.at(Committed)
}

func (f *Fake) commit(changes *plan.Changes, dryRun bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if changes.From.Generation != f.now() {
		return backend.ErrStale
	}
	next, err := apply(&f.held, changes)
	if err != nil || dryRun {
		return err
	}
	f.held = *next
	f.generation++
	return nil
}

// Disturb is somebody else who changes rules that are not ours.
func (f *Fake) Disturb(testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.neighbour++
	f.generation++
}

// Disturbed counts the calls of Disturb.
func (f *Fake) Disturbed(testing.TB) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.neighbour
}

// Edit is somebody else who changes what is ours.
func (f *Fake) Edit(change func(*plan.Snapshot)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := forget(&f.held)
	change(held)
	held.Normalize()
	f.held = *held
	f.generation++
}

// Count adds to a named counter, as packets do. The generation stays.
func (f *Fake) Count(name string, packets, bytes uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.held.Counters {
		if c := &f.held.Counters[i]; c.Name == name {
			c.Packets += packets
			c.Bytes += bytes
		}
	}
}

// CountElement sets what an element of a counting set has counted.
func (f *Fake) CountElement(set string, key []byte, count plan.Count) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.held.Sets {
		if s.Name != set {
			continue
		}
		old := s.Elements
		s.Elements = plan.Elements{KeyLen: old.KeyLen}
		for i := range old.Len() {
			c := old.CountAt(i)
			if bytes.Equal(old.KeyAt(i), key) {
				c = count
			}
			s.Elements.Append(old.OriginAt(i), old.At(i))
			s.Elements.Count(c)
		}
	}
}

// Send is a packet that the host itself sends: each rule without a match in a
// chain at the output hook counts it, up to the first verdict.
func (f *Fake) Send(testing.TB) {
	f.mu.Lock()
	var counters []string
	for i := range f.held.Chains {
		c := &f.held.Chains[i]
		if hook := decodeHook(c.Attributes); hook == nil || hook.Point != ruleset.Output {
			continue
		}
		for _, r := range c.Rules {
			b := decodeRule(r.Body)
			if len(b.Matches) > 0 {
				continue
			}
			if b.Counter != "" {
				counters = append(counters, b.Counter)
			}
			if b.Action.Kind != ruleset.Continue {
				break
			}
		}
	}
	f.mu.Unlock()
	for _, c := range counters {
		f.Count(c, 1, 100)
	}
}

// forget copies a snapshot without its places. Elements are shared: they are
// never changed in place.
func forget(s *plan.Snapshot) *plan.Snapshot {
	out := &plan.Snapshot{Counters: slices.Clone(s.Counters), Origins: slices.Clone(s.Origins)}
	for i := range out.Counters {
		out.Counters[i].Origin.Place = ruleset.Place{}
	}
	out.Objects = slices.Clone(s.Objects)
	for i := range out.Objects {
		out.Objects[i].Origin.Place = ruleset.Place{}
	}
	for i := range out.Origins {
		out.Origins[i].Place = ruleset.Place{}
	}
	for _, c := range s.Chains {
		c.Rules, c.Origin = slices.Clone(c.Rules), ruleset.Origin{}
		for i := range c.Rules {
			c.Rules[i].Origin.Place = ruleset.Place{}
		}
		out.Chains = append(out.Chains, c)
	}
	for _, set := range s.Sets {
		set := *set
		set.Origin.Place = ruleset.Place{}
		out.Sets = append(out.Sets, &set)
	}
	return out
}
