package engine_test

import (
	"errors"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

// What was applied last is held in force, whoever applied it, and nothing where
// nothing was.
func TestHold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.Hold(t.Context(), nil, true); !errors.Is(err, engine.ErrNothingApplied) {
		t.Errorf("before an apply: %v", err)
	}
	held := b.mustApply(policyA).Held()
	hold := func(what string, gone, refilled bool, want string) *engine.Plan {
		t.Helper()
		pl, err := b.Hold(t.Context(), held, gone)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if (pl.Refilled > 0) != refilled {
			t.Errorf("%s: put back before all else: %v", what, pl.Refilled)
		}
		if !b.inForce(want) {
			t.Errorf("%s: it is not in force", what)
		}
		return pl
	}
	if pl := hold("nothing happened", false, false, policyA); !pl.Empty() {
		t.Error("something changes where nothing happened")
	}
	hold("it is said to be gone, and is not", true, false, policyA)
	b.host.Run(t, "nft", "flush", "ruleset")
	if pl := hold("all is gone", true, true, policyA); !pl.Rules.Empty() {
		t.Error("what was put back first is not what is wanted")
	}
	b.host.Run(t, "nft", "flush", "ruleset")
	hold("all is gone, and nobody said so", false, false, policyA)
	b.host.Run(t, "nft", "insert rule inet ipmasq forward drop")
	if pl := hold("a rule is new", false, false, policyA); pl.Rules.Empty() {
		t.Error("it is not taken out")
	}

	if changes, err := b.Slipped(held); err != nil || len(changes) != 0 {
		t.Errorf("sysctls: %v, %v", changes, err)
	}
	b.host.Sysctl("net.ipv4.ip_forward", "0")
	if changes, err := b.Slipped(held); err != nil || len(changes) != 1 || changes[0].Name != "net/ipv4/ip_forward" {
		t.Errorf("sysctls: %v, %v", changes, err)
	}
	if pl := hold("forwarding is off", false, false, policyA); len(pl.Written()) != 1 {
		t.Errorf("written: %v", pl.Written())
	}
	b.wantSysctl("net.ipv4.ip_forward", "1")

	// Somebody else applies another one, and then what is held is not put back.
	b.mustApply(policyB)
	b.host.Run(t, "nft", "flush", "ruleset")
	hold("another was applied", true, false, policyB)
	b.mustDelete()
	if _, err := b.Hold(t.Context(), held, true); !errors.Is(err, engine.ErrNothingApplied) {
		t.Errorf("after a delete: %v", err)
	}
}
