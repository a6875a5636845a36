// Package backendtest is one suite for every backend, and a backend in memory
// that passes it.
package backendtest

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Sender is a backend whose host can send a packet, for what packets count.
type Sender interface {
	// Send has the host send one packet through the output hook.
	Send(testing.TB)
}

// Neighbor is a backend beside whose rules there can be others.
type Neighbor interface {
	// Disturb is somebody else who changes rules that are not ours.
	Disturb(testing.TB)
	// Disturbed counts what is there of somebody else's.
	Disturbed(testing.TB) int
}

// Partial is a backend that cannot do all of a ruleset, and whose Want says so.
type Partial interface {
	// Leaves gives the cases that are not for it, each with the reason.
	Leaves() map[string]string
}

// Run checks that a backend keeps the contract. Each call of fresh gives a
// backend on a host of its own that has nothing of ours.
func Run(t *testing.T, fresh func(*testing.T) backend.Backend) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"want", wantIsDeterministic},
		{"lifecycle", lifecycle},
		{"everything", everything},
		{"one chain", oneChain},
		{"chain attributes", chainAttributes},
		{"elements", elements},
		{"ranges", ranges},
		{"concatenated ranges", concatenated},
		{"verdict maps", verdictMaps},
		{"set attributes", setAttributes},
		{"counters", counters},
		{"comments", comments},
		{"rollback", rollback},
		{"stale", stale},
		{"dry run", dryRun},
		{"race", race},
		{"neighbours", neighbours},
		{"refused rule", refusedRule},
		{"refused chain", refusedChain},
		{"refused element", refusedElement},
		{"refused range", refusedRange},
		{"refused verdict", refusedVerdict},
		{"refused change", refusedChange},
		{"objects", objects},
		{"refused object", refusedObject},
		{"dynamic sets", dynamicSets},
		{"flowtables", flowtables},
		{"random", random},
		{"large", large},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := fresh(t)
			if p, ok := b.(Partial); ok && p.Leaves()[c.name] != "" {
				t.Skip(p.Leaves()[c.name])
			}
			c.run(&suite{t, b})
		})
	}
}

// suite is one test with its backend.
type suite struct {
	*testing.T
	backend.Backend
}

func (s *suite) want(rs *ruleset.Ruleset) *plan.Snapshot {
	s.Helper()
	w, err := s.Want(rs)
	if err != nil {
		s.Fatalf("want: %v", err)
	}
	return w
}

func (s *suite) have() *plan.Snapshot {
	s.Helper()
	h, err := s.Have(context.Background())
	if err != nil {
		s.Fatalf("have: %v", err)
	}
	return h
}

func (s *suite) probe() uint32 {
	s.Helper()
	g, err := s.Probe(context.Background())
	if err != nil {
		s.Fatalf("probe: %v", err)
	}
	if g == 0 {
		s.Fatal("generation 0")
	}
	return g
}

func (s *suite) commit(changes *plan.Changes) {
	s.Helper()
	for _, dry := range []bool{true, false} {
		err := s.Commit(context.Background(), changes, dry)
		if errors.Is(err, syscall.EMSGSIZE) {
			s.Skip(err)
		}
		if err != nil {
			s.Fatalf("commit (dry run: %v): %v", dry, err)
		}
	}
}

// apply makes the kernel hold a ruleset and checks that it does.
func (s *suite) apply(rs *ruleset.Ruleset) *plan.Changes {
	s.Helper()
	want := s.want(rs)
	changes := plan.Diff(s.have(), want)
	s.commit(changes)
	s.readBack(changes)
	s.holds(want)
	return changes
}

// readBack checks that HaveAfter says what Have says after a commit, and of what
// has not changed.
func (s *suite) readBack(changes *plan.Changes) {
	s.Helper()
	have := s.have()
	for what, c := range map[string]*plan.Changes{"read back": changes, "read what counts": {From: have, To: have}} {
		after, err := s.HaveAfter(context.Background(), c)
		if err != nil {
			s.Fatalf("%s: %v", what, err)
		}
		s.same(what, plan.Diff(after, have))
		if after.Digest() != have.Digest() || after.Generation != have.Generation {
			s.Errorf("%s: %s of generation %d, and all is %s of %d", what, after.Digest(), after.Generation, have.Digest(), have.Generation)
		}
	}
}

// holds checks what is in the kernel.
func (s *suite) holds(want *plan.Snapshot) {
	s.Helper()
	have := s.have()
	s.same("holds", plan.Diff(have, want))
	s.same("holds, seen from the other side", plan.Diff(want, have))
	if have.Digest() != want.Digest() {
		s.Error("equal snapshots have different digests")
	}
}

func (s *suite) same(what string, c *plan.Changes) {
	s.Helper()
	if c.Empty() {
		return
	}
	s.Errorf("%s: %s", what, c.Summary())
	for _, e := range c.Entries() {
		s.Errorf("%c %s %s", e.Sign, e.Entry, e.Detail())
	}
	for _, x := range c.Chains {
		s.Errorf("chain %+v", x)
	}
	for _, x := range c.Objects {
		s.Errorf("object %+v", x)
	}
	for _, x := range c.Sets {
		s.Errorf("set %d to %d, kind %d: %d removed, %d added", x.From, x.To, x.Kind, len(x.Removed), len(x.Added))
	}
}

// sent is what the counter "sent" of a gateway holds.
func (s *suite) sent() uint64 {
	s.Helper()
	for _, c := range s.have().Counters {
		if c.Name == "sent" {
			return c.Packets
		}
	}
	s.Fatal("no counter")
	return 0
}

// send has the host send a packet, where it can, and gives what the counter
// "sent" holds then.
func (s *suite) send() uint64 {
	s.Helper()
	sender, ok := s.Backend.(Sender)
	if !ok {
		return s.sent()
	}
	before := s.sent()
	sender.Send(s)
	after := s.sent()
	if after <= before {
		s.Errorf("the counter was %d before a packet and is %d after it", before, after)
	}
	return after
}

// everything is all that the backend can do of Everything.
func (s *suite) everything() *ruleset.Ruleset { s.Helper(); return s.part(Everything()) }

// part is what the backend can do of a ruleset. What it cannot do must be told,
// each thing with its place.
func (s *suite) part(rs *ruleset.Ruleset) *ruleset.Ruleset {
	s.Helper()
	_, err := s.Want(rs)
	if _, partial := s.Backend.(Partial); !partial || err == nil {
		return rs
	}
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		s.Fatalf("want: %v", err)
	}
	refused := map[ruleset.Origin]bool{}
	for _, err := range all.Unwrap() {
		var r *backend.Refused
		if !errors.As(err, &r) || !errors.Is(r, backend.ErrNotSupported) || r.Origin.Place.File == "" {
			s.Fatalf("want: %v", err)
		}
		refused[r.Origin] = true
	}
	for _, c := range rs.Chains {
		c.Rules = slices.DeleteFunc(c.Rules, func(r *ruleset.Rule) bool { return refused[r.Origin] })
	}
	rs.Chains = slices.DeleteFunc(rs.Chains, func(c *ruleset.Chain) bool {
		return refused[c.Origin]
	})
	return rs
}

// refused checks who is told to be at fault.
func (s *suite) refused(err error, entries ...ruleset.Origin) *backend.Refused {
	s.Helper()
	var r *backend.Refused
	if !errors.As(err, &r) {
		s.Fatalf("got %v, want a refusal", err)
	}
	for _, e := range entries {
		if r.Origin == e {
			return r
		}
	}
	s.Errorf("refused for %q at %v, want %v (%v)", r.Origin.Entry, r.Origin.Place, entries, err)
	return r
}
