package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within runs f on a thread that switch has moved to another network namespace. A thread that cannot be moved
// back stays locked, so that the runtime ends it with its goroutine instead of using it for others.
func within(move func() error, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer unix.Close(home)
	defer func() {
		if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("return to network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := move(); err != nil {
		return err
	}
	return f()
}

// withinNamespace runs f in the network namespace that fd holds.
func withinNamespace(fd int, f func() error) error {
	return within(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	}, f)
}

// newNamespace makes a network namespace, mounts it at path, runs setup in it, and returns it open.
func newNamespace(path string, setup func() error) (int, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return -1, fmt.Errorf("create network namespace: %w", err)
	}
	file.Close()
	fd := -1
	err = within(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		return setup()
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		removeNamespace(path)
		return -1, fmt.Errorf("create network namespace: %w", err)
	}
	return fd, nil
}

func removeNamespace(path string) {
	_ = unix.Unmount(path, unix.MNT_DETACH)
	_ = os.Remove(path)
}
