package iptables

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Backend is the iptables of one network namespace.
//
// Iptables counts no generations. Its generation here is a digest of all rules
// of both families, ours and others', and of our sets, which is compared once
// more right before the first file is committed: what others commit in the few
// milliseconds from then on is not seen before the next look. Our own chains are
// as wanted then, and their rules untouched; only the place of our jumps may be
// another.
type Backend struct {
	// Waiting is told why a commit waits, if it does. Nil is allowed.
	Waiting func(why string)
	// Committed is told of each table when it is committed. Nil is allowed.
	Committed func(f ruleset.Family, table string)
	// Lock is the file of a lock that programs which commit are to have too: they
	// may outlive this process for as long as the kernel takes, and longer where
	// they are scripts. Nil is allowed, and so is a nil file.
	Lock func() *os.File

	enter    func(func() error) error
	variant  string
	programs map[ruleset.Family]programs
	kernel   kernel
	// protocols are the numbers of names that iptables-save prints.
	protocols map[string]string
	commits   sync.Mutex // one at a time
	seed      maphash.Seed
	mu        sync.Mutex
	last      seen
}

// The variants. Each has tables of its own, and the programs of one do not see
// those of the other.
const (
	nftVariant    = "iptables-nft"
	legacyVariant = "iptables-legacy"
)

// New gives the backend for the namespace in which enter runs a function, which
// may be called by several at once. The variant is "iptables-legacy" or
// "iptables-nft"; "" is the host's choice: that of the program that is called
// iptables. It is [backend.ErrNotSupported] where there is no such program.
func New(enter func(func() error) error, variant string) (*Backend, error) {
	found, is, err := find(variant)
	if err != nil {
		return nil, err
	}
	b := &Backend{enter: enter, variant: is, programs: found, protocols: protocolNumbers(), seed: maphash.MakeSeed()}
	b.kernel = kernel{sets: b.probeSets(), shifts: probeShifts(), noIPv6: !sysctl.HasIPv6()}
	if b.kernel.noIPv6 {
		delete(b.programs, ruleset.IPv6)
	}
	return b, nil
}

var _ backend.Backend = (*Backend)(nil)

// Name is the variant: "iptables-nft" or "iptables-legacy".
func (b *Backend) Name() string { return b.variant }

// Have reads our chains, the jumps to them, and our sets.
func (b *Backend) Have(ctx context.Context) (*plan.Snapshot, error) {
	h, err := b.seen(ctx, b.look(), nil, true)
	if err != nil {
		return nil, err
	}
	return h.snapshot, nil
}

// HaveAfter is Have.
func (b *Backend) HaveAfter(ctx context.Context, changes *plan.Changes) (*plan.Snapshot, error) {
	h, err := b.read(ctx, changes.To.Sets, true)
	if err != nil {
		return nil, err
	}
	return h.snapshot, nil
}

// read runs iptables-save and ip6tables-save, and reads our sets: their elements
// too, or digests of them alone. Sets that are known to be as they are need not
// be sorted.
func (b *Backend) read(ctx context.Context, known []*plan.Set, elements bool) (*held, error) {
	timeouts, err := b.timeouts()
	if err != nil {
		return nil, err
	}
	var errs [3]error
	var parsers []*parser
	var sets []heldSet
	var all sync.WaitGroup
	for i, f := range families() {
		p := newParser(f, b.protocols)
		parsers = append(parsers, p)
		if program, ok := b.programs[f]; ok {
			all.Go(func() { errs[i] = b.run(ctx, streams{out: p.read}, program.save, "-c") })
		}
	}
	all.Go(func() { sets, errs[2] = b.readSets(known, elements) })
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
	}
	return join(parsers, sets, timeouts), nil
}

// Commit tests what it will give to iptables-restore, then has it committed, a
// table after the other: each is changed whole or not at all. Where one fails,
// those before it go back to what they were.
func (b *Backend) Commit(ctx context.Context, changes *plan.Changes, dryRun bool) error {
	if changes.Empty() {
		return nil
	}
	b.commits.Lock()
	defer b.commits.Unlock()
	if dryRun {
		if _, err := b.current(ctx, changes, nil); err != nil {
			return err
		}
		return b.test(ctx, changes, files(changes, &held{}))
	}
	// Where one table alone changes, to test it is to commit it.
	if all := files(changes, &held{}); len(all) > 1 {
		if err := b.test(ctx, changes, all); err != nil {
			if _, stale := b.current(ctx, changes, nil); stale != nil {
				err = stale
			}
			return err
		}
	}
	sets, err := b.prepareSets(changes)
	if err != nil {
		return err
	}
	now, err := b.current(ctx, changes, sets.made)
	if err == nil {
		err = sets.carryOut()
	}
	if err == nil {
		if err = b.carryOut(ctx, changes, now); err != nil {
			err = b.back(context.WithoutCancel(ctx), changes, err)
		}
	}
	if err == nil {
		return sets.finish()
	}
	if failed := sets.goBack(); failed != nil {
		return fmt.Errorf("%w; and the sets could not be put back: %w", err, failed)
	}
	return err
}

// carryOut makes what rules refer to, then changes one table after the other, then
// removes what no rule refers to any more.
func (b *Backend) carryOut(ctx context.Context, changes *plan.Changes, now *held) error {
	if err := b.makeTimeouts(changes); err != nil {
		return err
	}
	backend.LoadModules(ctx, backend.NATModules(newHelpers(changes)))
	for _, f := range b.steps(steadily(changes, now)) {
		if err := b.restore(ctx, f, false); err != nil {
			return err
		}
		for _, x := range f.files {
			if b.Committed != nil {
				b.Committed(x.family, x.table)
			}
		}
	}
	return b.dropTimeouts(ctx, changes)
}

// steps are what one program after the other commits: all tables of a family,
// or each alone where somebody is told of it.
func (b *Backend) steps(files []*file) []*batch {
	if b.Committed == nil {
		return batches(files)
	}
	var out []*batch
	for _, f := range files {
		out = append(out, batches([]*file{f})...)
	}
	return out
}

// current gives what is there, which must be what the changes begin with, but for
// sets that were made. Rules are read where any that change may have counted, or
// may be others than when they were last read.
func (b *Backend) current(ctx context.Context, changes *plan.Changes, made map[string]bool) (*held, error) {
	look := b.again
	if slices.ContainsFunc(changes.Chains, func(c plan.ChainChange) bool { return c.From >= 0 }) {
		look = func(ctx context.Context) (*held, error) { return b.read(ctx, nil, false) }
	}
	now, err := look(ctx)
	if err != nil {
		return nil, err
	}
	if now.generation(made) != changes.From.Generation {
		return nil, backend.ErrStale
	}
	return now, nil
}

// test has iptables-restore read all, and commit nothing.
func (b *Backend) test(ctx context.Context, changes *plan.Changes, whole []*file) error {
	missing := map[string]bool{}
	for _, c := range changes.Sets {
		if c.Kind == plan.Add {
			missing[changes.To.Sets[c.To].Name] = true
		}
	}
	list := batches(samples(whole, missing))
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, f := range list {
		all.Go(func() { errs[i] = b.restore(ctx, f, true) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// back undoes what was carried out before something failed.
func (b *Backend) back(ctx context.Context, changes *plan.Changes, why error) error {
	now, err := b.read(ctx, nil, false)
	if err == nil {
		err = b.carryOut(ctx, plan.Diff(now.snapshot, changes.From), now)
	}
	if err != nil {
		return fmt.Errorf("%w; and what was changed before it could not be put back: %w", why, err)
	}
	return why
}
