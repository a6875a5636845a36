package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// rewrite changes the state as somebody else may.
func (b *bench) rewrite(change func(s *state.State)) {
	b.t.Helper()
	s, err := b.State.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	change(s)
	if err := b.State.Save(*s); err != nil {
		b.t.Fatal(err)
	}
}

// edit changes what is kept of the rules.
func (b *bench) edit(change func(text []byte) []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, "rules")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(text), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// rulesOf is what a policy makes of a fresh host.
func rulesOf(t *testing.T, text string) string {
	t.Helper()
	b := newBench(t)
	b.mustApply(text)
	return b.world().Rules
}

// One more forward must not cost the reading of all the others.
func TestWhatWasReadBackIsNotReadAgain(t *testing.T) {
	t.Parallel()
	want := map[string]string{policyA: rulesOf(t, policyA), policyB: rulesOf(t, policyB)}
	b := newBench(t)
	b.mustApply(policyA)
	if b.hook.reads != 1 {
		t.Errorf("the first apply read %d times, want 1", b.hook.reads)
	}
	for _, text := range []string{policyB, policyA, policyA, policyB} {
		b.mustApply(text)
		if got := b.world().Rules; got != want[text] {
			t.Errorf("the rules are\n%s\nand should be\n%s", got, want[text])
		}
	}
	if _, err := b.Plan(context.Background(), parse(t, policyA)); err != nil {
		t.Error(err)
	}
	if b.hook.reads != 1 {
		t.Errorf("everything was read %d times, want once", b.hook.reads)
	}

	// Others' changes are found out about once.
	b.host.Run(t, "nft", "add", "table", "ip", "foreign")
	b.mustApply(policyB)
	b.mustApply(policyA)
	if b.hook.reads != 2 {
		t.Errorf("after a foreign change everything was read %d times, want twice", b.hook.reads)
	}
}

// What is not surely the kernel's is read from it.
func TestWhatIsReadAgain(t *testing.T) {
	t.Parallel()
	want := rulesOf(t, policyB)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, b *bench)
	}{
		{"foreign element", func(t *testing.T, b *bench) {
			b.host.Run(t, "nft", "add element inet ipmasq port_forward_from_wan_tcp_v4 { 99 : 192.168.1.9 . 99 }")
		}},
		{"foreign rule", func(t *testing.T, b *bench) { b.host.Run(t, "nft", "insert rule inet ipmasq forward accept") }},
		{"foreign table", func(t *testing.T, b *bench) { b.host.Run(t, "nft", "add table ip x; delete table ip x") }},
		{"flush ruleset", func(t *testing.T, b *bench) { b.host.Run(t, "nft", "flush ruleset") }},
		{"reboot", func(t *testing.T, b *bench) {
			b.host.Run(t, "nft", "flush ruleset")
			b.rewrite(func(s *state.State) {
				name, _, _ := strings.Cut(s.NetNS, "@")
				s.NetNS, s.Generation = name+"@0c1d8b56-0000-4000-8000-000000000000", b.generation()
			})
		}},
		{"inode of a namespace that is gone", func(t *testing.T, b *bench) {
			b.host.Run(t, "nft", "flush ruleset")
			b.rewrite(func(s *state.State) {
				name, boot, _ := strings.Cut(s.NetNS, "@")
				parts := strings.Split(name, ":")
				s.NetNS, s.Generation, s.Sysctls = parts[0]+":"+parts[1]+":1@"+boot, b.generation(), nil
			})
		}},
		{"state of a version that knew no cookie", func(t *testing.T, b *bench) {
			b.rewrite(func(s *state.State) {
				name, boot, _ := strings.Cut(s.NetNS, "@")
				parts := strings.Split(name, ":")
				s.NetNS = parts[0] + ":" + parts[1] + "@" + boot
			})
		}},
		{"state of a version that kept no rules", func(t *testing.T, b *bench) {
			if err := os.Remove(filepath.Join(b.dir, "rules")); err != nil {
				t.Fatal(err)
			}
		}},
		{"another state folder", func(t *testing.T, b *bench) {
			other := benchOn(t, b.host, b.dir+".other")
			other.mustApply(policyV6)
		}},
		{"older version", func(t *testing.T, b *bench) {
			b.edit(func(text []byte) []byte {
				line, rules, _ := bytes.Cut(text, []byte("\n"))
				return append(append(line[:len(line)-1], "x\n"...), rules...)
			})
		}},
		{"rules of another policy", func(t *testing.T, b *bench) {
			other := benchOn(t, newBench(t).host, b.dir+".other")
			other.mustApply(policyV6)
			b.edit(func(text []byte) []byte {
				line, _, _ := bytes.Cut(text, []byte("\n"))
				rules, err := os.ReadFile(filepath.Join(other.dir, "rules"))
				if err != nil {
					t.Fatal(err)
				}
				_, rules, _ = bytes.Cut(rules, []byte("\n"))
				return append(append(bytes.Clone(line), '\n'), rules...)
			})
		}},
		{"cut off", func(t *testing.T, b *bench) { b.edit(func(text []byte) []byte { return text[:len(text)-1] }) }},
		{"empty", func(t *testing.T, b *bench) { b.edit(func([]byte) []byte { return nil }) }},
		{"edited", func(t *testing.T, b *bench) {
			b.edit(func(text []byte) []byte { return bytes.Replace(text, []byte("forward"), []byte("forwarb"), 1) })
		}},
		{"edited state", func(t *testing.T, b *bench) {
			b.rewrite(func(s *state.State) { s.Rules = strings.Repeat("0", len(s.Rules)) })
		}},
		{"generation of an edited state", func(t *testing.T, b *bench) {
			b.host.Run(t, "nft", "flush ruleset")
			b.rewrite(func(s *state.State) { s.Generation = b.generation() })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.mustApply(policyA)
			reads := b.hook.reads
			c.change(t, b)
			b.mustApply(policyB)
			if b.hook.reads == reads {
				t.Error("the kernel was not read")
			}
			if got := b.world().Rules; got != want {
				t.Errorf("the rules are\n%s\nand should be\n%s", got, want)
			}
		})
	}
}

