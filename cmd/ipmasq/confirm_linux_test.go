package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty opens a terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// screen is all that a terminal has shown.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// session is ipmasq at a terminal of its own, as a login has it.
type session struct {
	*screen
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	done   chan struct{}
}

// login runs ipmasq, below a shell if the command says so, and waits for its
// question.
func (v *victim) login(name string, args ...string) *session {
	v.t.Helper()
	master, slave := pty(v.t)
	s := &session{&screen{}, v.t, exec.Command(name, args...), master, make(chan struct{})}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := s.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	slave.Close()
	go func() { _, _ = io.Copy(s, master) }()
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	if !until(func() bool { return strings.Contains(s.String(), "going back in") }) {
		v.t.Fatalf("it asks nothing:\n%s", s)
	}
	return s
}

func (v *victim) where() []string { return []string{"--netns", v.host.NetNS(), "--state-dir", v.dir} }

func (v *victim) confirmArgs(window string) []string {
	return append([]string{"apply", "--confirm", window, v.files[crashB]}, v.where()...)
}

// ends waits for the program's end and gives its exit code.
func (s *session) ends() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		s.t.Fatalf("it does not end:\n%s", s)
	}
	return s.cmd.ProcessState.ExitCode()
}

// isBack waits until A is in force again, and no guard is left.
func (v *victim) isBack(when string) {
	v.t.Helper()
	if !until(func() bool { s, err := v.engine.State.Load(); return err == nil && s.Unconfirmed == nil }) {
		v.t.Fatalf("%s: the policy still waits", when)
	}
	if v.look() != v.looks[crashA] {
		v.t.Errorf("%s: the policy before is not in force", when)
	}
	v.noGuards()
}

func (v *victim) noGuards() {
	v.t.Helper()
	if !until(func() bool { return len(guardsOf(v.dir)) == 0 }) {
		v.t.Errorf("guards are left: %v", guardsOf(v.dir))
	}
}

// says runs ipmasq and gives its exit code and all that it prints.
func (v *victim) says(args ...string) (code int, text string) {
	v.t.Helper()
	cmd := exec.Command("ipmasq", append(args, v.where()...)...)
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// At a terminal it asks, counts down, and does what it is told there.
func TestAskedAtATerminal(t *testing.T) {
	v := newVictim(t)
	for _, c := range []struct {
		name, typed, window string
		keeps               bool
		code                int
	}{
		{"yes", "yes\n", "60s", true, 0}, {"y", "Y\n", "60s", true, 0}, {"after nonsense", "what?\n\nyes\n", "60s", true, 0},
		{"no", "no\n", "60s", false, 1}, {"Ctrl-C", "\x03", "60s", false, 1}, {"nobody answers", "", "2s", false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v.t = t
			v.start(crashA)
			s := v.login("ipmasq", v.confirmArgs(c.window)...)
			if _, err := io.WriteString(s.master, c.typed); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != c.code {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, s)
			}
			if !c.keeps {
				v.isBack(c.name)
			} else if v.look() != v.looks[crashB] {
				t.Errorf("what was confirmed is not in force")
			}
			v.noGuards()
			want := map[bool]string{true: "confirmed: the policy ", false: "went back: the policy "}[c.keeps]
			if !until(func() bool { return strings.Contains(s.String(), want) }) {
				t.Errorf("it does not say %q:\n%s", want, s)
			}
			if strings.Contains(s.String(), "still working") {
				t.Errorf("it calls waiting work:\n%s", s)
			}
			if c.typed == "" && !strings.Contains(s.String(), "\r\x1b[Kgoing back in 1 s [yes/no]: ") {
				t.Errorf("it does not count down:\n%q", s)
			}
		})
	}
	v.t = t
	v.delete()
}

// The terminal shows what was decided elsewhere.
func TestConfirmedElsewhere(t *testing.T) {
	v := newVictim(t)
	for command, code := range map[string]int{"confirm": 0, "rollback": 1} {
		v.start(crashA)
		s := v.login("ipmasq", v.confirmArgs("60s")...)
		v.run(0, command)
		if got := s.ends(); got != code {
			t.Errorf("%s elsewhere: exit code %d, want %d\n%s", command, got, code, s)
		}
	}
	v.delete()
}

