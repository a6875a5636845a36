package link

import (
	"errors"
	"os"
)

// ErrNoNetNS is a network namespace that is not there, or a file that is none.
var ErrNoNetNS = errors.New("no such network namespace")

// NetNS is an open handle of a network namespace: the namespace lives as long
// as the handle, even when its name is deleted.
type NetNS struct {
	file *os.File
	id   string
}

// ID tells namespaces apart across runs: "inode:device@boot", where boot is
// /proc/sys/kernel/random/boot_id. The kernel reuses the inode number of a
// namespace that is gone, so within one boot the same ID may in rare cases be
// another namespace; a different ID always is.
func (n *NetNS) ID() string { return n.id }

// Close gives the handle up.
func (n *NetNS) Close() error { return n.file.Close() }