// The state of a namespace says nothing of another one, be its generation the
// same.
func TestRulesOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	first := newBench(t)
	first.mustApply(policyA)
	first.rewrite(func(s *state.State) { s.Sysctls = nil })
	second := benchOn(t, newBench(t).host, first.dir)
	for second.generation() < first.generation() {
		second.host.Run(t, "nft", "add", "table", "ip", fmt.Sprintf("x%d", second.generation()))
	}
	for _, text := range []string{policyA, policyB} {
		pl := second.mustApply(text)
		if pl.Rules.Empty() || !second.inForce(text) {
			t.Error("the policy is not in force")
		}
	}
}

// The host's addresses are part of what a policy compiles to.
func TestChangedFactsChangeTheRules(t *testing.T) {
	t.Parallel()
	const text = `version: 1
zones:
  lan: {interfaces: [eth1]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.10:8080"}
`
	b := newBench(t)
	b.host.Run(t, "ip", "link", "add", "eth1", "type", "bridge")
	b.mustApply(text)
	before := b.world().Rules
	b.host.Run(t, "ip", "address", "add", "192.168.1.1/24", "dev", "eth1")
	reads := b.hook.reads
	b.mustApply(text)
	after := b.world().Rules
	if after == before {
		t.Fatal("the address changes nothing")
	}
	if b.hook.reads != reads {
		t.Error("the kernel was read, and nobody has changed it")
	}
	if have, err := b.hook.Have(context.Background()); err != nil || !plan.Diff(have, b.wanted(text)).Empty() {
		t.Errorf("the policy is not in force: %v", err)
	}
}

// Whoever commits between the commit and its reading back may have undone it.
func TestReadingBackSeesWhatOthersDo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mustApply(policyA)
	b.after("commit", func() { b.host.Run(t, "nft", "delete element inet ipmasq port_forward_from_wan_tcp_v4 { 80 }") })
	if _, err := b.apply(policyB); err == nil {
		t.Error("the element is gone, and apply says nothing")
	}
	b.Step = nil
	if !b.inForce(policyA) {
		t.Error("what was in force is not put back")
	}
}

