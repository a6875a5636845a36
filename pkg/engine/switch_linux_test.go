package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	legacy     = "iptables-legacy"
	iptNFT     = "iptables-nft"
	nft        = "nftables"
	crashFound = "IPMASQ_TEST_CRASH_IPTABLES" // what the host of the process that crashes calls iptables
)

// on has a policy name a backend.
func on(backend, text string) string {
	if backend != nft {
		backend = "iptables"
	}
	return strings.Replace(text, "version: 1\n", "version: 1\ngateway: {backend: "+backend+"}\n", 1)
}

// all are the backends of a host. Each table of iptables is a step.
type all struct {
	choice string // what iptables is
	known  map[string]*hooked
}

func backendsOf(e *engine.Engine, enter func(func() error) error, choice string) *all {
	a := &all{choice, map[string]*hooked{nft: {Backend: nftables.New(enter)}}}
	e.Backend = a.known[nft]
	e.Backends = func(name string) (backend.Backend, error) {
		if name == "iptables" {
			name = a.choice
		}
		if h := a.known[name]; h != nil {
			return h, nil
		}
		b, err := iptables.New(enter, name)
		if err != nil {
			return nil, err
		}
		b.Committed = func(f ruleset.Family, table string) {
			if e.Step != nil {
				e.Step(fmt.Sprintf("%s %v %s", name, f, table), 0)
			}
		}
		a.known[name] = &hooked{Backend: b}
		return a.known[name], nil
	}
	return a
}

// several is a bench with all backends.
type several struct {
	*bench
	*all
}

func newSeveral(t *testing.T, choice string) *several {
	t.Helper()
	lab.Require(t, lab.Binary(legacy), lab.Binary(iptNFT))
	b := newBench(t)
	return &several{b, backendsOf(b.Engine, b.NetNS.Do, choice)}
}

// held is what each backend holds, table by table.
func (s *several) held() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, name := range []string{nft, legacy, iptNFT} {
		b, err := s.Backends(name)
		if err != nil {
			s.t.Fatal(err)
		}
		have, err := b.Have(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		if name == nft {
			if !have.Empty() {
				out[nft] = have.Digest()
			}
			continue
		}
		for _, c := range have.Chains {
			parts := strings.SplitN(c.Name, " ", 3)
			text := c.Name + "\n"
			for _, r := range c.Rules {
				text += string(r.Body) + "\n"
			}
			out[name+" "+parts[0]+" "+parts[1]] += text
		}
	}
	return out
}

// of is what one backend holds.
func of(name string, held map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range held {
		if strings.HasPrefix(k, name) {
			out[k] = v
		}
	}
	return out
}

// whole says whether a backend has all of its old rules, or of its new; each table
// may be either, and nat what translates as both do.
func whole(name string, now, from, to map[string]string) bool {
	now, from, to = of(name, now), of(name, from), of(name, to)
	if len(from) == 0 || len(to) == 0 { // it is to have them at the end, or was to until now
		return len(now) > 0 && (maps.Equal(now, from) || maps.Equal(now, to))
	}
	for k := range now {
		if now[k] != from[k] && now[k] != to[k] && !(strings.HasSuffix(k, " nat") && wide(now[k], from[k], to[k])) {
			return false
		}
	}
	for k := range from {
		if to[k] != "" && now[k] == "" {
			return false
		}
	}
	return true
}

// wide says whether a table has all rules of one of two, and none that neither has.
func wide(now, from, to string) bool {
	rules := func(text string) map[string]bool {
		out := map[string]bool{}
		for l := range strings.Lines(text) {
			out[strings.Replace(l, " -g ", " -j ", 1)] = true // it comes back meanwhile
		}
		return out
	}
	is, old, next := rules(now), rules(from), rules(to)
	all := func(of map[string]bool) bool {
		for l := range of {
			if !is[l] {
				return false
			}
		}
		return true
	}
	for l := range is {
		if !old[l] && !next[l] {
			return false
		}
	}
	return all(old) || all(next)
}

// change is a way from what is in force to something else.
type change struct {
	name     string
	start    []string // policies that are applied before
	do       string   // as crash has it
	iptables string   // what the host calls iptables before, and then
	then     string
	window   string // in which it has to be confirmed; "": it need not
}

func changes() []change {
	out := []change{}
	for _, v := range []string{legacy, iptNFT} {
		other := map[string]string{legacy: iptNFT, iptNFT: legacy}[v]
		a, b := on(v, policyA), on(v, policyB)
		out = append(out,
			change{"first apply on " + v, nil, a, v, v, ""},
			change{"another policy on " + v, []string{a}, b, v, v, ""},
			change{"rollback on " + v, []string{a, b}, back, v, v, ""},
			change{"delete on " + v, []string{a}, "", v, v, ""},
			change{"nftables to " + v, []string{policyA}, b, v, v, ""},
			change{v + " to nftables", []string{a}, policyB, v, v, ""},
			change{"nftables to " + v + " on trial", []string{policyA}, b, v, v, "1ms"},
			change{v + " to nftables on trial", []string{a}, policyB, v, v, "1ms"},
			change{v + " back to nftables", []string{policyA, b}, back, v, v, ""},
			change{v + " to " + other, []string{a}, a, v, other, ""},
		)
	}
	return out
}

// begin brings a host to where a change begins.
func (c *change) begin(t *testing.T) *several {
	t.Helper()
	s := newSeveral(t, c.iptables)
	for _, text := range c.start {
		s.mustApply(text)
	}
	s.choice = c.then
	return s
}

