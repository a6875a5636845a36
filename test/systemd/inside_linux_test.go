package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// envInside tells the test binary, as the first process of a new machine, which folder will be its root.
const envInside = "IPMASQ_SYSTEMD_ROOT"

// envGroup names the control group of a machine. All of its groups are below: systemd takes its root for the whole tree,
// and two machines must not share one, nor find there what an earlier one has attached.
const envGroup = "IPMASQ_SYSTEMD_GROUP"

// onTree does something with the tree of control groups, which is mounted for that time.
func onTree(root string, do func(tree string) error) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	tree := filepath.Join(root, "old")
	if err := unix.Mount("cgroup", tree, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", tree, err)
	}
	return errors.Join(do(tree), unix.Unmount(tree, unix.MNT_DETACH))
}

// enterGroup makes the group, and makes it the root of what this process sees.
func enterGroup(root, group string) error {
	err := onTree(root, func(tree string) error {
		dir := filepath.Join(tree, group)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
	})
	if err != nil {
		return err
	}
	return unix.Unshare(unix.CLONE_NEWCGROUP)
}

// removeGroup removes what a machine that is off has left.
func removeGroup(root, group string) error {
	return onTree(root, func(tree string) error {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(tree, group), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for _, dir := range slices.Backward(dirs) {
			err = errors.Join(err, os.Remove(dir))
		}
		return err
	})
}

// inside makes the file systems of a machine, and becomes its systemd.
func inside(root string) error {
	runtime.LockOSThread() // what is unshared is the thread's
	if err := enterGroup(root, os.Getenv(envGroup)); err != nil {
		return fmt.Errorf("enter a control group: %w", err)
	}
	// What the test has put into the folder stays in it; the rest is in memory.
	for _, m := range []struct {
		what, where, kind string
		flags             uintptr
		data              string
	}{
		{root, "", "", unix.MS_BIND, ""},
		{"/usr", "usr", "", unix.MS_BIND, ""},
		{"", "usr", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
		{filepath.Join(root, "local-bin"), "usr/local/bin", "", unix.MS_BIND, ""},
		{"proc", "proc", "proc", 0, ""},
		// What systemd sets at boot is the machine's, but for what belongs to the
		// network namespace.
		{filepath.Join(root, "proc/sys"), "proc/sys", "", unix.MS_BIND, ""},
		{filepath.Join(root, "proc/sys/net"), "proc/sys/net", "", unix.MS_BIND, ""},
		{"", "proc/sys", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
		{"sys", "sys", "sysfs", 0, ""}, // writable while cgroup is mounted
		{"cgroup", "sys/fs/cgroup", "cgroup2", 0, ""},
		{"", "sys", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""}, // as systemd wants it in containers: no udev
		{"dev", "dev", "tmpfs", unix.MS_NOSUID, "mode=755"},
		{"pts", "dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=666,mode=620"},
		{"shm", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"run", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmp", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		where := filepath.Join(root, m.where)
		if err := os.MkdirAll(where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, where, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", where, err)
		}
	}
	for _, device := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		where := filepath.Join(root, "dev", device)
		if err := os.WriteFile(where, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+device, where, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", where, err)
		}
	}
	for link, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd"} {
		if err := os.Symlink(target, filepath.Join(root, "dev", link)); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "old"); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	const init = "/usr/lib/systemd/systemd"
	return syscall.Exec(init, []string{init, "--log-target=journal", "--show-status=no"}, []string{"container=ipmasq"})
}
