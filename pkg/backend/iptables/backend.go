package iptables

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Backend is the iptables of one network namespace.
//
// Iptables counts no generations. Its generation here is a digest of all rules
// of both families, ours and others', which is compared once more right before
// the first file is committed: what others commit in the few milliseconds from
// then on is not seen before the next look. Our own chains are as wanted then,
// and their rules untouched; only the place of our jumps may be another.
type Backend struct {
	// Waiting is told why a commit waits, if it does. Nil is allowed.
	Waiting func(why string)

	enter    func(func() error) error
	programs map[ruleset.Family]programs
	mu       sync.Mutex // one commit at a time
}

// New gives the backend for the namespace in which enter runs a function. The
// variant is "iptables-legacy" or "iptables-nft"; "" is the host's choice. It is
// [backend.ErrNotSupported] where there is no such program.
func New(enter func(func() error) error, variant string) (*Backend, error) {
	found, err := find(variant)
	if err != nil {
		return nil, err
	}
	return &Backend{enter: enter, programs: found}, nil
}

var _ backend.Backend = (*Backend)(nil)

// Name is "iptables".
func (b *Backend) Name() string { return "iptables" }

// Probe gives the digest of all rules.
func (b *Backend) Probe(ctx context.Context) (uint32, error) {
	h, err := b.read(ctx)
	if err != nil {
		return 0, err
	}
	return h.hash, nil
}

// Have reads our chains, and the jumps to them.
func (b *Backend) Have(ctx context.Context) (*plan.Snapshot, error) {
	h, err := b.read(ctx)
	if err != nil {
		return nil, err
	}
	return h.snapshot, nil
}

// HaveAfter is Have.
func (b *Backend) HaveAfter(ctx context.Context, _ *plan.Changes) (*plan.Snapshot, error) {
	return b.Have(ctx)
}

// read runs iptables-save and ip6tables-save.
func (b *Backend) read(ctx context.Context) (*held, error) {
	saved := map[ruleset.Family]string{}
	for _, f := range families() {
		p, ok := b.programs[f]
		if !ok {
			continue
		}
		text, err := b.run(ctx, "", p.save, "-c")
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
		saved[f] = text
	}
	return parse(saved), nil
}

// Commit tests every file, then commits one after the other: each table is
// changed whole or not at all. Where one fails, those before it go back to what
// they were.
func (b *Backend) Commit(ctx context.Context, changes *plan.Changes, dryRun bool) error {
	if changes.Empty() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now, err := b.current(ctx, changes)
	if err != nil {
		return err
	}
	if err := b.test(ctx, changes, now); err != nil || dryRun {
		return err
	}
	if now, err = b.current(ctx, changes); err != nil {
		return err
	}
	done := files(changes, now)
	for i, f := range done {
		if err := b.restore(ctx, f, false); err != nil {
			return b.back(context.WithoutCancel(ctx), changes, i, err)
		}
	}
	return nil
}

// current reads what is there, which must be what the changes begin with.
func (b *Backend) current(ctx context.Context, changes *plan.Changes) (*held, error) {
	now, err := b.read(ctx)
	if err != nil {
		return nil, err
	}
	if now.hash != changes.From.Generation {
		return nil, backend.ErrStale
	}
	return now, nil
}

func (b *Backend) test(ctx context.Context, changes *plan.Changes, now *held) error {
	for _, f := range files(changes, now) {
		if err := b.restore(ctx, f, true); err != nil {
			return err
		}
	}
	return nil
}

// back undoes the files that were committed before one failed.
func (b *Backend) back(ctx context.Context, changes *plan.Changes, committed int, why error) error {
	if committed == 0 {
		return why
	}
	now, err := b.read(ctx)
	if err != nil {
		return fmt.Errorf("%w; and the tables before it could not be put back: %w", why, err)
	}
	for _, f := range files(plan.Diff(now.snapshot, changes.From), now) {
		if err := b.restore(ctx, f, false); err != nil {
			return fmt.Errorf("%w; and the tables before it could not be put back: %w", why, err)
		}
	}
	return why
}
