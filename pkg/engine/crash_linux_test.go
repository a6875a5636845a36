package engine_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// What the process that crashes is told by its environment: the step after
// which to die, where to work, and the policy to apply ("" to delete).
const (
	crashAt     = "IPMASQ_TEST_CRASH_AT"
	crashNetNS  = "IPMASQ_TEST_CRASH_NETNS"
	crashState  = "IPMASQ_TEST_CRASH_STATE"
	crashPolicy = "IPMASQ_TEST_CRASH_POLICY"
)

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
		e := &engine.Engine{Backend: nftables.New(ns.Do), State: folder, NetNS: ns}
		e.Step = func(name string, _ time.Duration) {
			if name == os.Getenv(crashAt) {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		if os.Getenv(crashPolicy) == "" {
			_, err = e.Delete(context.Background(), false)
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
func (b *bench) crashAfter(step, text string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashAt+"="+step, crashNetNS+"="+b.host.NetNS(), crashState+"="+b.dir, crashPolicy+"="+text)
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
	rules := map[string]string{"": ""}
	fresh := newBench(t).world()
	for _, text := range []string{policyA, policyB} {
		b := newBench(t)
		b.mustApply(text)
		rules[text] = b.world().Rules
	}
	for _, c := range []struct{ name, from, to string }{
		{"first apply", "", policyA},
		{"another policy", policyA, policyB},
		{"delete", policyA, ""},
	} {
		steps := applying
		if c.to == "" {
			steps = deleting
		}
		for _, step := range steps {
			t.Run(c.name+" after "+strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
				b := newBench(t)
				if c.from != "" {
					b.mustApply(c.from)
				}
				b.crashAfter(step, c.to)
				w := b.world()
				if w.Rules != rules[c.from] && w.Rules != rules[c.to] {
					t.Errorf("the rules are neither the old nor the new:\n%s", w.Rules)
				}
				if w.Rules == "" && w.Sysctls["net/ipv4/ip_forward"] != "0" {
					t.Error("the host forwards without rules")
				}
				if _, err := b.State.Load(); err != nil {
					t.Errorf("the state: %v", err)
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
