package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
	"golang.org/x/sys/unix"
)

// within is a window whose guard is the test itself.
func within(d time.Duration, guarded *string) *engine.Window {
	return &engine.Window{For: d, Guard: func(u *state.Unconfirmed) error { *guarded = u.ID; return nil }}
}

func (b *bench) applyWithin(d time.Duration, text string) (id string, pl *engine.Plan) {
	b.t.Helper()
	b.Window = within(d, &id)
	defer func() { b.Window = nil }()
	return id, b.mustApply(text)
}

// expire waits for the deadline as a guard does.
func (b *bench) expire(id string) *engine.Rollback {
	b.t.Helper()
	for {
		left, r, err := b.Expire(context.Background(), id)
		if err != nil {
			b.t.Fatal(err)
		}
		if r != nil {
			return r
		}
		time.Sleep(left)
	}
}

func (b *bench) rollback(to string) *engine.Rollback {
	b.t.Helper()
	r, err := b.Rollback(context.Background(), to)
	if err != nil {
		b.t.Fatalf("rollback: %v", err)
	}
	return r
}

func (b *bench) load() *state.State {
	b.t.Helper()
	s, err := b.State.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func digestOf(text string) string {
	return state.Digest([]state.Source{{Name: "policy.yaml", Text: []byte(text)}})
}

// results are the history's, oldest first.
func (b *bench) results() (out []string) {
	b.t.Helper()
	h, err := b.State.LoadHistory()
	if err != nil {
		b.t.Fatal(err)
	}
	names := map[string]string{digestOf(policyA): "A", digestOf(policyB): "B", digestOf(policyNone): "none", "": "nothing"}
	for _, x := range h.Entries {
		text := names[x.Digest] + " " + string(x.Result)
		if x.Why != "" {
			text += ": " + x.Why
		}
		out = append(out, text)
	}
	return out
}

func (b *bench) wantResults(want ...string) {
	b.t.Helper()
	if got := b.results(); !slices.Equal(got, want) {
		b.t.Errorf("the history is %q, want %q", got, want)
	}
}

// What is not confirmed goes back to what was there: rules, sysctls and state.
func TestUnconfirmedGoesBack(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	before := b.world()
	id, pl := b.applyWithin(time.Second, policyB)
	if pl.Unconfirmed == nil || pl.Unconfirmed.Left <= 0 || pl.Unconfirmed.Left > time.Second || !b.inForce(policyB) {
		t.Fatalf("the apply left %+v", pl.Unconfirmed)
	}
	b.wantResults("A applied", "B unconfirmed")
	r := b.expire(id)
	if !b.inForce(policyA) || r.To == nil || r.To.Digest != digestOf(policyA) || !r.Unconfirmed {
		t.Errorf("went back to %+v", r.To)
	}
	after := b.world()
	s := b.load()
	if s.Unconfirmed != nil || s.Applied.Digest != digestOf(policyA) || s.Previous != nil || s.Withdrawn != digestOf(policyB) {
		t.Errorf("the state is %+v", s)
	}
	before.State, after.State = "", ""
	if before.Rules != after.Rules {
		t.Errorf("rules before:\n%s\nafter:\n%s", before.Rules, after.Rules)
	}
	b.wantResults("A applied", "B rolled back: not confirmed in time")
	if _, _, err := b.Expire(t.Context(), id); !errors.Is(err, engine.ErrNothingUnconfirmed) {
		t.Errorf("a second end: %v", err)
	}
}

// What the policy has turned on goes off again, and nothing else.
func TestForwardingGoesBack(t *testing.T) {
	for _, c := range []struct{ name, from, to string }{
		{"IPv6 after IPv4", policyA, policyV6}, {"IPv4 after IPv6", policyV6, policyA}, {"more after some", policyA, policyB},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply(c.from)
			before, state := b.world(), b.load()
			id, _ := b.applyWithin(time.Millisecond, c.to)
			if now := b.world(); c.to != policyB && now.Sysctls["net/ipv6/conf/all/forwarding"]+now.Sysctls["net/ipv4/ip_forward"] != "11" {
				t.Error("the policy does not turn on what it needs")
			}
			b.expire(id)
			after := b.world()
			before.State, after.State = "", ""
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("things are not as they were (-before +after):\n%s", diff)
			}
			if now := b.load(); !slices.Equal(now.Sysctls, state.Sysctls) {
				t.Errorf("remembered are %+v, and before %+v", now.Sysctls, state.Sysctls)
			}
			b.mustDelete()
			b.wantSysctl("net.ipv4.ip_forward", "0")
			b.wantSysctl("net.ipv6.conf.all.forwarding", "0")
		})
	}
}

// On a first apply there is nothing to go back to but nothing: no rules, no
// forwarding.
func TestFirstApplyGoesBackToNothing(t *testing.T) {
	for _, text := range []string{policyA, policyV6} {
		b := newBench(t)
		before := b.world()
		id, _ := b.applyWithin(time.Second, text)
		for name, value := range map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"} {
			if (text == policyV6) == strings.Contains(name, "ipv6") {
				b.wantSysctl(name, value)
			}
		}
		if r := b.expire(id); r.To != nil || r.Deletion == nil {
			t.Errorf("went back to %+v", r.To)
		}
		after := b.world()
		after.State = before.State
		if after.Rules != before.Rules {
			t.Errorf("rules are left:\n%s", after.Rules)
		}
		b.wantSysctl("net.ipv4.ip_forward", "0")
		b.wantSysctl("net.ipv6.conf.all.forwarding", "0")
		if s := b.load(); s.Applied != nil || s.Previous != nil || len(s.Sysctls) != 0 || s.Withdrawn != digestOf(text) {
			t.Errorf("the state is %+v", s)
		}
		if _, err := b.Rollback(t.Context(), ""); !errors.Is(err, engine.ErrNothingBefore) {
			t.Errorf("and further back: %v", err)
		}
		b.mustApply(text)
		if s := b.load(); s.Withdrawn != "" {
			t.Error("what somebody applies again is still withdrawn")
		}
	}
}

func TestConfirmKeeps(t *testing.T) {
	b := newBench(t)
	if _, err := b.Confirm(t.Context()); !errors.Is(err, engine.ErrNothingUnconfirmed) {
		t.Errorf("nothing to confirm: %v", err)
	}
	b.mustApply(policyA)
	id, _ := b.applyWithin(time.Hour, policyB)
	var waits *engine.UnconfirmedError
	if _, err := b.apply(policyA); !errors.As(err, &waits) || waits.Left <= 0 {
		t.Errorf("another apply while one waits: %v", err)
	}
	if pl, err := b.Plan(t.Context(), parse(t, policyA)); err != nil || len(pl.Warnings) != 1 {
		t.Errorf("plan says nothing of it: %v", err)
	}
	if s, err := b.Status(t.Context()); err != nil || s.Unconfirmed == nil || s.Unconfirmed.Guarded {
		t.Errorf("status says nothing of it: %v", err)
	}
	if u, err := b.Confirm(t.Context()); err != nil || u.ID != id || u.Warning != "" {
		t.Fatalf("confirm: %+v, %v", u, err)
	}
	if !b.inForce(policyB) {
		t.Error("what was confirmed is not in force")
	}
	if _, _, err := b.Expire(t.Context(), id); !errors.Is(err, engine.ErrNothingUnconfirmed) {
		t.Errorf("its guard: %v", err)
	}
	b.wantResults("A applied", "B confirmed")
	b.mustApply(policyA)
}

// A guard that cannot be started is no guard: nothing may change then.
func TestNoGuardNoChange(t *testing.T) {
	b := newBench(t)
	for _, start := range []string{"", policyA} {
		if start != "" {
			b.mustApply(start)
		}
		before, commits := b.world(), b.hook.commits
		b.Window = &engine.Window{For: time.Second, Guard: func(*state.Unconfirmed) error {
			if b.load().Unconfirmed != nil {
				t.Error("the state knows of a window that nobody guards")
			}
			return errInjected
		}}
		if _, err := b.apply(policyB); !errors.Is(err, errInjected) {
			t.Errorf("got %v", err)
		}
		b.Window = nil
		b.wantWorld(before)
		if b.hook.commits != commits {
			t.Error("the kernel was touched")
		}
	}
}

