//go:build linux

// Package nftables puts a compiled policy into the kernel as the nftables table
// "inet ipmasq", reads it back, and prints it as text for nft(8).
//
// What it writes is the form in which the kernel dumps it, so that reading back
// is a comparison of bytes; each departure from what nft(8) itself would send
// is marked where it is made.
package nftables

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// Backend is the nftables of one network namespace.
type Backend struct {
	enter func(func() error) error

	mu   sync.Mutex
	kept *nfnetlink.Conn // for questions and commits, from Keep on
	keep bool
	own  bool // the table is to be ours alone, see Own
	// owned says that it is: of the socket that is kept.
	owned bool
}

// New gives the backend for the namespace in which enter runs a function.
func New(enter func(func() error) error) *Backend { return &Backend{enter: enter} }

var _ backend.Backend = (*Backend)(nil)

// Name is "nftables".
func (b *Backend) Name() string { return "nftables" }

// dial gives use a socket in the namespace.
func (b *Backend) dial(use func(*nfnetlink.Conn) error) error {
	return b.enter(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return unsupported(err)
		}
		defer c.Close()
		return use(c)
	})
}

// Probe asks for the generation. It gives 0, which is never equal, where the
// table is yet to be taken over.
func (b *Backend) Probe(context.Context) (uint32, error) {
	var generation uint32
	err := b.over(func(c *nfnetlink.Conn) (err error) {
		if b.foreign() {
			return nil
		}
		generation, err = c.Generation()
		return unsupported(err)
	})
	return generation, err
}

// unsupported names the answers of a kernel that has no nftables.
func unsupported(err error) error {
	for _, errno := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL} {
		if errors.Is(err, errno) {
			return fmt.Errorf("nftables (CONFIG_NF_TABLES): %w: %w", backend.ErrNotSupported, err)
		}
	}
	return err
}

// Commit sends the changes as one transaction. A dry run leaves out its end:
// the kernel then checks all of it and forgets it. Of a table that does not
// exist yet it checks each object, but not the whole: a loop of jumps, or an
// expression that its hook does not allow, is found at the commit.
func (b *Backend) Commit(ctx context.Context, changes *plan.Changes, dryRun bool) error {
	if changes.Empty() {
		return nil
	}
	if changes.From.Generation == 0 {
		return backend.ErrStale // it was not read from a kernel
	}
	if !dryRun {
		backend.LoadModules(ctx, backend.NATModules(newHelpers(changes)))
	}
	return b.over(func(c *nfnetlink.Conn) error {
		t := newTransaction(changes, b.ownership())
		var err error
		if dryRun {
			err = c.DryRun(&t.batch, changes.From.Generation)
		} else {
			_, err = c.Commit(&t.batch, changes.From.Generation)
			b.committed(changes, err)
		}
		if errors.Is(err, unix.EPERM) && ownedByOther(c) {
			return backend.ErrOwned
		}
		return t.explain(err)
	})
}
