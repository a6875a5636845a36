//go:build linux

package iptables_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// chains is a wanted snapshot of IPv4, of chains as "table NAME" with rules.
func chains(lists map[string][]string) *plan.Snapshot {
	s := &plan.Snapshot{}
	for name, rules := range lists {
		c := plan.Chain{Name: "ipv4 " + name}
		for i, r := range rules {
			o := ruleset.Origin{Place: ruleset.Place{File: "policy.yaml", Line: i + 1, Column: 5}}
			for _, entry := range []string{"entry", "ipmasq"} {
				if strings.Contains(r, entry) {
					o.Entry = entry
				}
			}
			c.Rules = append(c.Rules, plan.Rule{Body: []byte(r), Origin: o})
		}
		s.Chains = append(s.Chains, c)
	}
	s.Normalize()
	return s
}

func (h *host) reads(t *testing.T) *plan.Snapshot {
	t.Helper()
	s, err := h.Have(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The kernel finds fault with the last table when the others are in force:
// those go back, to the last rule.
func TestGoesBack(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			first := chains(map[string][]string{
				"filter IPMASQ-x": {"-s 10.0.0.1/32 -m comment --comment \"entry #c\" -j ACCEPT"}, "filter FORWARD": {"1 -m comment --comment ipmasq -j IPMASQ-x"},
			})
			if err := h.Commit(ctx, plan.Diff(h.reads(t), first), false); err != nil {
				t.Fatal(err)
			}
			before := h.reads(t)
			// An owner is known to OUTPUT and POSTROUTING alone. Only the kernel
			// looks at where a chain is reached from.
			wrong := chains(map[string][]string{
				"filter IPMASQ-x": {"-s 10.0.0.2/32 -j ACCEPT"}, "filter IPMASQ-y": {"-j RETURN"}, "filter FORWARD": {"1 -m comment --comment ipmasq -j IPMASQ-x"},
				"nat IPMASQ-z": {"-m owner --socket-exists -j RETURN"}, "nat PREROUTING": {"1 -m comment --comment ipmasq -j IPMASQ-z"},
			})
			err := h.Commit(ctx, plan.Diff(before, wrong), false)
			var refused *backend.Refused
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), "nat") {
				t.Fatalf("got %v, want a refusal that names the table", err)
			}
			compare(t, h.reads(t), before)
			if h.reads(t).Generation != before.Generation {
				t.Error("something is not as it was")
			}
		})
	}
}

// While somebody else holds the lock, a commit says so and waits.
func TestWaitsForLock(t *testing.T) {
	t.Parallel()
	h, ctx := newHost(t, "iptables-legacy"), context.Background()
	lock, err := os.OpenFile("/run/xtables.lock", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	changes := plan.Diff(h.reads(t), chains(map[string][]string{"filter IPMASQ-x": {"-j RETURN"}}))
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 100)
	h.Waiting = func(why string) {
		waits <- why
		_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN)
	}
	ctx, cancel := context.WithTimeout(ctx, 6*lab.Patience)
	defer cancel()
	if err := h.Commit(ctx, changes, false); err != nil {
		t.Fatal(err)
	}
	if len(waits) == 0 {
		t.Error("nobody was told")
	}
	if h.reads(t).Empty() {
		t.Error("nothing was committed")
	}
}

// The programs take the lock for each table anew. Where somebody else gets it
// between two, for longer than a first try waits, the commit goes on where it was:
// what has begun is not begun again.
func TestLockIsTakenMidway(t *testing.T) {
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock")) // of this test alone
	h, ctx := newHost(t, "iptables-legacy"), context.Background()
	empty := h.reads(t)
	lists := map[string][]string{}
	for _, table := range []string{"raw", "mangle", "filter", "nat"} {
		lists[table+" IPMASQ-x"] = []string{"-j RETURN"}
		lists[table+" OUTPUT"] = []string{"1 -m comment --comment ipmasq -j IPMASQ-x"}
	}
	want := chains(lists)
	for midway, tries := false, 0; !midway; tries++ {
		if tries == 300 {
			t.Fatal("nobody gets the lock between two tables")
		}
		got := h.rivals(t)
		if err := h.Commit(ctx, plan.Diff(empty, want), false); err != nil {
			t.Fatal(err)
		}
		midway = got()
		compare(t, h.reads(t), want)
		if t.Failed() {
			break
		}
		if err := h.Commit(ctx, plan.Diff(h.reads(t), empty), false); err != nil {
			t.Fatal(err)
		}
		empty = h.reads(t)
	}
}

