//go:build linux

package conntrack

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// hostNetNS names the namespace that the tests were started from; where it is
// set they run in namespaces of their own.
const hostNetNS = "IPMASQ_TEST_HOST_NETNS"

// TestMain runs the tests again in new network and mount namespaces, so that
// nothing of the host can change. Without root a user namespace comes along.
func TestMain(m *testing.M) {
	now, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		fmt.Fprintln(os.Stderr, "conntrack tests:", err)
		os.Exit(1)
	}
	if host := os.Getenv(hostNetNS); host != "" {
		if host == now {
			fmt.Fprintln(os.Stderr, "conntrack tests: still in the host's network namespace")
			os.Exit(1)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "conntrack tests: make mounts private:", err)
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
			fmt.Fprintln(os.Stderr, "conntrack tests: no namespaces here:", err)
			os.Exit(1)
		}
		os.Exit(m.Run()) // freshNetNS skips
	}
	cmd.Wait()
	os.Exit(cmd.ProcessState.ExitCode())
}

// inNamespaces is whether the tests may change the network around them.
func inNamespaces() bool { return os.Getenv(hostNetNS) != "" }
