package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/link"
	"golang.org/x/sys/unix"
)

// become replaces this process by the program that args name, and does not
// return.
func become(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no program is named")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

func failed(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
	os.Exit(125)
}

// inNetNS is gw: what a thread execs is in the thread's namespace.
func inNetNS() {
	ns, err := link.OpenNetNS(os.Getenv("NETNS"))
	if err == nil {
		err = ns.Do(func() error { return become(os.Args[1:]) })
	}
	failed(err)
}

// withoutCapabilities is nocaps: root's, too, come from the bounding set.
func withoutCapabilities() {
	runtime.LockOSThread()
	for c := range uintptr(64) {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // the last that this kernel knows is behind us
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			failed(err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		failed(err)
	}
	failed(become(os.Args[1:]))
}

// withEtc is withetc: /etc is not writable in a user namespace, but mounts are
// free, and over all of /etc they need no folder there.
func withEtc() {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=755")
	}
	if err == nil {
		err = os.CopyFS("/etc/ipmasq", os.DirFS(os.Args[1]))
	}
	if err == nil {
		err = become(os.Args[2:])
	}
	failed(err)
}

// onTerminal is tty. What the program prints comes out as it is.
func onTerminal() {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		failed(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		failed(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		failed(err)
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, slave, os.Stderr
	if err := cmd.Start(); err != nil {
		failed(err)
	}
	slave.Close()
	_, _ = io.Copy(os.Stdout, master) // ends with EIO when the program has gone
	_ = cmd.Wait()
	os.Exit(cmd.ProcessState.ExitCode())
}
