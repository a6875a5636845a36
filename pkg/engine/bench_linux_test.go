package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashAt) != "" {
		os.Exit(crash())
	}
	lab.Main(m)
}

// Two policies that differ in every way that a transaction can: a chain, a
// set's elements, a counter, an entry.
const (
	policyA = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.10:8080"}
`
	policyB = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.11:8080"}
  - {name: dns, from: wan, protocol: udp, ports: 53, to: 192.168.1.10}
forward:
  rules:
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
`
	policyV6 = `version: 1
zones:
  lan: {interfaces: [eth1], networks: ["fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`
	policyNone = "version: 1\n"
)

// bench is an engine with the real backend on a host of its own.
type bench struct {
	*engine.Engine
	t    *testing.T
	host *lab.Host
	dir  string
	hook *hooked
}

func newBench(t *testing.T) *bench {
	t.Helper()
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	dir := filepath.Join(l.Dir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return benchOn(t, l.Host("gw"), dir)
}

func benchOn(t *testing.T, host *lab.Host, dir string) *bench {
	t.Helper()
	ns, err := link.OpenNetNS(host.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	folder, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	// It is there from the start, so that tests can put disks in its place.
	unlock, err := folder.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	hook := &hooked{Backend: nftables.New(ns.Do)}
	return &bench{&engine.Engine{Backend: hook, State: folder, NetNS: ns}, t, host, dir, hook}
}

// hooked is the real backend with a test's fingers in it.
type hooked struct {
	backend.Backend
	commit  func(commit func(*plan.Changes) error, c *plan.Changes) error // nil: goes through
	have    func(*plan.Snapshot) (*plan.Snapshot, error)
	commits int // that the kernel took
	reads   int // of everything that is ours
}

func (h *hooked) Commit(ctx context.Context, c *plan.Changes, dryRun bool) error {
	through := func(c *plan.Changes) error {
		err := h.Backend.Commit(ctx, c, dryRun)
		if err == nil && !dryRun && !c.Empty() {
			h.commits++
		}
		return err
	}
	if h.commit != nil && !dryRun {
		return h.commit(through, c)
	}
	return through(c)
}

func (h *hooked) Have(ctx context.Context) (*plan.Snapshot, error) {
	h.reads++
	s, err := h.Backend.Have(ctx)
	if h.have != nil && err == nil {
		return h.have(s)
	}
	return s, err
}

func (h *hooked) HaveAfter(ctx context.Context, c *plan.Changes) (*plan.Snapshot, error) {
	s, err := h.Backend.HaveAfter(ctx, c)
	if h.have != nil && err == nil {
		return h.have(s)
	}
	return s, err
}

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Reparse([]policy.Source{{Name: "policy.yaml", Text: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) apply(text string) (*engine.Plan, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return b.Apply(ctx, parse(b.t, text))
}

func (b *bench) mustApply(text string) *engine.Plan {
	b.t.Helper()
	pl, err := b.apply(text)
	if err != nil {
		b.t.Fatalf("apply: %v", err)
	}
	return pl
}

func (b *bench) mustDelete() *engine.Deletion {
	b.t.Helper()
	d, err := b.Delete(context.Background(), false)
	if err != nil {
		b.t.Fatalf("delete: %v", err)
	}
	return d
}

func (b *bench) generation() uint32 {
	b.t.Helper()
	g, err := b.hook.Probe(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

// inForce says whether the kernel holds just what the policy wants.
func (b *bench) inForce(text string) bool {
	b.t.Helper()
	pl, err := b.Plan(context.Background(), parse(b.t, text))
	if err != nil {
		b.t.Fatal(err)
	}
	return pl.Rules.Empty()
}

// world is everything that an apply could have changed, as text.
type world struct {
	Rules   string
	Sysctls map[string]string
	State   string
}

func (b *bench) world() world {
	b.t.Helper()
	w := world{Rules: rulesText(b.host.Run(b.t, "nft", "-s", "list", "ruleset")), Sysctls: map[string]string{}}
	err := b.host.Do(func() error {
		for _, root := range []string{"/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/ipv4/ip_forward"} {
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && !strings.HasSuffix(path, "stable_secret") {
					var value []byte
					if value, err = os.ReadFile(path); err == nil {
						w.Sysctls[strings.TrimPrefix(path, "/proc/sys/")] = strings.TrimSpace(string(value))
					}
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "state.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	w.State = string(text)
	return w
}

var elements = regexp.MustCompile(`elements = \{[^}]*\}`)

// rulesText puts in one order what nft prints in the order in which it was
// made, or that of the kernel's buckets: a table's objects and the elements of
// sets. Rules stay in their order.
func rulesText(listing string) string {
	listing = elements.ReplaceAllStringFunc(listing, func(text string) string {
		text = strings.TrimSuffix(strings.TrimPrefix(text, "elements = {"), "}")
		items := strings.Split(text, ",")
		for i := range items {
			items[i] = strings.TrimSpace(items[i])
		}
		slices.Sort(items)
		return "elements = { " + strings.Join(items, ", ") + " }"
	})
	var out strings.Builder
	var objects []string
	object := ""
	for line := range strings.Lines(listing) {
		switch {
		case strings.HasPrefix(line, "table "):
			out.WriteString(line)
		case line == "}\n":
			slices.Sort(objects)
			out.WriteString(strings.Join(objects, "") + line)
			objects = nil
		case line == "\t}\n":
			objects, object = append(objects, object+line), ""
		case line != "\n":
			object += line
		}
	}
	return out.String()
}

func (b *bench) wantWorld(want world) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.world()); diff != "" {
		b.t.Errorf("things are not as they were (-before +after):\n%s", diff)
	}
}

func (b *bench) wantSysctl(name, want string) {
	b.t.Helper()
	if got := b.host.GetSysctl(name); got != want {
		b.t.Errorf("%s is %s, want %s", name, got, want)
	}
}

// onOwnThread runs f on a thread that dies with it, so that f may give up
// capabilities and change mounts.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		f()
	}()
	<-done
}
