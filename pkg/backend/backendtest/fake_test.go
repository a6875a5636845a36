package backendtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func TestFake(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, func(*testing.T) backend.Backend { return &backendtest.Fake{} })
}

// prepared is a fake that holds everything, and what it holds.
func prepared(t *testing.T) (*backendtest.Fake, *plan.Snapshot) {
	t.Helper()
	f := &backendtest.Fake{}
	ctx := context.Background()
	want, err := f.Want(backendtest.Everything())
	if err != nil {
		t.Fatal(err)
	}
	have, err := f.Have(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(ctx, plan.Diff(have, want), false); err != nil {
		t.Fatal(err)
	}
	if have, err = f.Have(ctx); err != nil {
		t.Fatal(err)
	}
	return f, have
}

func TestIntervene(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	ctx := context.Background()
	for _, point := range []backendtest.Point{
		backendtest.AtWant, backendtest.AtProbe, backendtest.AtHave, backendtest.AtDryRun, backendtest.AtCommit, backendtest.Committed,
	} {
		f, have := prepared(t)
		f.Intervene = func(p backendtest.Point) error {
			if p == point {
				return mine
			}
			return nil
		}
		_, wantErr := f.Want(&ruleset.Ruleset{})
		_, probeErr := f.Probe(ctx)
		_, haveErr := f.Have(ctx)
		deletion := plan.Diff(have, &plan.Snapshot{})
		errs := map[backendtest.Point]error{
			backendtest.AtWant: wantErr, backendtest.AtProbe: probeErr, backendtest.AtHave: haveErr,
			backendtest.AtDryRun: f.Commit(ctx, deletion, true),
		}
		err := f.Commit(ctx, deletion, false)
		if (err != nil) != (point == backendtest.AtCommit || point == backendtest.Committed) {
			t.Errorf("%s: commit: %v", point, err)
		}
		for p, err := range errs {
			if errors.Is(err, mine) != (p == point) {
				t.Errorf("%s: at %s: %v", point, p, err)
			}
		}
		f.Intervene = nil
		left, err := f.Have(ctx)
		if err != nil || left.Empty() != (point != backendtest.AtCommit) {
			t.Errorf("%s: empty %v, %v", point, left.Empty(), err)
		}
	}
}

// TestSomebodyElse goes stale and drifts at a chosen point.
func TestSomebodyElse(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	f, have := prepared(t)
	f.Intervene = func(p backendtest.Point) error {
		if p == backendtest.AtCommit {
			f.Disturb(t)
		}
		return nil
	}
	if err := f.Commit(ctx, plan.Diff(have, &plan.Snapshot{}), false); !errors.Is(err, backend.ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	f.Intervene = nil
	f.Edit(func(s *plan.Snapshot) { s.Chains = s.Chains[1:] })
	now, err := f.Have(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := plan.Diff(now, have)
	if len(c.Chains) != 1 || len(c.Sets)+len(c.Counters) != 0 {
		t.Errorf("drift of one chain is %d chains", len(c.Chains))
	}
	if err := f.Commit(ctx, c, false); err != nil {
		t.Errorf("back: %v", err)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	f, _ := prepared(t)
	f.Count("masquerade_lan", 2, 300)
	f.CountElement("tcp4", []byte{0, 80}, plan.Count{Packets: 7, Bytes: 800})
	rs := backendtest.Everything()
	for _, s := range rs.Sets {
		if s.Name == "tcp4" {
			s.Origin.Entry = "another" // it is made anew
		}
	}
	want, err := f.Want(rs)
	if err != nil {
		t.Fatal(err)
	}
	have, err := f.Have(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(ctx, plan.Diff(have, want), false); err != nil {
		t.Fatal(err)
	}
	if have, err = f.Have(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range have.Counters {
		if c.Name == "masquerade_lan" && (c.Packets != 2 || c.Bytes != 300) {
			t.Errorf("counter %+v", c)
		}
	}
	for _, s := range have.Sets {
		if s.Name != "tcp4" {
			continue
		}
		i := s.Elements.Find([]byte{0, 80})
		if got := s.Elements.CountAt(i); got != (plan.Count{Packets: 7, Bytes: 800}) {
			t.Errorf("element %+v", got)
		}
	}
}
