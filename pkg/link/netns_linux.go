package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	namedNetNS  = "/run/netns" // where ip-netns(8) binds names
	threadNetNS = "/proc/thread-self/ns/net"
	bootID      = "/proc/sys/kernel/random/boot_id"
)

// OpenNetNS opens a network namespace: "" is the calling thread's, a name is
// one of ip-netns(8), and anything with a slash is a path, such as
// /proc/1234/ns/net.
func OpenNetNS(nameOrPath string) (*NetNS, error) {
	path := nameOrPath
	switch {
	case nameOrPath == "":
		path = threadNetNS
	case nameOrPath == "." || nameOrPath == "..":
		return nil, fmt.Errorf("network namespace %q: not a name", nameOrPath)
	case !strings.Contains(nameOrPath, "/"):
		path = filepath.Join(namedNetNS, nameOrPath)
	}
	// A namespace file opens at once; a FIFO, by mistake, would wait for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openFailed(nameOrPath, err)
	}
	n := &NetNS{file: file}
	if kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		file.Close()
		return nil, fmt.Errorf("%s is not a network namespace: %w", path, ErrNoNetNS)
	}
	if n.id, err = n.identity(); err != nil {
		file.Close()
		return nil, fmt.Errorf("identify network namespace %s: %w", path, err)
	}
	return n, nil
}

// openFailed lists the names that there are, for the one that is not.
func openFailed(nameOrPath string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open network namespace %q: %w", nameOrPath, err)
	}
	if strings.Contains(nameOrPath, "/") {
		return fmt.Errorf("network namespace %s: %w", nameOrPath, ErrNoNetNS)
	}
	entries, listing := os.ReadDir(namedNetNS)
	if listing != nil && !errors.Is(listing, fs.ErrNotExist) {
		return fmt.Errorf("network namespace %q: %w (%w)", nameOrPath, ErrNoNetNS, listing)
	}
	if len(entries) == 0 {
		return fmt.Errorf("network namespace %q: %w; %s holds none", nameOrPath, ErrNoNetNS, namedNetNS)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return fmt.Errorf("network namespace %q: %w; there are: %s", nameOrPath, ErrNoNetNS, strings.Join(names, ", "))
}

func (n *NetNS) identity() (string, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &stat); err != nil {
		return "", err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d%s@%s", stat.Ino, stat.Dev, n.cookie(), strings.TrimSpace(string(boot))), nil
}

// cookie is the number, never given twice, that the kernel tells sockets in the
// namespace (Linux 5.14); "" where it does not, or nobody can be in there.
func (n *NetNS) cookie() (cookie string) {
	_ = n.Do(func() error {
		socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		number, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err == nil {
			cookie = fmt.Sprintf(":%d", number)
		}
		return err
	})
	return cookie
}

// Do runs a function in the namespace. The function is locked to its OS
// thread, and goroutines that it starts are not in the namespace; sockets that
// it opens stay there. Where it is in the namespace already nothing is entered,
// which needs no privilege.
//
// Should the way back fail, Do says so, and the calling goroutine must end: it
// stays locked to a thread in the wrong namespace, which the runtime throws
// away with it.
func (n *NetNS) Do(run func() error) (err error) {
	runtime.LockOSThread()
	back, err := os.Open(threadNetNS)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the caller's network namespace: %w", err)
	}
	defer back.Close()
	if here, err := sameFile(back, n.file); err != nil || here {
		defer runtime.UnlockOSThread()
		if err != nil {
			return fmt.Errorf("compare network namespaces: %w", err)
		}
		return run()
	}
	err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
	runtime.KeepAlive(n.file)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.file.Name(), err)
	}
	defer func() {
		if failure := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); failure != nil {
			err = errors.Join(err, fmt.Errorf("go back to the caller's network namespace: %w", failure))
			return
		}
		runtime.UnlockOSThread()
	}()
	return run()
}

func sameFile(a, b *os.File) (bool, error) {
	left, err := a.Stat()
	if err != nil {
		return false, err
	}
	right, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(left, right), nil
}
