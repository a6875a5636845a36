package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func supported() error { return nil }

// checkOwner refuses a folder into which somebody else can put a policy or a
// sysctl value that would be applied with our rights.
func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("state folder %s: owner unknown", path)
	}
	if owner := int(stat.Uid); owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("state folder %s: belongs to user %d, not to user %d: chown it, or give another --state-dir", path, owner, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("state folder %s: others can write to it (%v): chmod 700 it, or give another --state-dir", path, mode)
	}
	return nil
}

// tryLock takes the lock or fails with errHeld. The lock belongs to the open
// file: it also keeps a second Dir of the same process out.
func tryLock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errHeld
		default:
			return err
		}
	}
}

// syncDir makes renames in a folder last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if closing := dir.Close(); err == nil {
		err = closing
	}
	return err
}
