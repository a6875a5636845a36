// Package examples_test runs what the examples and the documents show: each
// example on a gateway with the interfaces that it names, each policy of a
// document in the kernel, each wrong one against the message beside it.
package examples_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const folder = "../../examples"

func examples(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(folder + "/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no examples in %s: %v", folder, err)
	}
	return slices.DeleteFunc(paths, isTests)
}

// isTests says whether a file is the tests of a policy.
func isTests(name string) bool { return strings.HasSuffix(name, ".test.yaml") }

// cli runs the real program on a host, as a user does.
type cli struct {
	program, state string
	host           *lab.Host
}

func newCLI(t *testing.T, l interface{ Dir() string }, host *lab.Host) *cli {
	return &cli{built.Ipmasq(t), filepath.Join(l.Dir(), host.Name()+"-state"), host}
}

// run gives standard output. Another exit code than code fails the test.
func (c *cli) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	return c.feed(t, "", code, args...)
}

func (c *cli) feed(t *testing.T, stdin string, code int, args ...string) string {
	t.Helper()
	switch args[0] {
	case "plan", "apply", "status", "delete", "confirm", "rollback", "history":
		args = append(args, "--state-dir", c.state)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := c.host.Command(ctx, c.program, args...)
	var stdout, stderr strings.Builder
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatalf("ipmasq %s: %v", strings.Join(args, " "), err)
	}
	if got := command.ProcessState.ExitCode(); got != code {
		t.Fatalf("ipmasq %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, &stdout, &stderr)
	}
	if stderr.Len() > 0 && code == 0 {
		t.Errorf("ipmasq %s says:\n%s", strings.Join(args, " "), &stderr)
	}
	return stdout.String()
}

// An example that warns is not an example.
func TestExamplesCompile(t *testing.T) {
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p, err := policy.Load([]string{path}, policy.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := compile.Compile(p, compile.Facts{})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range r.Warnings {
				t.Errorf("warning: %v", w)
			}
		})
	}
}

func TestExamplesCarryTraffic(t *testing.T) {
	lab.Require(t, lab.NFTables())
	all := networks()
	for _, path := range examples(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			build := all[name]
			if build == nil {
				t.Fatalf("no network shows what this example does; add one to networks()")
			}
			t.Parallel()
			n := build(t)
			c := newCLI(t, lab.New(t), n.gateway)
			c.run(t, 0, "apply", path)
			n.traffic(t)
			if out := c.run(t, 0, "apply", path); !strings.HasPrefix(out, "nothing changed") {
				t.Errorf("the second apply says:\n%s", out)
			}
			c.run(t, 0, "status")
			c.run(t, 0, "delete")
			clean(t, c)
		})
	}
	for name := range all {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Errorf("a network without its example: %v", err)
		}
	}
}

// clean checks that delete has left nothing.
func clean(t *testing.T, c *cli) {
	t.Helper()
	if out := c.run(t, 0, "delete"); !strings.HasPrefix(out, "nothing to delete") {
		t.Errorf("the second delete says:\n%s", out)
	}
	for _, name := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if got := c.host.GetSysctl(name); got != "0" {
			t.Errorf("%s is %s after delete", name, got)
		}
	}
	left, err := os.ReadDir(c.state)
	if err != nil {
		t.Error(err)
	}
	for _, f := range left {
		if f.Name() != "lock" {
			t.Errorf("delete left %s in the state folder", f.Name())
		}
	}
}
