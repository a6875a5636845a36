package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// envOutside tells the inner program which network namespace it must not be in.
const envOutside = "IPMASQ_STAGE_OUTSIDE"

// Enter starts the program again with the same arguments, as root of namespaces
// of its own, and ends it with the exit code of that one. There it returns nil.
// An error says why there can be no such namespaces; it wraps [ErrNoStage].
func Enter() error {
	outside, inside := os.LookupEnv(envOutside)
	if !inside {
		return again()
	}
	here, err := namespaceID()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoStage, err)
	case here == outside:
		return fmt.Errorf("%w: %s is set, but this is still the namespace that it names", ErrNoStage, envOutside)
	}
	return prepare()
}

// namespaceID names the network namespace of the calling thread.
func namespaceID() (string, error) {
	id, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read the network namespace: %w", err)
	}
	return id, nil
}

// again only returns where the inner program could not be started.
func again() error {
	id, err := namespaceID()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoStage, err)
	}
	// The child is killed when the thread that started it ends (Pdeathsig), so
	// that this one must live as long as we do.
	runtime.LockOSThread()
	// As process 1 of its namespace it is deaf to signals without a handler, and
	// so gets a copy of each.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)

	user := os.Geteuid() != 0
	cmd := inner(id, user)
	err = cmd.Start()
	if err != nil && !user && errors.Is(err, unix.EPERM) { // root without CAP_SYS_ADMIN
		cmd = inner(id, true)
		err = cmd.Start()
	}
	if err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return fmt.Errorf("%w: %w%s", ErrNoStage, err, hint())
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("wait for the program in its namespaces: %w", err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

func inner(outside string, user bool) *exec.Cmd {
	// The path of the program need not be one that this user can reach.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: os.Args}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envOutside+"="+outside)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}

// hint names the settings by which user namespaces are forbidden.
func hint() string {
	var hints []string
	for _, setting := range [][2]string{
		{"kernel/apparmor_restrict_unprivileged_userns", "1"},
		{"kernel/unprivileged_userns_clone", "0"},
		{"user/max_user_namespaces", "0"},
		{"user/max_net_namespaces", "0"},
	} {
		if b, err := os.ReadFile("/proc/sys/" + setting[0]); err == nil && strings.TrimSpace(string(b)) == setting[1] {
			hints = append(hints, strings.ReplaceAll(setting[0], "/", ".")+"="+setting[1])
		}
	}
	if len(hints) == 0 {
		return ""
	}
	return " (" + strings.Join(hints, ", ") + ")"
}

// prepare gives the inner program its own mounts: a proc of its namespaces, in
// which sysctls can be written.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: make mounts private: %w%s", ErrNoStage, err, hint())
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const probe = "/proc/sys/net/ipv4/ip_forward"
	// A container may refuse a proc in a user namespace; the one that there is
	// then serves, if its sysctls can be written.
	mounted := unix.Mount("proc", "/proc", "proc", quiet, "")
	if unix.Access(probe, unix.W_OK) == nil {
		return nil
	}
	remounted := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|quiet, "")
	if err := unix.Access(probe, unix.W_OK); err != nil {
		return fmt.Errorf("%w: write %s: %w (mount proc: %v, remount /proc/sys: %v)", ErrNoStage, probe, err, mounted, remounted)
	}
	return nil
}
