// Package gallery holds broken gateways, each with what `ipmasq doctor` has to
// say of it first, and healthy ones, on which it has nothing to say.
//
// A gateway is built in the lab, broken as it gets broken in life, and the program
// looks at it as a user would have it do. Then the commands that it prints are
// carried out, and what it found has to be gone: advice that does not help fails.
package gallery

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

func TestMain(m *testing.M) {
	if f := flag.Lookup("test.parallel"); f != nil { // most of the time is spent waiting; a -parallel on the command line wins
		_ = f.Value.Set("4")
	}
	lab.Main(m)
}

// exhibit is a gateway.
type exhibit struct {
	name string
	// options change the topology, and build what stands around it before the
	// policy is applied.
	options []lab.GatewayOption
	build   func(t *testing.T, g *gateway)
	// policy is applied, unless it is only given to doctor; "" is none.
	policy string
	given  bool
	args   []string // of doctor
	// breaks breaks it, behind the apply.
	breaks func(t *testing.T, g *gateway)
	// passes is traffic that the mistake stops. It must not pass before, and must
	// when the gateway is mended; on a healthy one it must. Nil: it stops nothing.
	passes traffic
	// first is the finding that must come first, and severity what it is; "" is a
	// healthy gateway, of which only notes may be said.
	first, severity string
	// passing says that what is found stops nothing of what breaks tries.
	passing bool
	// evidence has to be in what is said for it.
	evidence string
	// mend is carried out where the finding has no command, and behind its
	// commands; byHand says why neither can be here.
	mend   func(t *testing.T, g *gateway)
	byHand string
	// there changes what is to be seen where ipmasq's rules are in a variant of
	// iptables.
	there func(x *exhibit, variant string)
}

// gateway is one with ipmasq on it.
type gateway struct {
	*lab.Topology
	dir     string // of the policy and the state
	program string
	variant string // of iptables; "" is nftables
	open    bool   // nothing that breaks it stops anything
}

func newGateway(t *testing.T, options ...lab.GatewayOption) *gateway {
	t.Helper()
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("conntrack"), lab.Binary("sysctl"), lab.Binary("nsenter"))
	topo := lab.Gateway(t, options...)
	g := &gateway{Topology: topo, dir: topo.Dir(), variant: variant.Named(t)}
	g.program = variant.Program(t, g.dir, g.variant, built.Ipmasq(t))
	return g
}

// finding is what doctor says in JSON.
type finding struct {
	ID, Severity, Title string
	Evidence, Mend      []string
}

// show builds every exhibit and looks at it.
func show(t *testing.T, exhibits []exhibit) {
	for _, x := range exhibits {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, x.options...)
			if g.variant != "" && x.there != nil {
				x.there(&x, g.variant)
			}
			g.open = x.first == "" || x.passing
			if x.build != nil {
				x.build(t, g)
			}
			g.write(t, x.policy)
			if x.policy != "" && !x.given {
				g.run(t, 0, "apply", g.file())
			}
			if x.breaks != nil {
				x.breaks(t, g)
			}
			files := slices.Clone(x.args)
			if x.given {
				files = append(files, g.file())
			}
			if x.passes != nil {
				if err := x.passes(g, lab.Silence); err == nil && x.first != "" {
					t.Errorf("nothing is broken: the traffic passes")
				} else if err != nil && x.first == "" {
					t.Errorf("the traffic does not pass: %v", err)
				}
			}
			if x.first == "" {
				g.healthy(t, files...)
				return
			}
			found := g.doctor(t, files...)
			if len(found) == 0 || found[0].ID != x.first {
				t.Fatalf("want %s first, and doctor says\n%s", x.first, text(found))
			}
			f := found[0]
			if f.Severity != x.severity || !strings.Contains(strings.Join(f.Evidence, "\n"), x.evidence) || len(f.Evidence) == 0 || len(f.Mend) == 0 {
				t.Errorf("want %s, with %q, and doctor says\n%s", x.severity, x.evidence, text(found[:1]))
			}
			g.mended(t, x, f, files)
		})
	}
}

