//go:build linux

package nftables

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// Keep has all questions and commits go over one socket from now on. Closing
// one waits for the kernel to free what a commit has removed, some 10 ms, and a
// table that is owned belongs to a socket.
func (b *Backend) Keep() error {
	b.mu.Lock()
	b.keep = true
	b.mu.Unlock()
	return b.over(func(*nfnetlink.Conn) error { return nil })
}

// Close ends Keep. A table that is owned stays, and is anybody's again.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep, b.own = false, false
	return b.drop()
}

// drop closes the socket that is kept.
func (b *Backend) drop() error {
	c := b.kept
	b.kept, b.owned = nil, false
	if c == nil {
		return nil
	}
	return c.Close()
}

// Own makes the table this process's alone: the kernel then refuses whatever
// others would do to it, and passes it over when they flush the ruleset. It
// needs Keep, and a kernel on which the table outlives its owner
// (backend.ErrNotSupported where it would not): without its rules the host would
// forward what a crash lets through. A table that is there and not owned is
// made anew by the next commit, in one transaction and with what it has
// counted; until then Probe says that nothing is known of it.
func (b *Backend) Own(context.Context) error {
	return b.over(func(c *nfnetlink.Conn) error {
		probe := &nfnetlink.Batch{}
		probe.Message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, unix.NFPROTO_INET)
		probe.String(unix.NFTA_TABLE_NAME, Table+"-probe")
		probe.Uint32(unix.NFTA_TABLE_FLAGS, nftTableOwner|nftTablePersist)
		switch err := c.DryRun(probe, 0); {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			return fmt.Errorf("a table that outlives its owner (Linux 6.9): %w", backend.ErrNotSupported)
		case err != nil:
			return fmt.Errorf("ask whether a table can be owned: %w", err)
		}
		b.own = true
		return b.adopt(c)
	})
}

// Owned says whether the table is this process's.
func (b *Backend) Owned() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.owned
}

// adopt takes a table that an owner has left behind.
func (b *Backend) adopt(c *nfnetlink.Conn) error {
	there, flags, err := tableFlags(c)
	switch {
	case err != nil:
		return fmt.Errorf("read the table inet %s: %w", Table, err)
	case !there:
		return nil
	case flags&nftTableOwner != 0:
		return backend.ErrOwned
	case flags&nftTablePersist == 0 || flags&nftTableDormant != 0:
		return nil // it is made anew
	}
	batch := &nfnetlink.Batch{}
	batch.Message(unix.NFT_MSG_NEWTABLE, 0, unix.NFPROTO_INET)
	batch.String(unix.NFTA_TABLE_NAME, Table)
	batch.Uint32(unix.NFTA_TABLE_FLAGS, nftTableOwner|nftTablePersist)
	if _, err := c.Commit(batch, 0); err != nil {
		return fmt.Errorf("take the table inet %s over: %w", Table, err)
	}
	b.owned = true
	return nil
}

// over gives use the socket that is kept, else one of its own. What is not the
// kernel's answer to a commit may have left half an answer behind: the socket
// is not used again.
func (b *Backend) over(use func(*nfnetlink.Conn) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.keep {
		return b.dial(use)
	}
	if b.kept == nil {
		err := b.enter(func() (err error) {
			b.kept, err = nfnetlink.Dial()
			return unsupported(err)
		})
		if err != nil {
			return err
		}
		if b.own {
			if err := b.adopt(b.kept); err != nil {
				return errors.Join(err, b.drop())
			}
		}
	}
	err := use(b.kept)
	var answer *nfnetlink.Error
	var refused *backend.Refused
	if err == nil || errors.As(err, &answer) || errors.As(err, &refused) || errors.Is(err, backend.ErrStale) || errors.Is(err, backend.ErrOwned) || errors.Is(err, backend.ErrNotSupported) {
		return err
	}
	_ = b.drop()
	return err
}

// foreign says whether the table is to be taken over, and has not been.
func (b *Backend) foreign() bool { return b.own && !b.owned }

func (b *Backend) keeps() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keep
}

// yetToOwn is foreign for those who do not have the socket.
func (b *Backend) yetToOwn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.foreign()
}

// ownership tells a transaction what to make of the table.
func (b *Backend) ownership() ownership {
	if !b.own {
		return ownership{}
	}
	return ownership{flags: nftTableOwner | nftTablePersist, anew: !b.owned}
}

// ownership is what a transaction makes of the table's.
type ownership struct {
	flags uint32
	// anew has the table made anew, since the kernel gives no owner to one that
	// never had any.
	anew bool
}

// committed remembers whose the table is.
func (b *Backend) committed(changes *plan.Changes, err error) {
	if err == nil && b.own {
		b.owned = !changes.To.Empty()
	}
}

// tableFlags asks for the flags of our table.
func tableFlags(c *nfnetlink.Conn) (there bool, flags uint32, err error) {
	err = c.Get(nfnetlink.Nftables(unix.NFT_MSG_GETTABLE), unix.NFPROTO_INET, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_TABLE_NAME, Table)
	}, func(m nfnetlink.Message) error {
		there = true
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			if a.Type() == unix.NFTA_TABLE_FLAGS {
				flags = a.Uint32()
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return false, 0, nil
	}
	return there, flags, err
}

// ownedByOther says whether the table belongs to a process that lives. It is
// asked after a commit that was not permitted, over the socket that it was
// sent over.
func ownedByOther(c *nfnetlink.Conn) bool {
	there, flags, err := tableFlags(c)
	return err == nil && there && flags&nftTableOwner != 0
}
