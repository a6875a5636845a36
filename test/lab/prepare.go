package lab

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespaceDir is where the network namespaces of the hosts are mounted, as `ip netns` does it.
const namespaceDir = "/run/netns"

// prepare gives the inner process its own mounts. It runs once, as PID 1.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w%s", err, hint())
	}
	if err := prepareProc(); err != nil {
		return err
	}
	// A sysfs shows the devices of the namespace it was mounted from. Without one, /sys/class/net is the host's.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := prepareRun(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// prepareProc mounts a proc for the new PID namespace. A container may refuse that in a user namespace; the old
// proc then serves as well, since its self, thread-self and sys/net all follow the process that reads them.
// What must work is that sysctls can be written.
func prepareProc() error {
	const probe = "/proc/sys/net/ipv4/ip_forward"
	mounted := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if unix.Access(probe, unix.W_OK) == nil {
		return nil
	}
	remounted := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := unix.Access(probe, unix.W_OK); err != nil {
		return fmt.Errorf("write %s: %w (mount proc: %v, remount /proc/sys: %v)", probe, err, mounted, remounted)
	}
	return nil
}

// prepareRun hides the host's /run, and with it the locks and sockets of its daemons. /run/user stays, because
// TMPDIR and so the test binary itself may be below it.
func prepareRun() error {
	user, err := unix.Open("/run/user", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err == nil {
		defer unix.Close(user)
	} else {
		user = -1
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, dir := range []string{namespaceDir, "/run/lock", "/run/user"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare /run: %w", err)
		}
	}
	if err := os.WriteFile("/run/xtables.lock", nil, 0o600); err != nil {
		return fmt.Errorf("prepare /run: %w", err)
	}
	if user >= 0 {
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", user), "/run/user", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("keep /run/user: %w", err)
		}
	}
	// An installed ipmasq keeps its state here.
	err = unix.Mount("tmpfs", "/var/lib/ipmasq", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mount /var/lib/ipmasq: %w", err)
	}
	return nil
}
