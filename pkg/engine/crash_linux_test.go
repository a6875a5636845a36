package engine_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// What the process that crashes is told by its environment: the step after
// which to die, where to work, and the policy to apply ("" to delete, "rollback"
// to go back), and how long it waits to be confirmed.
const (
	crashAt     = "IPMASQ_TEST_CRASH_AT"
	crashNetNS  = "IPMASQ_TEST_CRASH_NETNS"
	crashState  = "IPMASQ_TEST_CRASH_STATE"
	crashPolicy = "IPMASQ_TEST_CRASH_POLICY"
	crashWindow = "IPMASQ_TEST_CRASH_WINDOW"
)

// back is what to do instead of an apply.
const back = "rollback"

// crash is the process that kills itself. It returns only when it got past the
// step.
func crash() int {
	err := func() error {
		ns, err := link.OpenNetNS(os.Getenv(crashNetNS))
		if err != nil {
			return err
		}
		folder, err := state.Open(os.Getenv(crashState))
		if err != nil {
			return err
		}
		e := &engine.Engine{Backend: nftables.New(ns.Do), UserChains: iptables.NewUserChains(ns.Do), State: folder, NetNS: ns}
		e.Step = func(name string, _ time.Duration) {
			if name == os.Getenv(crashAt) {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		if choice := os.Getenv(crashFound); choice != "" {
			backendsOf(e, ns.Do, choice)
		}
		if d, err := time.ParseDuration(os.Getenv(crashWindow)); err == nil {
			e.Window = &engine.Window{For: d, Guard: func(*state.Unconfirmed) error { return nil }}
		}
		switch os.Getenv(crashPolicy) {
		case "":
			_, err = e.Delete(context.Background(), false)
			return err
		case back:
			_, err = e.Rollback(context.Background(), "")
			return err
		}
		p, err := policy.Reparse([]policy.Source{{Name: "policy.yaml", Text: []byte(os.Getenv(crashPolicy))}})
		if err == nil {
			_, err = e.Apply(context.Background(), p)
		}
		return err
	}()
	fmt.Fprintln(os.Stderr, "got past the step:", err)
	return 3
}

// crashAfter runs an apply, or a delete, that is killed after a step.
func (b *bench) crashAfter(step, text, window string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashWindow+"="+window, crashAt+"="+step, crashNetNS+"="+b.host.NetNS(), crashState+"="+b.dir, crashPolicy+"="+text)
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		b.t.Fatalf("%q was not reached: %v\n%s", step, err, out)
	}
}

// Whenever ipmasq is killed the kernel holds the old rules or the new, whole;
// the state can be read; and the next apply or delete leads where it should.
func TestKilledAfterEachStep(t *testing.T) {
	applying := []string{"facts", "compile", "encode", "read", "state", "commit", "read back", "sysctls", "remember"}
	deleting := []string{"sysctls", "commit", "flows", "forget"}
	within := slices.Insert(slices.Clone(applying), 4, "guard")
	rules := map[string]string{"": ""}
	fresh := newBench(t).world()
	for _, text := range []string{policyA, policyB} {
		b := newBench(t)
		b.mustApply(text)
		rules[text] = b.world().Rules
	}
	apply := func(b *bench) { b.mustApply(policyA) }
	both := func(b *bench) { b.mustApply(policyA); b.mustApply(policyB) }
	waits := func(b *bench) { b.mustApply(policyA); b.applyWithin(time.Millisecond, policyB) }
	for _, c := range []struct {
		name, from, to, do, window string
		start                      func(*bench)
		steps                      []string
	}{
		{"first apply", "", policyA, policyA, "", nil, applying},
		{"another policy", policyA, policyB, policyB, "", apply, applying},
		{"delete", policyA, "", "", "", apply, deleting},
		{"rollback", policyB, policyA, back, "", both, applying},
		{"first apply to be confirmed", "", policyA, policyA, "1ms", nil, within},
		{"another to be confirmed", policyA, policyB, policyB, "1ms", apply, within},
		{"rollback of one that waits", policyB, policyA, back, "", waits, applying},
		{"rollback of the first that waits", policyA, "", back, "", func(b *bench) { b.applyWithin(time.Millisecond, policyA) }, deleting},
		{"delete of one that waits", policyB, "", "", "", waits, deleting},
	} {
		for _, step := range c.steps {
			t.Run(c.name+" after "+strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
				b := newBench(t)
				if c.start != nil {
					c.start(b)
				}
				b.crashAfter(step, c.do, c.window)
				w := b.world()
				if w.Rules != rules[c.from] && w.Rules != rules[c.to] {
					t.Errorf("the rules are neither the old nor the new:\n%s", w.Rules)
				}
				if w.Rules == "" && w.Sysctls["net/ipv4/ip_forward"] != "0" {
					t.Error("the host forwards without rules")
				}
				s, err := b.State.Load()
				if err != nil {
					t.Fatalf("the state: %v", err)
				}
				if u := s.Unconfirmed; u != nil { // its guard goes on
					b.expire(u.ID)
					want := c.from
					if c.window == "" {
						want = c.to
					}
					if b.world().Rules != rules[want] {
						t.Error("the guard does not lead back to what was before")
					}
					if want == "" {
						b.wantSysctl("net.ipv4.ip_forward", "0")
					}
				} else if c.window != "" && w.Rules != rules[c.from] {
					t.Error("a policy is in force that nobody confirmed, and nothing says so")
				}
				b.mustApply(policyB)
				if b.world().Rules != rules[policyB] {
					t.Error("the next apply does not lead to its policy")
				}
				b.wantSysctl("net.ipv4.ip_forward", "1")
				b.mustDelete()
				b.wantWorld(fresh)
			})
		}
	}
}
