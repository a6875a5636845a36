package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// again runs this test binary as a program that has not entered anything yet.
func again(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { binary.Close() })
	// By descriptor, because another user may not reach the path.
	cmd := exec.Command("/proc/self/fd/3", args...)
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Dir = "/"
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "IPMASQ_LAB") && !strings.HasPrefix(v, "CI=") && !strings.HasPrefix(v, "GOCOVERDIR=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func needsLab(t *testing.T) {
	t.Helper()
	lab.New(t)
}

func TestExitCodesAndOutputPass(t *testing.T) {
	needsLab(t)
	for _, c := range []struct {
		mode string
		code int
		want string
	}{
		{"pass", 0, "--- PASS: TestInner"},
		{"fail", 1, "inner failure"},
		{"panic", 2, "inner panic"},
		{"exit", 7, ""},
		{"program", 1, "program: the end"},
	} {
		cmd := again(t, []string{"LAB_TEST_INNER=" + c.mode}, "-test.v", "-test.run=^TestInner$")
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d, want %d: %v\n%s", c.mode, got, c.code, err, out)
		}
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: no %q in\n%s", c.mode, c.want, out)
		}
	}
}

// TestInner is what other tests run in a process of its own.
func TestInner(t *testing.T) {
	switch os.Getenv("LAB_TEST_INNER") {
	case "":
		t.Skip("only as a process of another test")
	case "fail":
		t.Fatal("inner failure")
	case "panic":
		panic("inner panic")
	case "exit":
		os.Exit(7)
	case "program":
		p := new(lab.Program)
		topo := lab.Gateway(p)
		r, err := topo.LAN1.Ping(lab.GatewayLAN, lab.Patience, lab.PingOptions{})
		p.Logf("program: %v %v", r, err)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if names, _ := filepath.Glob("/run/netns/*"); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
		p.Fatalf("program: the end")
	case "hang":
		l := lab.New(t)
		h := l.Host("a")
		cmd := h.Command(t.Context(), "/proc/self/exe", "-test.run=^TestSleeper$", os.Getenv("LAB_TEST_MARK"))
		cmd.Env = append(os.Environ(), "LAB_TEST_SLEEP=1")
		// It says itself that it is ready: for a moment after its start it has no command line yet.
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
	}
}

// However the test ends, no process of it may be left: on a developer's machine nobody would clean up.
func TestNothingIsLeft(t *testing.T) {
	needsLab(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			mark := fmt.Sprintf("mark-%d-%d", os.Getpid(), sig)
			cmd := again(t, []string{"LAB_TEST_INNER=hang", "LAB_TEST_MARK=" + mark}, "-test.v", "-test.run=^TestInner$", mark)
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, pipe, "ready")
			if n := len(processes(t, mark)); n != 3 {
				t.Errorf("%d processes run, want 3: outer, inner, command", n)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("ended well in spite of a signal")
			}
			deadline := time.Now().Add(lab.Patience)
			for len(processes(t, mark)) > 0 && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond) // the kernel kills the rest in its own time
			}
			if left := processes(t, mark); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	if names, err := filepath.Glob("/run/netns/*"); err != nil || len(names) > 0 {
		for _, name := range names {
			if !strings.Contains(name, "lab") {
				t.Errorf("outside, %s is left", name)
			}
		}
	}
}

func waitFor(t *testing.T, r interface{ Read([]byte) (int, error) }, word string) {
	t.Helper()
	var all bytes.Buffer
	buffer := make([]byte, 4096)
	for !strings.Contains(all.String(), word) {
		n, err := r.Read(buffer)
		all.Write(buffer[:n])
		if err != nil {
			t.Fatalf("no %q: %v in %s", word, err, all.String())
		}
	}
}

// processes returns those with a word in their command line.
func processes(t *testing.T, word string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(word)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A contributor without root must be able to run everything.
func TestUnprivileged(t *testing.T) {
	needsLab(t)
	cmd := again(t, nil, "-test.v", "-test.run=^(TestTopologyRoutes|TestPacketsArriveAsBuilt|TestSysctl|TestLinks)$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		t.Skip("this user cannot become another: the test is unprivileged already")
	}
	if err != nil || strings.Contains(string(out), "SKIP") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// Where there is no lab, its absence must be seen: as a skip with the reason on a desk, as a failure in CI.
func TestRefusal(t *testing.T) {
	needsLab(t)
	for _, c := range []struct {
		env  []string
		code int
		want string
	}{
		{[]string{"IPMASQ_LAB=0"}, 0, "--- SKIP"},
		{[]string{"IPMASQ_LAB=0", "CI=true"}, 1, "--- FAIL"},
	} {
		cmd := again(t, c.env, "-test.v", "-test.run=^TestDoNests$")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(string(out), c.want) ||
			!strings.Contains(string(out), "switched off by IPMASQ_LAB=0") {
			t.Errorf("%v: exit code %d\n%s", c.env, got, out)
		}
	}
}

func TestRequire(t *testing.T) {
	for _, c := range []struct {
		name  string
		needs lab.Capability
	}{{"nft", lab.NFTables()}, {"binary", lab.Binary("no-such-program")}, {"br_netfilter", lab.BrNetfilter()}} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CI", "")
			lab.Require(t, c.needs)
			if c.name == "binary" {
				t.Error("found a program that is none")
			}
		})
	}
}

// The rest of the machine must be where it was: the profile of go test -coverprofile is written from inside.
func TestFilesStay(t *testing.T) {
	needsLab(t)
	path := filepath.Join(t.TempDir(), "trace")
	cmd := again(t, []string{"LAB_TEST_INNER=pass"}, "-test.run=^TestInner$", "-test.cpuprofile="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
	if _, err := os.Stat("/run/lab"); err == nil {
		if entries, _ := os.ReadDir("/run/lab"); len(entries) > 0 {
			t.Logf("state folders in use: %v", entries)
		}
	}
}