// An apply that fails leaves nothing to be guarded.
func TestFailedWindow(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	before := b.world()
	b.after("commit", func() { b.host.Run(t, "nft", "insert rule inet ipmasq forward drop") })
	id := ""
	b.Window = within(time.Second, &id)
	if _, err := b.apply(policyB); !errors.Is(err, engine.ErrUnverified) {
		t.Errorf("got %v", err)
	}
	b.Window, b.Step = nil, nil
	b.wantWorld(before)
	if _, _, err := b.Expire(t.Context(), id); !errors.Is(err, engine.ErrNothingUnconfirmed) {
		t.Errorf("its guard: %v", err)
	}
	if got := b.results(); len(got) != 2 || !strings.HasPrefix(got[1], "B failed: ") {
		t.Errorf("the history is %q", got)
	}
}

// Where going back would change nothing there is no window.
func TestNothingToGoBackTo(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	if id, pl := b.applyWithin(time.Second, policyA); id != "" || pl.Unconfirmed != nil {
		t.Error("an apply that changes nothing waits to be confirmed")
	}
	b.host.Run(t, "nft", "insert rule inet ipmasq forward drop")
	drifted := b.world()
	id := ""
	b.Window = within(time.Second, &id)
	if _, err := b.apply(policyA); !errors.Is(err, engine.ErrNothingBefore) {
		t.Errorf("over drift: %v", err)
	}
	b.wantWorld(drifted)
	b.host.Run(t, "nft", "flush ruleset")
	if _, err := b.apply(policyA); err != nil {
		t.Fatal(err)
	}
	b.Window = nil
	if r := b.expire(id); r.To != nil {
		t.Errorf("went back to %+v, which was not in force", r.To)
	}
	b.wantSysctl("net.ipv4.ip_forward", "0")
}

// Rollback goes to the policy before, and a second time forth again.
func TestRollbackToggles(t *testing.T) {
	b := newBench(t)
	if _, err := b.Rollback(t.Context(), ""); !errors.Is(err, engine.ErrNothingBefore) {
		t.Errorf("without anything: %v", err)
	}
	b.mustApply(policyA)
	b.mustApply(policyB)
	for _, want := range []string{policyA, policyB, policyA} {
		if r := b.rollback(""); r.To.Digest != digestOf(want) || !b.inForce(want) {
			t.Errorf("rolled back to %+v", r.To)
		}
	}
	b.wantResults("A applied", "B rolled back", "A rolled back", "B rolled back", "A applied")
	if s := b.load(); s.Withdrawn != digestOf(policyB) {
		t.Error("what was rolled back from is not withdrawn")
	}
	r, err := b.RollbackPlan(t.Context(), "")
	if err != nil || r.To.Digest != digestOf(policyB) || r.Plan.Empty() || !b.inForce(policyA) {
		t.Errorf("a dry run: %+v, %v", r, err)
	}
}

// From the first policy there is no way back, be it that a guard has gone back
// to it just now: that is what delete is for. The history leads further.
func TestRollbackFromTheFirst(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	stays := func() {
		t.Helper()
		before := b.world()
		_, planned := b.RollbackPlan(t.Context(), "")
		_, err := b.Rollback(t.Context(), "")
		if !errors.Is(err, engine.ErrNothingBefore) || !errors.Is(planned, engine.ErrNothingBefore) || !strings.Contains(err.Error(), "ipmasq delete") {
			t.Errorf("rolled back: %v; planned: %v", err, planned)
		}
		if now := b.world(); now.Rules != before.Rules || !b.inForce(policyA) {
			t.Error("what is in force has changed")
		}
	}
	stays()
	id, _ := b.applyWithin(time.Millisecond, policyB)
	if r := b.expire(id); r.To == nil || r.To.Digest != digestOf(policyA) {
		t.Errorf("the guard went back to %+v", r.To)
	}
	stays()
	b.wantSysctl("net.ipv4.ip_forward", "1")
	b.mustApply(policyNone)
	b.mustApply(policyB)
	if r := b.rollback(digestOf(policyA)[:8]); r.To.Digest != digestOf(policyA) || !b.inForce(policyA) {
		t.Errorf("by digest: %+v", r.To)
	}
	if _, err := b.Rollback(t.Context(), "0123456789"); err == nil {
		t.Error("rolled back to what never was")
	}
}

