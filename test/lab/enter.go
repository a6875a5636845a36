package lab

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

const (
	// envOff set to 0 asks for no namespaces: tests of the lab are then skipped as if the kernel refused.
	envOff = "IPMASQ_LAB"
	// envOutside tells the inner process which network namespace it must not be in.
	envOutside = "IPMASQ_LAB_OUTSIDE"
	// envRefused holds the reason why there is no lab, for [New] to report.
	envRefused = "IPMASQ_LAB_REFUSED"
)

// Main runs a package's tests inside fresh namespaces and exits with their code. Call it from TestMain.
//
// Where namespaces cannot be made the tests run in place, and those that call [New] are skipped with the reason;
// with the environment variable CI set they fail. m is the [testing.M], or one that has more to do.
func Main(m interface{ Run() int }) {
	if err := Enter(); err != nil {
		os.Setenv(envRefused, err.Error())
	}
	os.Exit(m.Run())
}

// Enter runs the current program again inside fresh namespaces, and exits with its code when it ends. In the
// inner program it prepares the namespaces and returns nil, so a plain program calls it first in main.
// It returns an error, in place, where namespaces cannot be made or not be prepared.
func Enter() error {
	if os.Getenv(envOff) == "0" {
		return fmt.Errorf("switched off by %s=0", envOff)
	}
	outside, inside := os.LookupEnv(envOutside)
	if !inside {
		return reexec()
	}
	here, err := namespaceID()
	if err != nil {
		return err
	}
	if here == outside {
		return fmt.Errorf("%s is set, but this is still the host's network namespace", envOutside)
	}
	if os.Getpid() != 1 {
		return nil // a program started by the inner process
	}
	return prepare()
}

// entered reports whether this process may build networks, and why not.
func entered() error {
	if reason := os.Getenv(envRefused); reason != "" {
		return errors.New(reason)
	}
	outside, inside := os.LookupEnv(envOutside)
	if !inside {
		return errors.New("TestMain does not call lab.Main")
	}
	here, err := namespaceID()
	if err != nil {
		return err
	}
	if here == outside {
		return errors.New("still in the host's network namespace")
	}
	return nil
}

// namespaceID names the network namespace of the calling thread, such as net:[4026531840].
func namespaceID() (string, error) {
	id, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read network namespace: %w", err)
	}
	return id, nil
}

// reexec only returns where the inner process could not be started.
func reexec() error {
	id, err := namespaceID()
	if err != nil {
		return err
	}
	// Pdeathsig fires when the *thread* that started the child ends, so it must live as long as we do.
	runtime.LockOSThread()

	// As PID 1 the inner process would be deaf to a signal with no handler; it gets a copy of each and the
	// Go runtime turns the deadly ones into an exit.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)

	var cmd *exec.Cmd
	start := func(user bool) error {
		cmd = innerCommand(id, user)
		return cmd.Start()
	}
	user := os.Geteuid() != 0
	err = start(user)
	if err != nil && !user && errors.Is(err, unix.EPERM) {
		user = true // root without CAP_SYS_ADMIN, in a container
		err = start(user)
	}
	if err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return fmt.Errorf("create namespaces: %w%s", err, hint())
	}
	go func() {
		for s := range signals {
			if (s == unix.SIGINT || s == unix.SIGQUIT) && inForeground() {
				continue // the terminal has sent it to the whole process group
			}
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "lab: wait for inner process:", err)
		os.Exit(2)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

func innerCommand(outside string, user bool) *exec.Cmd {
	// /proc/self/exe works where the path of the binary cannot be reached by this user.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: os.Args}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envOutside+"="+outside)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		cmd.SysProcAttr.GidMappingsEnableSetgroups = false
	}
	return cmd
}

func inForeground() bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// hint names the settings that distributions use to forbid user namespaces.
func hint() string {
	var hints []string
	for path, forbids := range map[string]string{
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
		"/proc/sys/kernel/unprivileged_userns_clone":             "0",
		"/proc/sys/user/max_user_namespaces":                     "0",
		"/proc/sys/user/max_net_namespaces":                      "0",
	} {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == forbids {
			hints = append(hints, strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")+"="+forbids)
		}
	}
	if len(hints) == 0 {
		return ""
	}
	return " (" + strings.Join(hints, ", ") + ")"
}
