package engine_test

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
)

// reboot makes the state one of another boot, and the kernel as after one.
func (b *bench) reboot() {
	b.t.Helper()
	b.host.Run(b.t, "nft", "flush ruleset")
	b.host.Sysctl("net.ipv4.ip_forward", "0")
	b.rewrite(func(s *state.State) {
		s.NetNS = "4026531833:4:1@00000000-0000-0000-0000-000000000000"
		if s.Unconfirmed != nil {
			s.Unconfirmed.Boot = "00000000-0000-0000-0000-000000000000"
		}
	})
}

// A policy that was not confirmed before the machine stopped is not applied at
// boot from the files that still hold it.
func TestBootInTheWindow(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	b.applyWithin(time.Hour, policyB)
	s, err := b.Boot(t.Context(), parse(t, policyB))
	if err != nil || s.Waits == nil || !b.inForce(policyB) {
		t.Fatalf("within the window of this boot: %+v, %v", s, err)
	}
	b.reboot()
	if st, err := b.Status(t.Context()); err != nil || st.Lapsed != digestOf(policyB) || st.Digest != digestOf(policyA) {
		t.Errorf("status: %+v, %v", st, err)
	}
	for range 2 { // it stays so for the next boots
		s, err = b.Boot(t.Context(), parse(t, policyB))
		if err != nil || s.Withheld == "" || !b.inForce(policyA) {
			t.Fatalf("after the boot: %+v, %v", s, err)
		}
		b.wantSysctl("net.ipv4.ip_forward", "1")
		b.wantResults("A applied", "B rolled back: not confirmed when the machine stopped")
		b.reboot()
	}
	if s, err = b.Boot(t.Context(), nil); err != nil || !b.inForce(policyA) {
		t.Errorf("without files: %+v, %v", s, err)
	}
	if _, err := b.apply(policyB); err != nil { // somebody is there
		t.Fatal(err)
	}
	b.reboot()
	if s, err = b.Boot(t.Context(), parse(t, policyB)); err != nil || s.Withheld != "" || !b.inForce(policyB) {
		t.Errorf("what was applied by hand: %+v, %v", s, err)
	}
}

// Where there was nothing before, nothing is in force, and nothing forwards.
func TestBootInTheFirstWindow(t *testing.T) {
	b := newBench(t)
	b.applyWithin(time.Hour, policyA)
	b.reboot()
	s, err := b.Boot(t.Context(), parse(t, policyA))
	if err != nil || s.Withheld == "" || b.world().Rules != "" {
		t.Errorf("after the boot: %+v, %v", s, err)
	}
	b.wantSysctl("net.ipv4.ip_forward", "0")
	if s, err = b.Boot(t.Context(), parse(t, policyB)); err != nil || s.Withheld != "" || !b.inForce(policyB) {
		t.Errorf("other files: %+v, %v", s, err)
	}
}

// A boot finds the deadline passed where the guard was killed.
func TestBootAfterTheDeadline(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	b.applyWithin(time.Millisecond, policyB)
	time.Sleep(time.Millisecond)
	s, err := b.Boot(t.Context(), parse(t, policyB))
	if err != nil || s.Withheld == "" || !b.inForce(policyA) {
		t.Errorf("got %+v, %v", s, err)
	}
	b.wantResults("A applied", "B rolled back: not confirmed in time")
}

// What somebody has rolled back from does not come back with a boot.
func TestBootAfterARollback(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	b.mustApply(policyB)
	b.rollback("")
	b.reboot()
	if s, err := b.Boot(t.Context(), parse(t, policyB)); err != nil || s.Withheld == "" || !b.inForce(policyA) {
		t.Errorf("got %+v, %v", s, err)
	}
}