// mended does what a finding says, and sees that it is gone.
func (g *gateway) mended(t *testing.T, x exhibit, f finding, files []string) {
	t.Helper()
	if x.byHand != "" {
		return
	}
	if commands := g.carryOut(t, f.Mend); commands == 0 && x.mend == nil {
		t.Fatalf("there is no command to carry out: %q", f.Mend)
	}
	if x.mend != nil {
		x.mend(t, g)
	}
	after := g.doctor(t, files...)
	if slices.ContainsFunc(after, func(a finding) bool { return a.ID == f.ID }) {
		t.Errorf("what was found is not mended by %q: doctor says\n%s", f.Mend, text(after))
	}
	if x.passes != nil {
		if err := x.passes(g, lab.Patience); err != nil {
			t.Errorf("the traffic does not pass when %q was done: %v\n%s", f.Mend, err, text(after))
		}
	}
}

// carryOut carries out the commands of a remedy, and says how many there are.
func (g *gateway) carryOut(t *testing.T, mend []string) int {
	t.Helper()
	commands := slices.DeleteFunc(slices.Clone(mend), func(line string) bool { return strings.HasPrefix(line, "#") })
	if len(commands) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 12*lab.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-ec", strings.Join(commands, "\n"))
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(g.program)+":"+os.Getenv("PATH"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(commands, "\n"), err, out)
	}
	return len(commands)
}

func (g *gateway) file() string { return filepath.Join(g.dir, "policy.yaml") }

// write writes the policy's file.
func (g *gateway) write(t *testing.T, policy string) {
	t.Helper()
	if policy == "" {
		return
	}
	if err := os.WriteFile(g.file(), []byte("version: 1\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
}

// flags are those of every command.
func (g *gateway) flags() []string {
	return []string{"--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}
}

// run runs the program and gives what it printed to stdout. Another exit code
// fails the test.
func (g *gateway) run(t *testing.T, code int, command string, args ...string) string {
	t.Helper()
	out, errs, got := g.try(t, command, args...)
	if got != code {
		t.Fatalf("ipmasq %s: exit code %d, want %d\n%s%s", command, got, code, out, errs)
	}
	return out
}

func (g *gateway) try(t *testing.T, command string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*lab.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, g.program, slices.Concat(strings.Fields(command), g.flags(), args)...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// doctor has the program look, and its exit code agree with what it says.
func (g *gateway) doctor(t *testing.T, args ...string) []finding {
	t.Helper()
	before := g.world(t)
	out, errs, code := g.try(t, "doctor", append([]string{"-o", "json"}, args...)...)
	if after := g.world(t); after != before {
		known := strings.Split(before, "\n")
		for line := range strings.Lines(after) {
			if !slices.Contains(known, strings.TrimSuffix(line, "\n")) {
				t.Errorf("doctor has changed the gateway: %s", line)
			}
		}
	}
	var d struct{ Findings []finding }
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("doctor: %v\n%s%s", err, out, errs)
	}
	want := 0
	if slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Severity != "note" }) {
		want = 2
	}
	if code != want || errs != "" {
		t.Errorf("doctor: exit code %d, want %d\n%s%s", code, want, errs, text(d.Findings))
	}
	return d.Findings
}

// world is what doctor must leave as it is.
func (g *gateway) world(t *testing.T) string {
	t.Helper()
	state, err := os.ReadDir(g.dir + "/state")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	out := g.GW.Run(t, "nft", "-s", "list", "ruleset") + variant.Saved(t, g.GW, "iptables-legacy") + g.GW.GetSysctl("net.ipv4.ip_forward")
	for _, f := range state {
		if info, err := f.Info(); err == nil && f.Name() != "lock" && f.Name() != "daemon.json" { // a daemon's own business
			out += f.Name() + info.ModTime().String() + "\n"
		}
	}
	return out
}

// healthy sees that doctor says so, in one line.
func (g *gateway) healthy(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range g.doctor(t, files...) {
		if f.Severity != "note" {
			t.Errorf("nothing is wrong, and doctor says\n%s", text([]finding{f}))
		}
	}
	out := g.run(t, 0, "doctor", files...)
	if line, _, _ := strings.Cut(out, "\n"); !strings.HasPrefix(line, "nothing is wrong") || !strings.Contains(line, ": looked at ") {
		t.Errorf("doctor says\n%s", out)
	}
}

func text(found []finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(f.Severity + " " + f.ID + ": " + f.Title + "\n  " + strings.Join(f.Evidence, "\n  ") + "\n  mend: " + strings.Join(f.Mend, "\n  mend: ") + "\n")
	}
	return b.String()
}
