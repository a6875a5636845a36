package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// policyDocker is policyA, with Docker.
const policyDocker = policyA + "gateway: {docker: accept}\n"

// policyDockerMore has one way more to pass.
const policyDockerMore = policyDocker + `forward:
  rules:
    - {name: through, from: wan, to: wan, protocol: tcp, ports: 22, action: accept}
`

// watched are the chains that Docker leaves to users, with a test's fingers in them.
type watched struct {
	*iptables.UserChains
	commit func(c ruleset.UserChain, remove, add []string, through func() error) error
	looks  int
}

func (w *watched) Have(ctx context.Context, c ruleset.UserChain) ([]string, error) {
	w.looks++
	return w.UserChains.Have(ctx, c)
}

func (w *watched) Commit(ctx context.Context, c ruleset.UserChain, remove, add []string, dryRun bool) error {
	through := func() error { return w.UserChains.Commit(ctx, c, remove, add, dryRun) }
	if w.commit == nil || dryRun {
		return through()
	}
	return w.commit(c, remove, add, through)
}

// newDockerBench is a bench on a host with a chain DOCKER-USER, which has two rules.
func newDockerBench(t *testing.T) (*bench, *watched) {
	t.Helper()
	lab.Require(t, lab.Binary("iptables-nft-restore"))
	b := newBench(t)
	ns, err := link.OpenNetNS(b.host.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	w := &watched{UserChains: iptables.NewUserChains(ns.Do)}
	b.UserChains = w
	b.docker()
	return b, w
}

func (b *bench) docker() {
	b.t.Helper()
	b.host.Feed(b.t, `*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -i eth7 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
`, "iptables-nft-restore", "--noflush")
}

// users are the rules of DOCKER-USER.
func (b *bench) users() (rules []string) {
	b.t.Helper()
	for l := range strings.Lines(b.host.Run(b.t, "iptables-nft", "-S", "DOCKER-USER")) {
		if rule, ok := strings.CutPrefix(strings.TrimSpace(l), "-A DOCKER-USER "); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

func (b *bench) wantUsers(when string, want ...string) {
	b.t.Helper()
	if got := b.users(); !slices.Equal(got, want) {
		b.t.Errorf("%s: DOCKER-USER has\n\t%s\nwant\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const (
	dockerOut  = "-i eth1 -o eth0 -m comment --comment ipmasq -j ACCEPT"
	dockerIn   = "-i eth0 -o eth1 -m comment --comment ipmasq -j ACCEPT"
	dockerLAN  = "-i eth1 -o eth1 -m comment --comment ipmasq -j ACCEPT"
	dockerWAN  = "-i eth0 -o eth0 -m comment --comment ipmasq -j ACCEPT"
	userDrop   = "-i eth7 -j DROP"
	userReturn = "-j RETURN"
)

// What Docker is to let pass comes behind the rules that judge it, and what it is
// not to any more goes before them.
func TestDockerBehindTheRules(t *testing.T) {
	b, w := newDockerBench(t)
	base := []string{dockerIn, dockerOut, dockerLAN} // the inside reaches the port forward too
	var order []string
	b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
		order = append(order, "rules")
		return commit(c)
	}
	w.commit = func(_ ruleset.UserChain, remove, add []string, through func() error) error {
		order = append(order, fmt.Sprintf("docker -%d +%d", len(remove), len(add)))
		return through()
	}
	for _, c := range []struct {
		what, policy string // "" is delete
		users, order []string
	}{
		{"without", policyA, nil, []string{"rules"}},
		{"with", policyDocker, base, []string{"docker -0 +3"}},
		{"again", policyDocker, base, nil},
		{"more", policyDockerMore, append([]string{dockerWAN}, base...), []string{"rules", "docker -0 +1"}},
		{"less", policyDocker, base, []string{"docker -1 +0", "rules"}},
		{"without", policyA, nil, []string{"docker -3 +0"}},
		{"with", policyDocker, base, []string{"docker -0 +3"}},
		{"delete", "", nil, []string{"docker -3 +0", "rules"}},
	} {
		order = nil
		if c.policy == "" {
			if d := b.mustDelete(); len(d.Docker.Removed()) != 3 {
				t.Errorf("delete removed %q", d.Docker.Removed())
			}
		} else {
			pl := b.mustApply(c.policy)
			if slices.ContainsFunc(c.order, func(s string) bool { return strings.HasPrefix(s, "docker") }) == pl.Docker.Empty() {
				t.Errorf("%s: the plan has %v", c.what, pl.Docker)
			}
			// What we have committed ourselves need not be read again.
			reads := b.hook.reads
			if pl := b.mustApply(c.policy); !pl.Empty() || b.hook.reads != reads {
				t.Errorf("%s: the second apply has %s, %v and reads the rules %d times", c.what, pl.Rules.Summary(), pl.Docker, b.hook.reads-reads)
			}
		}
		b.wantUsers(c.what, append(slices.Clone(c.users), userDrop, userReturn)...)
		var rest []string // a commit of nothing is none
		for _, x := range order {
			if x != "rules" || slices.Contains(c.order, "rules") && !slices.Contains(rest, "rules") {
				rest = append(rest, x)
			}
		}
		if !slices.Equal(rest, c.order) {
			t.Errorf("%s: the order is %q, want %q", c.what, rest, c.order)
		}
	}
}

// A policy that leaves Docker alone costs no look at it, but the first.
func TestDockerLeftAlone(t *testing.T) {
	b, w := newDockerBench(t)
	b.mustApply(policyA)
	w.looks = 0
	b.mustApply(policyB)
	b.mustApply(policyA)
	if w.looks > 0 {
		t.Errorf("it was looked at %d times", w.looks)
	}
}

// A step that fails leaves all as it was, Docker's chain too.
func TestDockerGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, before, policy string // "" is delete
		fails                func(remove, add []string) bool
		rules                bool // it is the commit of our rules that fails
	}{
		{name: "adding", before: policyA, policy: policyDocker, fails: func(_, add []string) bool { return len(add) > 0 }},
		{name: "adding first", policy: policyDocker, fails: func(_, add []string) bool { return len(add) > 0 }},
		{name: "removing", before: policyDocker, policy: policyA, fails: func(remove, _ []string) bool { return len(remove) > 0 }},
		{name: "rules", before: policyDockerMore, policy: policyDocker, rules: true},
		{name: "delete", before: policyDocker, fails: func(remove, _ []string) bool { return len(remove) > 0 }},
		{name: "delete rules", before: policyDocker, rules: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newDockerBench(t)
			if c.before != "" {
				b.mustApply(c.before)
			}
			before, users := b.world(), b.users()
			failed := false
			w.commit = func(_ ruleset.UserChain, remove, add []string, through func() error) error {
				if c.fails != nil && c.fails(remove, add) && !failed {
					failed = true
					return errInjected
				}
				return through()
			}
			b.hook.commit = func(commit func(*plan.Changes) error, ch *plan.Changes) error {
				if c.rules && !failed {
					failed = true
					return errInjected
				}
				return commit(ch)
			}
			var err error
			if c.policy == "" {
				_, err = b.Delete(t.Context(), false)
			} else {
				_, err = b.apply(c.policy)
			}
			if !errors.Is(err, errInjected) {
				t.Fatalf("it came to %v", err)
			}
			slices.Sort(users)
			now := b.users()
			slices.Sort(now)
			if !slices.Equal(now, users) {
				t.Errorf("DOCKER-USER has\n%s\nand had\n%s", strings.Join(now, "\n"), strings.Join(users, "\n"))
			}
			if after := b.world(); after.Rules != before.Rules || !cmp.Equal(after.Sysctls, before.Sysctls) {
				t.Errorf("the world is another one:\n%s", cmp.Diff(before, after))
			}
			w.commit, b.hook.commit = nil, nil
			b.mustApply(policyDocker)
			b.mustDelete()
			b.wantUsers("after delete", userDrop, userReturn)
		})
	}
}

// Docker may make its chains anew at any time.
func TestDockerRestartsMeanwhile(t *testing.T) {
	b, w := newDockerBench(t)
	b.mustApply(policyDockerMore)
	restarts := 0
	w.commit = func(_ ruleset.UserChain, remove, _ []string, through func() error) error {
		if len(remove) > 0 && restarts == 0 {
			restarts++
			b.host.Run(t, "iptables-nft", "-F", "DOCKER-USER")
		}
		return through()
	}
	b.mustApply(policyDocker)
	b.wantUsers("after a restart in between", dockerIn, dockerOut, dockerLAN)
	// The chain itself may be gone.
	w.commit = func(_ ruleset.UserChain, remove, _ []string, through func() error) error {
		if len(remove) > 0 && restarts == 1 {
			restarts++
			b.host.Run(t, "iptables-nft", "-F")
			b.host.Run(t, "iptables-nft", "-X")
		}
		return through()
	}
	b.mustDelete()
	if restarts != 2 {
		t.Errorf("%d restarts", restarts)
	}
	if rules := b.host.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "ipmasq") {
		t.Errorf("delete left\n%s", rules)
	}
}