// carry carries a change out, and gives the steps that it took.
func (c *change) carry(s *several) (steps []string, err error) {
	last := s.Step
	s.Step = func(name string, took time.Duration) {
		steps = append(steps, name)
		if last != nil {
			last(name, took)
		}
	}
	defer func() { s.Step = last }()
	switch c.do {
	case "":
		_, err = s.Delete(context.Background(), false)
	case back:
		_, err = s.Rollback(context.Background(), "")
	default:
		if c.window != "" {
			s.Window = &engine.Window{For: time.Hour, Guard: func(*state.Unconfirmed) error { return nil }}
		}
		_, err = s.apply(c.do)
		s.Window = nil
	}
	return steps, err
}

// Whenever ipmasq is killed on the way from one backend to another, or to another
// policy of iptables, forwarding is never on without one that is whole; and the
// next apply or delete leads where it should, and leaves nothing anywhere else.
func TestKilledBetweenBackends(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.begin(t)
			from := s.held()
			steps, err := c.carry(s)
			if err != nil {
				t.Fatal(err)
			}
			to := s.held()
			for i, step := range steps {
				switch step {
				case "facts", "compile", "encode", "read": // nothing is changed yet
					continue
				}
				name := fmt.Sprintf("killed after %d %s", i, step)
				s := c.begin(t)
				s.killAfter(step, c)
				now := s.held()
				forwards := s.host.GetSysctl("net.ipv4.ip_forward") == "1"
				if forwards && !whole(nft, now, from, to) && !whole(legacy, now, from, to) && !whole(iptNFT, now, from, to) {
					t.Errorf("%s: it forwards, and no backend is whole: %v", name, cmp.Diff(from, now))
				}
				state, err := s.State.Load()
				if err != nil {
					t.Fatalf("%s: the state: %v", name, err)
				}
				if _, err := s.Status(context.Background()); err != nil {
					t.Errorf("%s: status: %v", name, err)
				}
				if u := state.Unconfirmed; u != nil { // its guard goes on
					s.expire(u.ID)
					if diff := cmp.Diff(from, s.held()); diff != "" {
						t.Errorf("%s: the guard does not lead back to what was before: %s", name, diff)
					}
				} else if c.window != "" && !maps.Equal(now, from) {
					t.Errorf("%s: a policy is in force that nobody confirmed, and nothing says so", name)
				}
				if i%2 == 0 { // else delete is what comes next
					s.mustApply(policyB)
					if now := s.held(); len(now) != 1 || now[nft] == "" {
						t.Errorf("%s, and an apply later: %v", name, now)
					}
					s.wantSysctl("net.ipv4.ip_forward", "1")
				}
				s.mustDelete()
				if left := s.held(); len(left) > 0 {
					t.Errorf("%s, and a delete later: %v is left", name, left)
				}
				s.wantSysctl("net.ipv4.ip_forward", "0")
			}
		})
	}
}

// killAfter is crashAfter on a host with all backends.
func (s *several) killAfter(step string, c change) {
	s.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashFound+"="+c.then, crashWindow+"="+c.window, crashAt+"="+step, crashNetNS+"="+s.host.NetNS(), crashState+"="+s.dir, crashPolicy+"="+c.do)
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("%q was not reached: %v\n%s", step, err, out)
	}
}

// Where a step fails on the way from one backend to another, the one before is in
// force as it was, and nothing is left of the other; what failed works when the
// reason is gone.
func TestFailsBetweenBackends(t *testing.T) {
	t.Parallel()
	faults := map[string]func(s *several, from, to *hooked){
		"the new rules are refused": func(_ *several, _, to *hooked) {
			to.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
		},
		"the new rules cannot be read back": func(s *several, _, to *hooked) {
			s.after("commit", func() {
				to.have = func(*plan.Snapshot) (*plan.Snapshot, error) { to.have = nil; return nil, errInjected }
			})
		},
		"the old rules stay": func(_ *several, from, _ *hooked) {
			from.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
		},
		"the state cannot be written": func(s *several, from, _ *hooked) {
			from.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
				err := commit(c)
				if err == nil && c.To.Empty() {
					err = errors.Join(err, os.Rename(s.dir, s.dir+".away"))
				}
				return err
			}
		},
	}
	for name, put := range faults {
		for _, c := range changes() {
			if len(c.start) != 1 || !strings.Contains(c.name, " to ") || c.window != "" {
				continue
			}
			t.Run(name+", "+c.name, func(t *testing.T) {
				t.Parallel()
				s := c.begin(t)
				from, before := s.held(), s.world().Sysctls
				for _, name := range []string{legacy, iptNFT} { // known from here on
					if _, err := s.Backends(name); err != nil {
						t.Fatal(err)
					}
				}
				held, taken := nft, nft
				if !strings.HasPrefix(c.name, nft) {
					held = c.iptables
				}
				if !strings.HasSuffix(c.name, nft) {
					taken = c.then
				}
				put(s, s.known[held], s.known[taken])
				_, err := c.carry(s)
				if err == nil {
					t.Fatal("it did not fail")
				}
				s.Step, s.known[held].commit, s.known[taken].commit, s.known[taken].have = nil, nil, nil, nil
				if _, err := os.Stat(s.dir + ".away"); err == nil {
					if err := errors.Join(os.RemoveAll(s.dir), os.Rename(s.dir+".away", s.dir)); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(from, s.held()); diff != "" {
					t.Errorf("rules are not as they were (%v): %s", err, diff)
				}
				if diff := cmp.Diff(before, s.world().Sysctls); diff != "" {
					t.Errorf("sysctls are not as they were: %s", diff)
				}
				if _, err := c.carry(s); err != nil {
					t.Fatal(err)
				}
				if now := s.held(); len(of(taken, now)) != len(now) {
					t.Errorf("rules are in more than %s: %v", taken, now)
				}
				s.mustDelete()
				if left := s.held(); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
			})
		}
	}
}
