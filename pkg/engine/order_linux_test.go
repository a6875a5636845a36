package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// Forwarding before the rules would let the inside out untranslated, and the
// outside in.
func TestRulesComeBeforeForwarding(t *testing.T) {
	b := newBench(t)
	var steps []string
	forwards := map[string]string{}
	b.Step = func(name string, _ time.Duration) {
		steps = append(steps, name)
		forwards[name] = b.host.GetSysctl("net.ipv4.ip_forward")
	}
	b.mustApply(policyA)
	want := []string{"facts", "compile", "encode", "read", "state", "commit", "read back", "sysctls", "remember"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps are %q, want %q", steps, want)
	}
	for _, step := range want {
		wanted := "0"
		if step == "sysctls" || step == "remember" {
			wanted = "1"
		}
		if forwards[step] != wanted {
			t.Errorf("after %q ip_forward is %s, want %s", step, forwards[step], wanted)
		}
	}
}

// What leaves after the rules are gone leaves with its private source.
func TestForwardingGoesBeforeRules(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	asked := false
	b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
		asked = true
		b.wantSysctl("net.ipv4.ip_forward", "0")
		return commit(c)
	}
	b.mustDelete()
	if !asked {
		t.Error("delete committed nothing")
	}
	if left := b.world(); left.Rules != "" || left.State != "" {
		t.Errorf("left behind: %+v", left)
	}
}

// A second apply must cost a question, not a transaction: every transaction
// wakes all who watch the ruleset, and loses the work of those who edit it.
func TestApplyTwiceCommitsOnce(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	before, world := b.generation(), b.world()
	if pl := b.mustApply(policyA); !pl.Empty() {
		t.Errorf("the second plan holds %s", pl.Rules.Summary())
	}
	if after := b.generation(); after != before {
		t.Errorf("the generation went from %d to %d", before, after)
	}
	if b.hook.commits != 1 {
		t.Errorf("%d transactions, want 1", b.hook.commits)
	}
	b.wantWorld(world)

	// The same where somebody else's change has made the generation useless.
	b.host.Run(t, "nft", "add", "table", "ip", "foreign")
	before = b.generation()
	b.mustApply(policyA)
	if after := b.generation(); after != before {
		t.Errorf("after a foreign change the generation went from %d to %d", before, after)
	}
}

// A change between reading and committing must not be overwritten unseen.
func TestStalePlanIsMadeAgain(t *testing.T) {
	t.Run("a foreign table", func(t *testing.T) {
		b := newBench(t)
		tries := 0
		b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
			if tries++; tries <= 3 {
				b.host.Run(t, "nft", "add table ip foreign; add counter ip foreign c"+string(rune('0'+tries)))
			}
			return commit(c)
		}
		b.mustApply(policyA)
		if tries != 4 {
			t.Errorf("%d attempts, want 4", tries)
		}
		b.hook.commit = nil
		if !b.inForce(policyA) {
			t.Error("the policy is not in force")
		}
		if _, err := b.host.Try("nft", "list", "table", "ip", "foreign"); err != nil {
			t.Errorf("the foreign table: %v", err)
		}
	})
	t.Run("a rule in our chain", func(t *testing.T) {
		b := newBench(t)
		b.mustApply(policyA)
		meddled := false
		b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
			if !meddled {
				meddled = true
				b.host.Run(t, "nft", "insert rule inet ipmasq forward accept")
			}
			return commit(c)
		}
		b.mustApply(policyB)
		if !b.inForce(policyB) {
			t.Error("the foreign rule has survived in our chain")
		}
	})
	t.Run("for ever", func(t *testing.T) {
		b := newBench(t)
		b.host.Run(t, "nft", "add table ip foreign")
		before := b.world()
		tries := 0
		b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
			tries++
			b.host.Run(t, "nft", "add table ip foreign { comment \"again\"; }; delete table ip foreign; add table ip foreign")
			return commit(c)
		}
		_, err := b.apply(policyA)
		if !errors.Is(err, backend.ErrStale) {
			t.Errorf("got %v, want ErrStale", err)
		}
		if tries != 10 {
			t.Errorf("%d attempts, want 10", tries)
		}
		b.wantWorld(before)
	})
	t.Run("a delete", func(t *testing.T) {
		b := newBench(t)
		b.mustApply(policyA)
		meddled := false
		b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
			if !meddled {
				meddled = true
				b.host.Run(t, "nft", "add chain inet ipmasq foreign")
			}
			return commit(c)
		}
		b.mustDelete()
		if left := b.world().Rules; left != "" {
			t.Errorf("left behind:\n%s", left)
		}
	})
}

// Two at once must not plan from one ruleset and commit over each other.
func TestTwoAppliesSerialize(t *testing.T) {
	first := newBench(t)
	second := benchOn(t, first.host, first.dir)
	waits := make(chan string, 1)
	second.Waiting = func(holder string) { waits <- holder }
	result := make(chan error, 1)
	first.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
		go func() {
			_, err := second.apply(policyB)
			result <- err
		}()
		select {
		case <-waits:
		case <-time.After(10 * time.Second):
			t.Error("the second apply did not wait for the first")
		}
		return commit(c)
	}
	first.mustApply(policyA)
	if err := <-result; err != nil {
		t.Fatalf("the second apply: %v", err)
	}
	if !first.inForce(policyB) {
		t.Error("the policy that came last is not in force")
	}
	s, err := first.State.Load()
	if err != nil || s.Previous == nil {
		t.Fatalf("the state does not know the policy before: %+v, %v", s, err)
	}
}

// Who waits for a lock must be able to give up, having changed nothing.
func TestLockedOut(t *testing.T) {
	b := newBench(t)
	folder, err := state.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := folder.Lock(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	before := b.world()
	gone, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	for name, do := range map[string]func() error{
		"apply":  func() error { _, err := b.Apply(gone, parse(t, policyA)); return err },
		"delete": func() error { _, err := b.Delete(gone, false); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s did not wait for the lock", name)
		}
	}
	b.wantWorld(before)
	if _, err := b.Plan(context.Background(), parse(t, policyA)); err != nil {
		t.Errorf("plan waits for the lock: %v", err)
	}
	if _, err := b.Status(context.Background()); err != nil {
		t.Errorf("status waits for the lock: %v", err)
	}
	if _, err := b.Delete(context.Background(), true); err != nil {
		t.Errorf("delete --dry-run waits for the lock: %v", err)
	}
}
