package link

import (
	"errors"
	"os"
	"strings"
)

// ErrNoNetNS is a network namespace that is not there, or a file that is none.
var ErrNoNetNS = errors.New("no such network namespace")

// NetNS is an open handle of a network namespace: the namespace lives as long
// as the handle, even when its name is deleted.
type NetNS struct {
	file *os.File
	id   string
}

// ID tells namespaces apart across runs: "inode:device:cookie@boot", where boot
// is /proc/sys/kernel/random/boot_id. Linux before 5.14 tells no cookie, and it
// is left out. The kernel reuses the inode number of a namespace that is gone,
// so without it the same ID may in rare cases be another namespace; a different
// ID always is, see [SameNetNS].
func (n *NetNS) ID() string { return n.id }

// SameNetNS says whether two IDs are of one namespace: they are equal, or only
// one of them was made where the cookie could be told.
func SameNetNS(a, b string) bool {
	x, bootA, _ := strings.Cut(a, "@")
	y, bootB, _ := strings.Cut(b, "@")
	if strings.Count(x, ":") > strings.Count(y, ":") {
		x = x[:strings.LastIndex(x, ":")]
	} else if strings.Count(y, ":") > strings.Count(x, ":") {
		y = y[:strings.LastIndex(y, ":")]
	}
	return x == y && bootA == bootB
}

// Close gives the handle up.
func (n *NetNS) Close() error { return n.file.Close() }

// File is the open namespace, for a process that is to have it too. It closes
// with the handle.
func (n *NetNS) File() *os.File { return n.file }