// The policy before may be lost, or not compile today: the rules that were in
// the kernel come back as they were, and where these are lost too, what is in
// force stays, and still waits.
func TestRollbackToWhatIsLost(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(policy string) error
	}{
		{"damaged", func(policy string) error { return os.WriteFile(policy, []byte("garbage"), 0o600) }},
		{"gone", os.Remove},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mustApply(policyA)
			before := b.world()
			id, _ := b.applyWithin(10*time.Millisecond, policyB)
			path := filepath.Join(b.dir, "policy-"+digestOf(policyA)[:16]+".gz")
			if err := c.lose(path); err != nil {
				t.Fatal(err)
			}
			kept := filepath.Join(b.dir, "rules-back")
			if err := os.Rename(kept, kept+".away"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			if _, _, err := b.Expire(t.Context(), id); err == nil || !strings.Contains(err.Error(), "read the policy to go back to") {
				t.Errorf("got %v", err)
			}
			if !b.inForce(policyB) || b.load().Unconfirmed == nil {
				t.Error("a rollback that failed has changed something")
			}
			if err := os.Rename(kept+".away", kept); err != nil {
				t.Fatal(err)
			}
			r := b.expire(id)
			if len(r.Warnings) == 0 || r.Unsaved != nil {
				t.Errorf("it says %q, %v", r.Warnings, r.Unsaved)
			}
			if after := b.world(); after.Rules != before.Rules {
				t.Errorf("rules before:\n%s\nafter:\n%s", before.Rules, after.Rules)
			}
			if s := b.load(); s.Unconfirmed != nil || s.Withdrawn != digestOf(policyB) {
				t.Errorf("the state is %+v", s)
			}
			if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what was kept for the way back is left: %v", err)
			}
			b.mustApply(policyA)
			if !b.inForce(policyA) {
				t.Error("the next apply does not lead to its policy")
			}
			b.mustDelete()
			b.wantSysctl("net.ipv4.ip_forward", "0")
		})
	}
}

// delete ends what waits, also when it dies half way.
func TestDeleteWhileUnconfirmed(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	id, _ := b.applyWithin(time.Hour, policyB)
	before := b.world()
	b.hook.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
	if _, err := b.Delete(t.Context(), false); !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
	b.hook.commit = nil
	b.wantWorld(before)
	b.mustDelete()
	if _, _, err := b.Expire(t.Context(), id); !errors.Is(err, engine.ErrNothingUnconfirmed) {
		t.Errorf("its guard: %v", err)
	}
	if entries, _ := os.ReadDir(b.dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}

// A full disk, or one that became read-only, may be what the policy that nobody
// can confirm is about: the way back must not need it.
func TestGoesBackOnAFullDisk(t *testing.T) {
	for _, name := range []string{"full", "read-only"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			onOwnThread(func() {
				if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
					t.Error(err)
					return
				}
				smallDisk(t, b.dir)
				b.mustApply(policyA)
				before := b.world()
				id, _ := b.applyWithin(time.Millisecond, policyB)
				mend := func() { os.Remove(filepath.Join(b.dir, "filler")) }
				if name == "full" {
					fill(t, b.dir)
				} else {
					readOnly(t, b.dir)
					mend = func() { unmount(t, b.dir) }
				}
				time.Sleep(time.Millisecond)
				for range 2 {
					_, r, err := b.Expire(context.Background(), id)
					if err != nil || name == "read-only" && r.Unsaved == nil {
						t.Fatalf("got %+v, %v", r, err)
					}
					if now := b.world(); now.Rules != before.Rules {
						t.Errorf("the rules are not those before:\n%s", now.Rules)
					}
					if r.Unsaved == nil {
						return // it found room in what it replaced
					}
				}
				if b.load().Unconfirmed == nil {
					t.Error("the state was written after all")
				}
				mend()
				if r := b.expire(id); r.Unsaved != nil {
					t.Errorf("with room: %v", r.Unsaved)
				}
				if s := b.load(); s.Unconfirmed != nil || s.Applied.Digest != digestOf(policyA) {
					t.Errorf("the state is %+v", s)
				}
			})
		})
	}
}

// Whoever holds the policy in force meanwhile does not lengthen the time, and is
// not in the history.
func TestHeldWhileUnconfirmed(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	id, _ := b.applyWithin(time.Minute, policyB)
	before := *b.load().Unconfirmed
	b.host.Run(t, "nft", "flush ruleset")
	if _, err := b.Hold(t.Context(), nil, false); err != nil || !b.inForce(policyB) {
		t.Errorf("hold: %v", err)
	}
	if now := b.load().Unconfirmed; now == nil || now.Deadline != before.Deadline || now.ID != id {
		t.Errorf("it waits until %+v, and before until %+v", now, before)
	}
	b.wantResults("A applied", "B unconfirmed")
}
