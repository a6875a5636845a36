package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

// crashes is how often ipmasq is killed; IPMASQ_TEST_CRASHES asks for more,
// IPMASQ_TEST_SEED for the same ones again.
const crashes = 60

const (
	crashA = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}
`
	crashB = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  dmz: {interfaces: [eth2]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.11}
  - {name: dns, from: wan, protocol: udp, ports: 53, to: 192.168.1.10}
`
)

// victim is a host on which ipmasq is killed, and what it may look like.
type victim struct {
	t       *testing.T
	host    *lab.Host
	dir     string
	files   map[string]string // of each policy
	engine  *engine.Engine
	backend backend.Backend
	looks   map[string]string            // by policy; "" for none
	variant string                       // of iptables; "" is nftables
	parts   map[string]map[string]string // on iptables: the tables of each look
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	host := l.Host("gw")
	ns, err := link.OpenNetNS(host.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	v := &victim{t: t, host: host, dir: filepath.Join(l.Dir(), "state"), variant: variant.Named(t),
		files: map[string]string{}, looks: map[string]string{}, parts: map[string]map[string]string{}}
	folder, err := state.Open(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	if v.engine, err = newEngine(ns, folder, t.Logf); err != nil {
		t.Fatal(err)
	}
	v.backend = v.engine.Backend
	if v.variant != "" {
		bin := filepath.Join(l.Dir(), "bin")
		variant.Links(t, bin, v.variant)
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		if v.backend, err = v.engine.Backends(v.variant); err != nil {
			t.Fatal(err)
		}
	}
	v.looks[""] = v.look()
	for name, text := range map[string]string{"a.yaml": crashA, "b.yaml": crashB} {
		v.files[text] = filepath.Join(l.Dir(), name)
		whole := text
		if v.variant != "" {
			whole = onIPTables(text)
		}
		if err := os.WriteFile(v.files[text], []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		v.apply(text)
		v.looks[text] = v.look()
		if v.variant != "" {
			v.parts[text] = v.tables()
		}
		v.delete()
	}
	return v
}

func (v *victim) apply(text string) {
	v.t.Helper()
	p, err := policy.Load([]string{v.files[text]}, policy.LoadOptions{})
	if err == nil {
		_, err = v.engine.Apply(context.Background(), p)
	}
	if err != nil {
		v.t.Fatalf("apply: %v", err)
	}
}

func (v *victim) delete() {
	v.t.Helper()
	if _, err := v.engine.Delete(context.Background(), false); err != nil {
		v.t.Fatalf("delete: %v", err)
	}
}

// look is what the kernel holds: as nft lists it, with its objects in one
// order, and as the backend reads it, in the order of its rules; or as
// iptables-save does.
func (v *victim) look() string {
	v.t.Helper()
	if v.variant != "" {
		return written(v.tables())
	}
	lines := strings.FieldsFunc(v.host.Run(v.t, "nft", "-s", "list", "ruleset"), func(r rune) bool { return strings.ContainsRune(",{}\n", r) })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	have, err := v.backend.Have(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	return strings.Join(lines, "\n") + have.Digest()
}

// run runs the program and kills it after a while, unless that is zero.
func (v *victim) run(kill time.Duration, args ...string) (took time.Duration) {
	v.t.Helper()
	cmd := exec.Command("ipmasq", append(args, "--netns", v.host.NetNS(), "--state-dir", v.dir)...)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	if kill > 0 {
		time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
	}
	if err := cmd.Wait(); err != nil && kill == 0 {
		v.t.Fatalf("ipmasq %s: %v", strings.Join(args, " "), err)
	}
	took = time.Since(start)
	if kill > 0 { // what it has started ends a moment later
		unlock, err := v.engine.State.Lock(context.Background(), nil)
		if err != nil {
			v.t.Fatal(err)
		}
		unlock()
	}
	return took
}

// Power fails and the OOM killer strikes at any time, not only between steps.
// Whenever it is, the rules are the old or the new, whole, or with iptables each
// table of them; without rules the host does not forward; the state can be read; the next apply leads to its
// policy; and a delete puts all back.
func TestKilledAtAnyTime(t *testing.T) {
	runs, seed := crashes, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(n uint64){
		"IPMASQ_TEST_CRASHES": func(n uint64) { runs = int(n) },
		"IPMASQ_TEST_SEED":    func(n uint64) { seed = n },
	} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			set(n)
		}
	}
	t.Logf("%d runs, IPMASQ_TEST_SEED=%d", runs, seed)
	v := newVictim(t)
	random := rand.New(rand.NewPCG(seed, 0))
	ways := []struct {
		name, from, to string
		args           []string
	}{
		{"first apply", "", crashA, []string{"apply", v.files[crashA]}},
		{"another policy", crashA, crashB, []string{"apply", v.files[crashB]}},
		{"delete", crashB, "", []string{"delete"}},
		{"rollback", crashB, crashA, []string{"rollback"}},
		{"rollback to nothing", crashA, "", []string{"rollback"}},
		{"first to be confirmed", "", crashA, []string{"apply", "--confirm", "1s", v.files[crashA]}},
		{"another to be confirmed", crashA, crashB, []string{"apply", "--confirm", "1s", v.files[crashB]}},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			v.t = t
			args := way.args
			start := func() {
				if way.name == "rollback to nothing" { // which only a policy that waits to be confirmed allows
					v.start("")
					v.run(0, "apply", "--confirm", "60s", v.files[crashA])
					return
				}
				v.start(way.from)
				if way.name == "rollback" {
					v.delete()
					v.apply(crashA)
					v.apply(crashB)
				}
			}
			// As long as it takes on this machine, now.
			var whole time.Duration
			for range 3 {
				start()
				whole = max(whole, v.run(0, args...))
			}
			ends := map[string]int{}
			for n := range (runs + len(ways) - 1) / len(ways) {
				start()
				after := time.Duration(random.Int64N(int64(whole))) + 1
				v.run(after, args...)
				when := fmt.Sprintf("killed after %v of %v", after, whole)
				end := v.judge(way.from, way.to, when)
				ends[end]++
				if slices.Contains(args, "--confirm") {
					v.judgeWindow(way.from, end == "done", when)
				}
				if way.name == "rollback to nothing" { // unless it came to its end, it waits still, and takes no other
					v.delete()
				}
				if n%2 == 0 { // else delete is what comes next
					v.apply(crashB)
					if v.look() != v.looks[crashB] {
						t.Errorf("%s: the next apply does not lead to its policy", when)
					}
				}
				v.run(0, "delete")
				if look := v.look(); look != v.looks[""] {
					t.Errorf("%s: the next delete leaves\n%s", when, look)
				}
			}
			t.Logf("%v as before, %v between, %v done", ends["before"], ends["between"], ends["done"])
		})
	}
	v.t = t
	v.delete()
}

