package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
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
	keepOnly(0)
	failed(become(os.Args[1:]))
}

// withNetAdmin is netadmin.
func withNetAdmin() {
	keepOnly(netAdmin)
	failed(become(os.Args[1:]))
}

const (
	netAdmin = 1 << unix.CAP_NET_ADMIN
	stranger = 12345
)

// asUser is user. Where the program is may be no place for that user.
func asUser() {
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, stranger, stranger, stranger}, {unix.SYS_SETRESUID, stranger, stranger, stranger}} {
		// Of this thread alone: it is the one that becomes the program.
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 && err == nil {
			err = errno
		}
	}
	if err == nil {
		err = setCaps(netAdmin)
	}
	if err == nil {
		err = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_ADMIN, 0, 0)
	}
	if err == nil {
		err = syscall.Exec("/proc/self/exe", append([]string{"ipmasq"}, os.Args[1:]...), os.Environ())
	}
	failed(err)
}

// haveUsers says whether there are other users than root, as there are not in
// the user namespace that an ordinary user makes.
func haveUsers() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
}

// keepOnly gives up all capabilities but these, for good, for the thread.
func keepOnly(caps uint32) {
	runtime.LockOSThread()
	for c := range uintptr(64) {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // the last that this kernel knows is behind us
		}
		if c < 32 && caps&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			failed(err)
		}
	}
	if err := setCaps(caps); err != nil {
		failed(err)
	}
}

func setCaps(caps uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: caps, Permitted: caps, Inheritable: caps}}
	return unix.Capset(&header, &data[0])
}

// withoutNamespaces is nonamespaces: in a user namespace of its own, which the
// kernel lets have no network namespaces (namespaces(7), /proc/sys/user).
func withoutNamespaces() {
	const inside = "IPMASQ_TEST_NO_NAMESPACES"
	if os.Getenv(inside) != "" {
		err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0)
		if err == nil {
			err = become(os.Args[1:])
		}
		failed(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env = os.Args, append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		failed(err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
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
