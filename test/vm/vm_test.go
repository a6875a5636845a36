//go:build vm

package vm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// long is what a machine may take: twice what it does on two cores that do nothing else.
const long = 15 * time.Minute

// The packet tests, on each kernel that was fetched.
func TestKernels(t *testing.T) {
	cache := os.Getenv("IPMASQ_VM")
	if cache == "" {
		t.Fatal("IPMASQ_VM does not name the folder of test/vm/fetch.sh: run make test-vm")
	}
	only := os.Getenv("IPMASQ_VM_RUN")
	kernels, err := filepath.Glob(filepath.Join(cache, "kernel-*"))
	if err != nil || len(kernels) == 0 {
		t.Fatalf("no kernels in %s: %v", cache, err)
	}
	dir := t.TempDir()
	ipmasq, tests := filepath.Join(dir, "ipmasq"), filepath.Join(dir, "packet.test")
	static(t, "build", "-buildvcs=false", "-ldflags=-s", "-o", ipmasq, "../../cmd/ipmasq")
	static(t, "test", "-c", "-tags=vm", "-ldflags=-s", "-o", tests, "../packet")
	for _, kernel := range kernels {
		_, version, _ := strings.Cut(filepath.Base(kernel), "-")
		for _, k := range kinds() {
			if only != "" {
				k.run = only
			}
			t.Run(version+" "+k.name, func(t *testing.T) {
				t.Parallel()
				i := &image{cache: cache, kernel: kernel, ipmasq: ipmasq, tests: tests, kind: k}
				boot(t, i, filepath.Join(dir, version+" "+k.name), only != "")
			})
		}
	}
}

// static runs the go command for binaries that need no library.
func static(t *testing.T, args ...string) {
	t.Helper()
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", args[0], err, out)
	}
}

// boot runs a machine to its end, and gives the results of its tests as
// subtests. There may be none for it where they were named.
func boot(t *testing.T, i *image, prefix string, named bool) {
	t.Helper()
	vmlinuz, err := kernelOf(i.kernel)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{vmlinuz: vmlinuz, initrd: prefix + ".initrd", options: i.kind.options, console: prefix + ".console"}
	if err := i.write(m.initrd); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	start, code := time.Now(), ""
	var text strings.Builder
	err = m.run(ctx, func(line string) {
		if release, booted := strings.CutPrefix(line, "booted "); booted {
			t.Logf("Linux %s: up after %v", release, time.Since(start).Round(100*time.Millisecond))
		} else if c, ended := strings.CutPrefix(line, "exit "); ended {
			code = c
		} else {
			text.WriteString(line + "\n")
		}
	})
	t.Logf("off after %v", time.Since(start).Round(100*time.Millisecond))
	passed := report(t, text.String(), named)
	if err != nil || code != "0" || !passed {
		console, _ := os.ReadFile(m.console)
		t.Errorf("the machine: %v; the tests: exit code %q; the kernel:\n%s", err, code, console)
	}
}

// result is a test of the machine, and what it printed.
type result struct {
	action string
	output strings.Builder
	below  []string // subtests, in their order
}

// report makes subtests of what a test binary printed with -test.v=test2json. It says whether there were any, or may
// be none, and all of them passed.
func report(t *testing.T, text string, none bool) bool {
	t.Helper()
	c := exec.Command("go", "tool", "test2json")
	c.Stdin = strings.NewReader(text)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("test2json: %v", err)
	}
	all := map[string]*result{"": {}}
	for line := range strings.Lines(string(out)) {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("test2json: %v: %s", err, line)
		}
		r := all[e.Test]
		if r == nil {
			r = &result{}
			all[e.Test] = r
			above := ""
			if n := strings.LastIndex(e.Test, "/"); n >= 0 {
				above = e.Test[:n]
			}
			if all[above] == nil {
				above = ""
			}
			all[above].below = append(all[above].below, e.Test)
		}
		switch e.Action {
		case "output":
			r.output.WriteString(e.Output)
		case "pass", "fail", "skip":
			r.action = e.Action
		}
	}
	return all[""].report(t, all) && (none || len(all) > 1)
}

func (r *result) report(t *testing.T, all map[string]*result) bool {
	passed := true
	for _, name := range r.below {
		own := all[name]
		_, short := filepath.Split(name)
		passed = t.Run(short, func(t *testing.T) {
			if own.action != "pass" {
				// One that has not ended counts, and one that was skipped: what the tests need is there.
				t.Errorf("%s\n%s", own.action, &own.output)
			}
			own.report(t, all)
		}) && passed
	}
	return passed
}