// A rollback is an apply, and so is going back from what nobody confirmed.
func TestDockerRollback(t *testing.T) {
	b, _ := newDockerBench(t)
	b.mustApply(policyA)
	b.mustApply(policyDocker)
	if _, err := b.Rollback(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.wantUsers("after rollback", userDrop, userReturn)
	if _, err := b.Rollback(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.wantUsers("after rollback forth", dockerIn, dockerOut, dockerLAN, userDrop, userReturn)
	s, err := b.Status(t.Context())
	if err != nil || s.Drifted() || len(s.Docker) != 1 {
		t.Errorf("status: %+v, %v", s, err)
	}
	b.host.Run(t, "iptables-nft", "-D", "DOCKER-USER", "1")
	if s, err = b.Status(t.Context()); err != nil || !s.Drifted() || len(s.DockerDrift.Added()) != 1 {
		t.Errorf("status after drift: %+v, %v", s, err)
	}
	b.mustDelete()
	b.wantUsers("after delete", userDrop, userReturn)
}

// A state that was lost leaves nothing behind either.
func TestDockerForgotten(t *testing.T) {
	b, _ := newDockerBench(t)
	b.mustApply(policyDocker)
	lost := benchOn(t, b.host, t.TempDir())
	lost.UserChains = b.UserChains
	lost.mustDelete()
	b.wantUsers("after delete without state", userDrop, userReturn)
}

// Programs that are missing are said before anything is changed.
func TestDockerWithoutPrograms(t *testing.T) {
	b, _ := newDockerBench(t)
	before := b.world()
	t.Setenv("PATH", t.TempDir())
	_, err := b.apply(policyDocker)
	if !errors.Is(err, backend.ErrNotSupported) || !strings.Contains(err.Error(), "gateway.docker: ") {
		t.Errorf("apply: %v", err)
	}
	if _, err := b.apply(policyA); err != nil {
		t.Errorf("apply without the key: %v", err)
	}
	b.mustDelete()
	t.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	if after := b.world(); after.Rules != before.Rules {
		t.Errorf("the rules are others:\n%s", cmp.Diff(before.Rules, after.Rules))
	}
}

// Whenever ipmasq is killed, what judges stands behind what Docker lets pass, and the
// next apply or delete leads where it should.
func TestDockerKilled(t *testing.T) {
	applying := []string{"state", "docker off", "commit", "read back", "sysctls", "docker", "remember"}
	for _, c := range []struct {
		name, before, do string
		steps            []string
	}{
		{"apply", "", policyDocker, applying},
		{"less", policyDockerMore, policyDocker, applying},
		{"without the key", policyDocker, policyA, []string{"state", "docker off", "docker", "remember"}},
		{"delete", policyDocker, "", []string{"docker off", "sysctls", "commit", "forget"}},
	} {
		for _, step := range c.steps {
			t.Run(c.name+" after "+strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
				b, _ := newDockerBench(t)
				if c.before != "" {
					b.mustApply(c.before)
				}
				b.crashAfter(step, c.do, "")
				ours := slices.ContainsFunc(b.users(), func(rule string) bool { return strings.Contains(rule, "ipmasq") })
				if ours && !strings.Contains(b.world().Rules, "chain forward_from_lan") {
					t.Error("Docker lets pass what no rule of ours judges")
				}
				if c.do == "" {
					b.mustDelete()
					b.wantUsers("after delete", userDrop, userReturn)
					return
				}
				b.mustApply(c.do)
				if c.do == policyDocker {
					b.wantUsers("after apply", dockerIn, dockerOut, dockerLAN, userDrop, userReturn)
				} else {
					b.wantUsers("after apply", userDrop, userReturn)
				}
				b.mustDelete()
				b.wantUsers("after delete", userDrop, userReturn)
			})
		}
	}
}
