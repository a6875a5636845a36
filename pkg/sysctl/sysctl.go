// Package sysctl reads and writes the kernel's settings below /proc/sys, plans
// the ones that forwarding needs, and puts them back.
//
// What net/... means depends on the network namespace of the calling thread:
// a caller that has entered a namespace stays locked to its OS thread while it
// calls anything here.
//
// Turning forwarding on or off writes more than the one file: the kernel
// spreads the value over every interface and flips ICMP redirects with it, see
// [ForwardingChanges]. Undoing is therefore not writing the old value again.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ErrAbsent is a sysctl that the kernel does not have: an interface that is
// gone, a module that is not loaded, IPv6 disabled at boot.
var ErrAbsent = errors.New("no such sysctl")

// ErrReadOnly is a /proc/sys that is mounted read-only, as most containers
// have it. It is also an [fs.ErrPermission].
var ErrReadOnly = errors.New("/proc/sys is mounted read-only, as in most containers; set it from the host")

// Path gives the slash form of a name, "net/ipv4/ip_forward", which is what
// Change.Name holds. As in sysctl(8) the first separator decides: in
// "net/ipv4/conf/eth0.100/forwarding" dots are part of a name, and in
// "net.ipv4.conf.eth0/100.forwarding" slashes stand for them.
func Path(name string) (string, error) {
	path := strings.TrimPrefix(name, "/proc/sys/")
	if i := strings.IndexAny(path, "./"); i >= 0 && path[i] == '.' {
		path = strings.NewReplacer(".", "/", "/", ".").Replace(path)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			return "", fmt.Errorf("sysctl %q: not a name such as net/ipv4/ip_forward", name)
		}
	}
	return path, nil
}

// failed says what was being done to which sysctl, and gives the causes that
// a caller can act on their sentinel.
func failed(doing, name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s sysctl %s: %w", doing, name, ErrAbsent)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s sysctl %s: %w", doing, name, readOnly{})
	}
	return fmt.Errorf("%s sysctl %s: %w", doing, name, err)
}

// readOnly is ErrReadOnly for those who look for the exact cause, and a
// permission error for those who only choose an exit code.
type readOnly struct{}

func (readOnly) Error() string { return ErrReadOnly.Error() }

func (readOnly) Unwrap() []error {
	return []error{ErrReadOnly, syscall.EROFS, fs.ErrPermission}
}

// tidy is a value in the one form in which values are compared: sysctls with
// several numbers are written with spaces and read back with tabs.
func tidy(value string) string {
	return strings.Join(strings.Fields(value), " ")
}