// What the kernel refuses because its rules are not what was remembered is made
// again from what they are, and what it refuses then is said.
func TestRefusalOfWhatWasRemembered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mustApply(policyA)
	before, tries := b.world(), 0
	b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
		tries++
		return &backend.Refused{Object: "all", Err: errInjected}
	}
	if _, err := b.apply(policyB); err == nil || tries != 2 || b.hook.reads != 2 {
		t.Errorf("%d attempts, read %d times: %v", tries, b.hook.reads, err)
	}
	b.wantWorld(before)
}

// wanted is what a policy compiles to on this host.
func (b *bench) wanted(text string) *plan.Snapshot {
	b.t.Helper()
	pl, err := b.Plan(context.Background(), parse(b.t, text))
	if err != nil {
		b.t.Fatal(err)
	}
	return pl.Rules.To
}

// A set that is made anew goes on counting from what it has counted, which is
// not kept.
func TestCountsAreReadForASetMadeAnew(t *testing.T) {
	t.Parallel()
	forwards := func(n int) string {
		text := policyNone + "zones:\n  lan: {interfaces: [eth1]}\n  wan: {interfaces: [eth0]}\nport_forward:\n"
		for i := range n {
			text += fmt.Sprintf("  - {name: f%d, from: wan, protocol: tcp, ports: %d, to: '192.168.1.10:80'}\n", i, 1+2*i)
		}
		return text
	}
	b := newBench(t)
	b.mustApply(forwards(10))
	reads := b.hook.reads
	b.mustApply(forwards(11))
	if b.hook.reads != reads {
		t.Error("one more was read for")
	}
	pl := b.mustApply(forwards(5000)) // a hash of another size
	if !slices.ContainsFunc(pl.Rules.Sets, func(c plan.SetChange) bool { return c.Kind == plan.Replace }) {
		t.Fatal("no set is made anew")
	}
	if b.hook.reads != reads+1 {
		t.Errorf("read %d times, want once", b.hook.reads-reads)
	}
}

// Status and delete read what counts; the rest only where somebody may have
// changed it.
func TestWhatDoesNotCountIsNotReadAgain(t *testing.T) {
	t.Parallel()
	const text = "version: 1\nsets:\n  blocked: [198.51.100.0/24, 192.0.2.1-192.0.2.7]\n" +
		"zones:\n  lan: {interfaces: eth1, networks: 192.168.1.0/24}\n  wan: {interfaces: eth0}\nmasquerade:\n  - {from: lan, to: wan}\n" +
		"port_forward:\n  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}\n" +
		"forward:\n  rules:\n    - {from: lan, destinations: '@blocked', action: drop}\n"
	b := newBench(t)
	b.mustApply(text)
	status := func(drifted bool, reads int) {
		t.Helper()
		s, err := b.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if s.Drifted() != drifted || b.hook.reads != reads {
			t.Errorf("drifted: %v, and everything was read %d times; want %v and %d", s.Drifted(), b.hook.reads, drifted, reads)
		}
	}
	status(false, 1)
	if d, err := b.Delete(context.Background(), true); err != nil || d.Empty() || b.hook.reads != 1 {
		t.Errorf("delete: %v, and everything was read %d times", err, b.hook.reads)
	}
	var sets []string
	for line := range strings.Lines(b.host.Run(t, "nft", "list", "sets", "inet")) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "set "); found {
			sets = append(sets, strings.TrimSuffix(name, " {"))
		}
	}
	blocked := slices.IndexFunc(sets, func(name string) bool { return strings.Contains(name, "blocked") })
	if blocked < 0 {
		t.Fatalf("no set is the policy's: %q", sets)
	}
	b.host.Run(t, "nft", "add", "element", "inet", "ipmasq", sets[blocked], "{ 203.0.113.77 }")
	status(true, 2)
	b.mustApply(text)
	reads := b.hook.reads
	status(false, reads)
	b.mustDelete()
	if b.hook.reads != reads {
		t.Errorf("delete read everything")
	}
	if left := b.world().Rules; left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}
