package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"golang.org/x/sys/unix"
)

// readyTime bounds how long a guard takes to stand.
const readyTime = 10 * time.Second

// What a guard inherits.
const (
	readyFD = 3 + iota
	netnsFD
	folderFD
	otherFD
)

// Start has a policy guarded, of which the state does not say anything yet.
// Session is SSH_CONNECTION: the one flow that going back must not cut.
func Start(e *engine.Engine, id, session string) error {
	folder, err := os.Open(e.State.Path())
	if err != nil {
		return err
	}
	defer folder.Close()
	if ok, err := underSystemd(e, id, session); ok {
		return err
	}
	s := spawner{id: id, session: session, apply: os.Getpid(), netns: e.NetNS.File(), folder: folder}
	_, err = s.spawn(nil)
	return err
}

// spawner starts guards that are nobody's children for long.
type spawner struct {
	id, session   string
	apply         int
	netns, folder *os.File
}

// spawn starts a guard and waits until it stands. Self is the pidfd of the guard
// that starts another one, or nil for the first.
func (s *spawner) spawn(self *os.File) (ended <-chan struct{}, err error) {
	told, ready, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer told.Close()
	cmd := exec.Command("/proc/self/exe", Command, "--id", s.id, "--apply", strconv.Itoa(s.apply), "--inherited",
		"--netns", fmt.Sprintf("/proc/self/fd/%d", netnsFD), "--state-dir", fmt.Sprintf("/proc/self/fd/%d", folderFD))
	cmd.Args[0] = "ipmasq"
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SSH_CONNECTION=" + s.session}
	cmd.ExtraFiles = []*os.File{ready, s.netns, s.folder}
	if self != nil {
		cmd.Args = append(cmd.Args, "--other")
		cmd.ExtraFiles = append(cmd.ExtraFiles, self)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	ready.Close()
	if err != nil {
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	_ = told.SetReadDeadline(time.Now().Add(readyTime))
	text, err := io.ReadAll(told)
	if err == nil && string(text) == stands {
		return gone, nil
	}
	_ = cmd.Process.Kill()
	<-gone
	switch {
	case err != nil:
		return nil, fmt.Errorf("start a guard: %w", err)
	case len(text) == 0:
		return nil, fmt.Errorf("start a guard: it ended at once: %v", cmd.ProcessState)
	}
	return nil, fmt.Errorf("start a guard: %s", text)
}

// stands is what a guard writes when it does.
const stands = "stands\n"

// Inherited completes a guard that spawn has started.
func (g *Guard) Inherited(apply int, session string, other bool) error {
	ready := os.NewFile(readyFD, "ready")
	self, err := pidfd(os.Getpid())
	if err != nil {
		return err
	}
	s := spawner{id: g.ID, session: session, apply: apply, netns: os.NewFile(netnsFD, "netns"), folder: os.NewFile(folderFD, "state")}
	for fd := readyFD; fd <= otherFD; fd++ {
		unix.CloseOnExec(fd)
	}
	g.Apply = ending(apply)
	g.Respawn = func() (<-chan struct{}, error) { return s.spawn(self) }
	if other {
		g.Other = watch(os.NewFile(otherFD, "other"))
	}
	g.Ready = func() error {
		// Who has started this one may be killed by now. The state says whether
		// there is something to guard.
		_, _ = ready.WriteString(stands)
		return ready.Close()
	}
	return nil
}

// Refuse tells the one that has started an inherited guard why there is none.
func Refuse(why error) { _, _ = os.NewFile(readyFD, "ready").WriteString(why.Error()) }

func pidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// ending is closed when a process has ended.
func ending(pid int) <-chan struct{} {
	file, err := pidfd(pid)
	if err != nil { // it has
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return watch(file)
}

func watch(pidfd *os.File) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer pidfd.Close()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return gone
}

// underSystemd starts the guard as a transient service. Ok says that it could:
// elsewhere a guard is started without it. A namespace that only processes hold
// could not be entered again by one that systemd starts anew.
func underSystemd(e *engine.Engine, id, session string) (ok bool, err error) {
	if info, err := os.Lstat("/run/systemd/system"); err != nil || !info.IsDir() {
		return false, nil
	}
	run, err := exec.LookPath("systemd-run")
	if err != nil {
		return false, nil
	}
	program, err := os.Executable()
	if err != nil {
		return false, nil
	}
	args := []string{"--quiet", "--collect", "--unit=ipmasq-guard-" + id, "--description=ipmasq: goes back unless the policy is confirmed",
		"--property=Type=notify", "--property=Restart=on-failure", "--property=RestartSec=100ms", "--property=StartLimitIntervalSec=0",
		"--property=TimeoutStartSec=10s", "--setenv=SSH_CONNECTION=" + session,
		"--", program, Command, "--id", id, "--apply", strconv.Itoa(os.Getpid()), "--state-dir", e.State.Path(), "--namespace", e.NetNS.ID()}
	if path := e.NetNS.File().Name(); strings.HasPrefix(path, "/run/netns/") {
		args = append(args, "--netns", path)
	} else if !sameAsInit(e.NetNS.File()) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, run, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return false, nil
	}
	return true, nil
}

func sameAsInit(netns *os.File) bool {
	init, err := os.Stat(filepath.Join("/proc/1/ns/net"))
	if err != nil {
		return false
	}
	here, err := netns.Stat()
	return err == nil && os.SameFile(init, here)
}

// Service completes a guard that systemd has started.
func (g *Guard) Service(apply int, namespace string) error {
	if id := g.Engine.NetNS.ID(); id != namespace {
		return fmt.Errorf("this is the network namespace %s, and not %s", id, namespace)
	}
	g.Apply = ending(apply)
	g.Ready = func() error { return notify("READY=1") }
	return nil
}

// notify tells systemd (sd_notify(3)).
func notify(text string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte(text), 0, &unix.SockaddrUnix{Name: name}); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
