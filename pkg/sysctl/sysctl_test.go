package sysctl

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"
)

func TestPath(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"net/ipv4/ip_forward", "net/ipv4/ip_forward"},
		{"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		{"/proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward"},
		{"net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"},
		{"net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"},
		{"net/ipv4/conf/a..b/forwarding", "net/ipv4/conf/a..b/forwarding"},
		{"", ""},
		{"net//x", ""},
		{"/etc/passwd", ""},
		{"net/../../etc/passwd", ""},
		{"net.//.passwd", ""},
		{"net/ipv4/./ip_forward", ""},
		{"net/ipv4/", ""},
		{"net/\x00", ""},
	} {
		got, err := Path(c.name)
		if got != c.want && err == nil || (err != nil) != (c.want == "") {
			t.Errorf("Path(%q) = %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestFailedKeepsTheCause(t *testing.T) {
	pathError := func(err error) error { return &fs.PathError{Op: "open", Path: "/proc/sys/x", Err: err} }
	for _, c := range []struct {
		err  error
		is   []error
		text string
	}{
		{pathError(syscall.ENOENT), []error{ErrAbsent}, "write sysctl x: no such sysctl"},
		{pathError(syscall.EACCES), []error{fs.ErrPermission, syscall.EACCES}, "write sysctl x: permission denied"},
		{pathError(syscall.EPERM), []error{fs.ErrPermission}, "write sysctl x: operation not permitted"},
		{pathError(syscall.EROFS), []error{fs.ErrPermission, ErrReadOnly, syscall.EROFS},
			"write sysctl x: /proc/sys is mounted read-only, as in most containers; set it from the host"},
	} {
		err := failed("write", "x", c.err)
		if err.Error() != c.text {
			t.Errorf("got  %q\nwant %q", err, c.text)
		}
		for _, is := range c.is {
			if !errors.Is(err, is) {
				t.Errorf("%q is not %v", err, is)
			}
		}
	}
}