// rivals has somebody else want the lock all the time, and keep it once some tables
// are committed and others are not. What it gives ends that, and says whether it
// came to it.
func (h *host) rivals(t *testing.T) (got func() bool) {
	t.Helper()
	lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	stop, done, midway := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(done)
		defer lock.Close()
		for !midway {
			select {
			case <-stop:
				return
			default:
			}
			if unix.Flock(int(lock.Fd()), unix.LOCK_EX) != nil {
				return
			}
			all := h.host.Run(t, "iptables-legacy-save")
			if n := strings.Count(all, "-j IPMASQ-x"); n > 0 && n < 4 {
				midway = true
				select { // longer than a program that is told to wait for a second
				case <-stop:
				case <-time.After(1500 * time.Millisecond):
				}
			}
			_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN)
		}
	}()
	return func() bool { close(stop); <-done; return midway }
}

// Others' rules before ours are drift, and a commit comes first again. What it
// found is what it can put back.
func TestJumpsComeFirst(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			want := chains(map[string][]string{"filter IPMASQ-x": {"-j RETURN"}, "filter FORWARD": {"1 -m comment --comment ipmasq -j IPMASQ-x"}})
			if err := h.Commit(ctx, plan.Diff(h.reads(t), want), false); err != nil {
				t.Fatal(err)
			}
			h.host.Run(t, variant, "-I", "FORWARD", "-s", "10.0.0.1", "-j", "ACCEPT")
			moved := h.reads(t)
			changes := plan.Diff(moved, want)
			if len(changes.Chains) != 1 {
				t.Fatalf("%+v, want the built-in chain to differ", changes.Chains)
			}
			if err := h.Commit(ctx, changes, false); err != nil {
				t.Fatal(err)
			}
			compare(t, h.reads(t), want)
			if err := h.Commit(ctx, plan.Diff(h.reads(t), moved), false); err != nil {
				t.Fatal(err)
			}
			if now := h.reads(t); now.Generation != moved.Generation {
				compare(t, now, moved)
			}
		})
	}
}

// What a rule has counted for a counter is not lost when the rule goes and
// another of that counter stays; what a rule that stays has counted is its own.
func TestCountersGoOn(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			out := []string{"1 -m comment --comment ipmasq -j IPMASQ-x"}
			one, two := `-p udp -m comment --comment "entry #sent" -j RETURN`, `-d 127.0.0.0/8 -m comment --comment "entry #sent" -j RETURN`
			count := func() uint64 {
				i := slices.IndexFunc(h.reads(t).Counters, func(c plan.Counter) bool { return c.Name == "sent" })
				if i < 0 {
					return 0
				}
				return h.reads(t).Counters[i].Packets
			}
			for n, rules := range [][]string{{one}, {two, one}, {two}, {"-s 10.0.0.1/32 -j DROP", two}} {
				want := chains(map[string][]string{"filter IPMASQ-x": rules, "filter OUTPUT": out})
				if err := h.Commit(ctx, plan.Diff(h.reads(t), want), false); err != nil {
					t.Fatal(err)
				}
				if got := count(); got != uint64(n) {
					t.Errorf("after commit %d it counts %d", n, got)
				}
				h.Send(t)
			}
		})
	}
}

// What an element has counted stays its own where it moves to another chain; what
// one that goes has counted goes with it.
func TestElementsKeepCounts(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			out := []string{"1 -m comment --comment ipmasq -j IPMASQ-x"}
			jump := "-m comment --comment entry -j IPMASQ-y"
			element, other := `-p udp -m udp --dport 1:65535 -m comment --comment "entry #+" -j RETURN`, `-p udp -m udp --dport 1:65534 -m comment --comment "entry #+" -j RETURN`
			count := func() uint64 {
				for _, c := range h.reads(t).Counters {
					if c.Name == "+entry" {
						return c.Packets
					}
				}
				return 0
			}
			for n, c := range []struct {
				x, y []string
				want uint64
			}{{x: []string{element}}, {x: []string{jump}, y: []string{element}, want: 1}, {x: []string{"-d 127.0.0.0/8 " + element}, want: 2}, {x: []string{other}}} {
				rules := map[string][]string{"filter IPMASQ-x": c.x, "filter OUTPUT": out}
				if c.y != nil {
					rules["filter IPMASQ-y"] = c.y
				}
				if err := h.Commit(ctx, plan.Diff(h.reads(t), chains(rules)), false); err != nil {
					t.Fatal(err)
				}
				if got := count(); got != c.want {
					t.Errorf("after commit %d it counts %d, not %d", n, got, c.want)
				}
				h.Send(t)
			}
		})
	}
}
