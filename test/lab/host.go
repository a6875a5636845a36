package lab

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a machine of the lab: a network namespace and what is in it.
type Host struct {
	lab  *Lab
	name string
	path string
	fd   int
	nl   *netlink.Handle

	sending sync.Mutex
	sender  *sender
}

func newHost(l *Lab, name string) (*Host, error) {
	h := &Host{lab: l, name: name, path: filepath.Join(namespaceDir, l.prefix+name)}
	fd, err := newNamespace(h.path, func() error {
		if err := quieten(); err != nil {
			return err
		}
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		lo, err := nl.LinkByName("lo")
		if err == nil {
			err = nl.LinkSetUp(lo)
		}
		if err != nil {
			nl.Close()
			return fmt.Errorf("set lo up: %w", err)
		}
		h.nl = nl
		return nil
	})
	if err != nil {
		return nil, err
	}
	h.fd = fd
	return h, nil
}

func (h *Host) close() {
	h.nl.Close()
	_ = unix.Close(h.fd)
	removeNamespace(h.path)
}

// Name returns the name that [Lab.Host] was given.
func (h *Host) Name() string { return h.name }

// NetNS returns the path of the host's network namespace, as `--netns` and `ip netns` take it.
func (h *Host) NetNS() string { return h.path }

// Do runs f inside the host's network namespace. Sockets that f opens stay in it; goroutines that f starts do
// not run in it.
func (h *Host) Do(f func() error) error {
	return withinNamespace(h.fd, f)
}

// must fails the test: a lab that cannot be built proves nothing.
func (h *Host) must(err error) {
	h.lab.t.Helper()
	if err != nil {
		h.lab.t.Fatalf("lab: %s: %v", h.name, err)
	}
}