// Whatever becomes of the terminal, the session and the processes in it, the
// policy goes back.
func TestNothingStopsTheGuard(t *testing.T) {
	v := newVictim(t)
	for _, c := range []struct {
		name  string
		shell bool
		end   func(s *session)
	}{
		{"the terminal is closed", false, func(s *session) { s.master.Close() }},
		{"the terminal of a shell is closed", true, func(s *session) { s.master.Close() }},
		{"SIGHUP to the session", false, func(s *session) { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGHUP) }},
		{"SIGKILL to the session", false, func(s *session) { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }},
		{"SIGKILL to shell and command", true, func(s *session) { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v.t = t
			v.start(crashA)
			args := v.confirmArgs("2s")
			var s *session
			if c.shell {
				s = v.login("sh", append([]string{"-c", `ipmasq "$@"; true`, "sh"}, args...)...)
			} else {
				s = v.login("ipmasq", args...)
			}
			c.end(s)
			s.ends()
			if v.look() != v.looks[crashB] {
				t.Error("it did not even begin")
			}
			v.isBack(c.name)
		})
	}
	v.t = t
	v.delete()
}

// A guard that is killed is replaced; where both are, the next commands say so,
// and what they advise works.
func TestKilledGuards(t *testing.T) {
	v := newVictim(t)
	v.start(crashA)
	v.run(0, "apply", "--confirm", "3s", v.files[crashB])
	seen := guardsOf(v.dir)
	for half := range 4 {
		if !until(func() bool { return len(guardsOf(v.dir)) == 2 }) {
			t.Fatalf("guards are %v", guardsOf(v.dir))
		}
		both := guardsOf(v.dir)
		slices.Sort(both)
		if err := syscall.Kill(both[half%2], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !until(func() bool { return !slices.Contains(guardsOf(v.dir), both[half%2]) }) {
			t.Fatal("it does not die")
		}
		seen = append(seen, both...)
	}
	if !until(func() bool { return len(guardsOf(v.dir)) == 2 }) {
		t.Fatalf("guards are %v", guardsOf(v.dir))
	}
	seen = append(seen, guardsOf(v.dir)...)
	slices.Sort(seen)
	if n := len(slices.Compact(seen)); n < 6 {
		t.Errorf("%d guards in all", n)
	}
	v.isBack("after four killed guards")

	for _, advice := range []string{"rollback", "confirm"} {
		v.run(0, "apply", "--confirm", "1s", v.files[crashB])
		none := 0
		if !until(func() bool {
			none++ // one may be starting another, which does not look like a guard yet
			for _, pid := range guardsOf(v.dir) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				none = 0
			}
			return none > 20 && !v.engine.State.Guarded()
		}) {
			t.Fatal("the guards do not die")
		}
		if u, err := v.engine.Unconfirmed(); err != nil || u == nil {
			t.Fatalf("%+v, %v", u, err)
		} else if _, text := v.says("status"); u.Left > 500*time.Millisecond && !strings.Contains(text, "warning: the guard is gone: ") {
			t.Errorf("status before the deadline:\n%s", text)
		}
		if !until(func() bool { u, err := v.engine.Unconfirmed(); return err == nil && u.Left <= 0 }) {
			t.Fatal("the deadline does not come")
		}
		for command, code := range map[string]int{"status": 0, "plan": 2, "apply": 1} {
			args := []string{command}
			if command != "status" {
				args = append(args, v.files[crashA])
			}
			if got, text := v.says(args...); got != code || !strings.Contains(text, "was not confirmed in time, and its guard is gone") {
				t.Errorf("%s: exit code %d\n%s", command, got, text)
			}
		}
		v.run(0, advice)
		want := map[string]string{"rollback": crashA, "confirm": crashB}[advice]
		if v.look() != v.looks[want] {
			t.Errorf("%s does not help", advice)
		}
	}
	v.run(0, "apply", v.files[crashA])
	v.delete()
	v.noGuards()
}

// Where no guard can be started nothing changes.
func TestNoGuard(t *testing.T) {
	v := newVictim(t)
	v.start(crashA)
	before := fmt.Sprint(v.engine.State.Load())
	limited := exec.Command("sh", append([]string{"-c", `ulimit -v 4000000; ulimit -n 7; exec ipmasq "$@"`, "sh"}, v.confirmArgs("1s")...)...)
	out, _ := limited.CombinedOutput()
	if code := limited.ProcessState.ExitCode(); code == 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if v.look() != v.looks[crashA] {
		t.Errorf("something changed:\n%s", out)
	}
	if after := fmt.Sprint(v.engine.State.Load()); len(after) != len(before) {
		t.Errorf("the state was %s and is %s", before, after)
	}
	v.noGuards()
	v.delete()
}