// start brings the host to where a run begins, with forwarding off before the
// first apply.
func (v *victim) start(text string) {
	v.t.Helper()
	v.delete()
	if v.look() != v.looks[""] || v.host.GetSysctl("net.ipv4.ip_forward") != "0" {
		v.t.Fatal("delete does not put everything back")
	}
	if text != "" {
		v.apply(text)
	}
}

// judgeWindow sees to it that what nobody confirmed goes back, whatever became
// of the apply.
func (v *victim) judgeWindow(from string, done bool, when string) {
	v.t.Helper()
	s, err := v.engine.State.Load()
	switch {
	case err != nil:
		v.t.Fatalf("%s: %v", when, err)
	case s.Unconfirmed == nil && done:
		v.t.Errorf("%s: the policy is in force, and nothing says that it is not confirmed", when)
	case s.Unconfirmed != nil && !until(func() bool { s, err := v.engine.State.Load(); return err == nil && s.Unconfirmed == nil }):
		v.t.Fatalf("%s: it does not go back by itself", when)
	}
	if look := v.look(); look != v.looks[from] {
		v.t.Errorf("%s: what was before is not in force again, but\n%s", when, look)
	}
	if from == "" && v.host.GetSysctl("net.ipv4.ip_forward") != "0" {
		v.t.Errorf("%s: the host still forwards", when)
	}
	if now := v.host.GetSysctl("net.ipv6.conf.all.forwarding"); now != "0" { // only the second policy needs it
		v.t.Errorf("%s: the host still forwards IPv6", when)
	}
	v.noGuards()
}

func (v *victim) judge(from, to, when string) string {
	v.t.Helper()
	if _, err := v.engine.State.Load(); err != nil {
		v.t.Errorf("%s: the state: %v", when, err)
	}
	look, forwards := v.look(), v.host.GetSysctl("net.ipv4.ip_forward")
	if look == v.looks[""] && forwards != "0" {
		v.t.Errorf("%s: the host forwards without rules", when)
	}
	if v.variant != "" {
		return v.judgeTables(from, to, when)
	}
	switch look {
	case v.looks[from]:
		return "before"
	case v.looks[to]:
		return "done"
	}
	v.t.Fatalf("%s: the rules are neither the old nor the new:\n%s", when, look)
	return ""
}
