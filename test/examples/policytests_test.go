package examples_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

// Each example has tests, which come by all of its entries, and pass: by
// simulation, and with real packets.
func TestExamplesPassTheirTests(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	c := newCLI(t, l, l.Host("anywhere"))
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			for _, flags := range [][]string{nil, {"--kernel"}} {
				args := append([]string{"test", "--min-coverage", "100", path}, flags...)
				if out := c.run(t, 0, args...); strings.Count(out, "\n") != 2 {
					t.Errorf("%v says:\n%s", args, out)
				}
			}
		})
	}
	tests, err := filepath.Glob(folder + "/*.test.yaml")
	if err != nil || len(tests) != len(examples(t)) {
		t.Errorf("%d test files for %d examples (%v)", len(tests), len(examples(t)), err)
	}
}

// The tests of a policy that a document shows come out as it says, both ways.
func TestDocumentedTests(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	c := newCLI(t, l, l.Host("anywhere"))
	tested := 0
	for _, path := range documents(t) {
		dir := t.TempDir()
		all := blocks(t, path)
		for _, b := range all {
			if b.lang == "yaml" && strings.HasSuffix(b.word, ".yaml") {
				if err := os.WriteFile(filepath.Join(dir, b.word), []byte(b.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, b := range all {
			if b.lang != "yaml" || !isTests(b.word) {
				continue
			}
			tested++
			want, code := "ok   "+b.word, 0
			if i+1 < len(all) && all[i+1].lang == "text" && all[i+1].word == "" {
				want = all[i+1].text
			}
			if strings.HasPrefix(want, "FAIL") {
				code = 1
			}
			for _, flags := range [][]string{nil, {"--kernel"}} {
				out := c.run(t, code, append([]string{"test", filepath.Join(dir, b.word)}, flags...)...)
				out = strings.ReplaceAll(out, dir+"/", "")
				out = strings.ReplaceAll(out, ", by simulation and in the kernel\n", "\n")
				if !strings.HasPrefix(words(out), words(want)) { // lines are broken where the path is
					t.Errorf("%v: %v says:\n%s\nthe page says:\n%s", b, flags, out, want)
				}
			}
		}
	}
	if tested < 3 {
		t.Errorf("%d tests of policies are shown", tested)
	}
}

// What test prints for programs is described.
func TestJSONOfTestsIsDocumented(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	c := newCLI(t, l, l.Host("anywhere"))
	var data any
	text := c.run(t, 0, "test", "--kernel", "-o", "json", folder)
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		t.Fatal(err)
	}
	page := section(t, commandsPage, "### test")
	for key := range fieldsOf(data) {
		if !strings.Contains(page, "`"+key+"`") {
			t.Errorf("docs/commands.md does not describe the field %s of test", key)
		}
	}
}

// However it ends, nothing of it goes on: neither the program in its namespaces
// nor, with it, those.
func TestKernelTestsEnd(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	program := built.Ipmasq(t)
	file := filepath.Join(l.Dir(), "long.test.yaml")
	var text strings.Builder
	text.WriteString("policy: home.yaml\ntests:\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "  - {name: t%d, packet: {from: lan, source: 192.168.1.20, destination: 9.9.9.9, protocol: udp, port: 53}, expect: {verdict: accept}}\n", i)
	}
	home, err := os.ReadFile(filepath.Join(folder, "home.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{file: text.String(), filepath.Join(l.Dir(), "home.yaml"): string(home)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "test", "--kernel", file)
		cmd.Stdout = write // and of all that it starts
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		// Its descriptors are in a namespace of its own once it is under way.
		children := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "task/*/children")
		for deadline := time.Now().Add(lab.Patience); !hasStage(children); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it starts nothing")
			}
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := read.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(read); err != nil {
			t.Errorf("%v: something goes on: %v", signal, err)
		}
		read.Close()
		if err := cmd.Wait(); err == nil {
			t.Errorf("%v: it ended well", signal)
		}
	}
}

// hasStage says whether a program's child has opened network namespaces.
func hasStage(children string) bool {
	found, _ := filepath.Glob(children)
	for _, path := range found {
		list, _ := os.ReadFile(path)
		for _, pid := range strings.Fields(string(list)) {
			open, _ := filepath.Glob("/proc/" + pid + "/fd/*")
			for _, fd := range open {
				if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/proc/thread-self/ns/net") || strings.HasPrefix(to, "net:[") {
					return true
				}
			}
		}
	}
	return false
}

// words are those of a text, with a space between each.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }
