package state

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Guard says, until release or the end of the process, that somebody guards the
// policy that is not confirmed.
func (d *Dir) Guard() (release func(), err error) {
	folder, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(folder.Fd()), syscall.LOCK_SH)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		folder.Close()
		return nil, &os.PathError{Op: "lock", Path: d.path, Err: err}
	}
	return func() { folder.Close() }, nil
}

// Guarded says whether somebody does.
func (d *Dir) Guarded() bool {
	folder, err := os.Open(d.path)
	if err != nil {
		return false
	}
	defer folder.Close()
	for range 3 { // another one may be looking at this very moment
		err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

// Watch tells of changes to the files in the folder, some of them together,
// until stop.
func (d *Dir) Watch() (changes <-chan struct{}, stop func(), err error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, nil, os.NewSyscallError("inotify_init1", err)
	}
	if _, err := syscall.InotifyAddWatch(fd, d.path, syscall.IN_MOVED_TO|syscall.IN_DELETE|syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF|syscall.IN_UNMOUNT); err != nil {
		syscall.Close(fd)
		return nil, nil, &os.PathError{Op: "watch", Path: d.path, Err: err}
	}
	file := os.NewFile(uintptr(fd), "inotify")
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		buffer := make([]byte, 4096)
		for {
			if _, err := file.Read(buffer); err != nil {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { file.Close() }, nil
}
