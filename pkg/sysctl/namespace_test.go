//go:build linux

package sysctl

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// hostNetNS names the namespace that the tests were started from; where it is
// set they run in namespaces of their own.
const hostNetNS = "IPMASQ_TEST_HOST_NETNS"

// TestMain runs the tests again in new network and mount namespaces, so that
// no sysctl of the host can change. Without root a user namespace comes along.
func TestMain(m *testing.M) {
	now, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		fmt.Fprintln(os.Stderr, "sysctl tests:", err)
		os.Exit(1)
	}
	if host := os.Getenv(hostNetNS); host != "" {
		if host == now {
			fmt.Fprintln(os.Stderr, "sysctl tests: still in the host's network namespace")
			os.Exit(1)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "sysctl tests: make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig follows the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), hostNetNS+"="+now)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "sysctl tests: no namespaces here:", err)
			os.Exit(1)
		}
		os.Exit(m.Run()) // inNamespace skips
	}
	cmd.Wait()
	os.Exit(cmd.ProcessState.ExitCode())
}

// inNamespace skips a test that would otherwise touch the host.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv(hostNetNS) == "" {
		t.Skip("needs network and mount namespaces, which this host refuses")
	}
}

// run runs a command that the test cannot do without.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// freshNetNS gives the test a network namespace of its own, with the veth pair
// lan and wan in it. The test is locked to its thread, which ends with it.
func freshNetNS(t *testing.T) {
	t.Helper()
	inNamespace(t)
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	// Link-local addresses at once: duplicate detection takes a second.
	if err := Set("net/ipv6/conf/default/dad_transmits", "0"); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "wan")
	for _, link := range []string{"lo", "lan", "wan"} {
		run(t, "ip", "link", "set", link, "up")
	}
}
