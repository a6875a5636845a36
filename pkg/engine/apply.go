package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Apply makes the host what the policy wants. It returns what it changed; an
// empty plan means that nothing was to be done and nothing was. It refuses with
// an [*UnconfirmedError] while another policy is not confirmed. After an error
// the kernel's rules and sysctls are as they were. Flows that could not be cut
// are no error, for the rules are in force: see [Cut].
func (e *Engine) Apply(ctx context.Context, p *policy.Policy) (*Plan, error) {
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.refused(remembered); err != nil {
		return nil, err
	}
	return e.carry(ctx, p, remembered, nil)
}

// carry plans and commits, again where somebody else was faster.
func (e *Engine) carry(ctx context.Context, p *policy.Policy, remembered *state.State, settle func(*state.State)) (*Plan, error) {
	reads, held := false, e.Backend
	var err error
	defer func() {
		if err != nil {
			e.Backend = held
		}
	}()
	for range staleAttempts {
		var pl *Plan
		if pl, err = e.plan(ctx, p, remembered, reads); err != nil {
			return nil, err
		}
		pl.settle = settle
		if e.Expected != nil {
			if err = e.Expected.compare(pl); err != nil {
				return nil, err
			}
		}
		if err = e.commit(ctx, pl, remembered); err == nil {
			e.cut(ctx, pl)
			return pl, nil
		}
		if !again(err, pl) {
			return nil, err
		}
		reads = true
	}
	return nil, fmt.Errorf("apply: %w (%d times in a row)", err, staleAttempts)
}

// commit carries a plan out.
func (e *Engine) commit(ctx context.Context, pl *Plan, remembered *state.State) (err error) {
	sources := pl.stored()
	next := e.next(pl, remembered, sources)
	if pl.settle == nil && pl.Empty() && remembered.Lapsed == nil && remembered.Applied != nil && remembered.Applied.Digest == next.Applied.Digest && remembered.Rules == pl.digest && remembered.Pending == nil && !e.moves(remembered) && remembered.Docker == next.Docker {
		e.seeDocker(pl)
		// Others have changed rules of theirs: that need not be found out again.
		if next.Generation != remembered.Generation || next.NetNS != remembered.NetNS {
			_ = e.State.Save(next)
		}
		return nil
	}
	if err := e.writable(pl.writes()); err != nil {
		return err
	}
	// All that can fail on the disk fails before the kernel is touched. What
	// is to be put back one day is on it before it is changed.
	done := e.step("state")
	saved := false
	// But the way back is not to depend on a disk that is full.
	disk := func(err error) error {
		if pl.settle == nil {
			return err
		}
		pl.unsaved = cmp.Or(pl.unsaved, err)
		return nil
	}
	defer func() {
		if err != nil && saved {
			e.forget(remembered)
		}
		if err != nil && !again(err, pl) {
			e.recordFailure(pl, remembered, err)
		}
	}()
	if next.Unconfirmed, err = e.startWindow(pl, remembered, next.Unconfirmed); err != nil {
		return err
	}
	known := e.State.Holds(pl.source()) && (remembered.Applied == nil || remembered.Applied.Digest != pl.source())
	_, err = e.State.SavePolicy(sources)
	if err = disk(err); err != nil {
		return err
	}
	if intents := withIntents(remembered.Sysctls, pl.Sysctls); known || next.Unconfirmed != nil || e.arrives(remembered) || e.moves(remembered) || !slices.Equal(intents, remembered.Sysctls) || next.Docker && !remembered.Docker {
		early := *remembered
		if e.arrives(remembered) {
			early.Also = append(slices.Clone(early.Also), e.Backend.Name())
		}
		early.Sysctls, early.NetNS = intents, next.NetNS
		early.Docker = remembered.Docker || next.Docker
		if next.Unconfirmed != nil {
			early.Unconfirmed = next.Unconfirmed
		}
		early.Pending = begun(remembered, pl.source())
		saved = true
		if err := disk(e.State.Save(early)); err != nil {
			return err
		}
	}
	staged, err := e.State.Stage(next)
	if err = disk(err); err != nil {
		return err
	}
	defer func() {
		if staged != nil {
			_ = staged.Discard()
		}
	}()
	done()
	// Where marks lead must be there before anything is marked, and as long.
	if !pl.Routing.Empty() {
		defer func() {
			if err != nil {
				err = e.undoRouting(pl.Routing, err)
			}
		}()
		done = e.step("routes")
		if err := e.NetNS.Do(pl.Routing.Add.Add); err != nil {
			return err
		}
		done()
	}
	// What Docker is not to let pass any more goes before what judged it.
	if !pl.Docker.Empty() {
		defer func() {
			if err != nil {
				err = e.undoDocker(ctx, pl.Docker, err)
			}
		}()
		if err := e.takeDocker(ctx, pl); err != nil {
			return err
		}
	}
	done = e.step("commit")
	if err := e.Backend.Commit(ctx, pl.Rules, false); err != nil {
		return err
	}
	done()
	var wrote []sysctl.Change
	var gone []Left
	undo := func(why error) error {
		undone, err := e.putBack(ctx, pl, gone, wrote, why)
		saved = saved && undone // what is still to be put back is remembered
		return err
	}
	generation, err := e.verify(ctx, pl)
	if err != nil {
		return undo(err)
	}
	if gone, err = e.removeLeft(ctx, pl.Left); err != nil {
		return undo(err)
	}
	if len(gone) > 0 {
		generation = 0 // the removal was a commit too, and others may have made one since
	}
	done = e.step("sysctls")
	if wrote, err = e.turnOn(pl.Sysctls); err != nil {
		return undo(err)
	}
	done()
	if err := e.NetNS.Do(pl.Routing.Remove.Remove); err != nil {
		return undo(err)
	}
	if !pl.Docker.Empty() {
		if generation, err = e.putDocker(ctx, pl, generation); err != nil {
			return undo(err)
		}
	}
	e.seeDocker(pl)
	done = e.step("remember")
	// What somebody else has turned on since the plan was made is not ours.
	sysctls, pending := withChanges(remembered.Sysctls, wrote), e.toReconcile(pl)
	if u := next.Unconfirmed; u != nil && u != remembered.Unconfirmed { // the time begins now
		begins := *u
		begins.Deadline = uptime() + u.Window
		next.Unconfirmed, next.Generation = &begins, 0
	}
	if staged == nil || generation != next.Generation || !slices.Equal(sysctls, next.Sysctls) || (pending == nil) != (next.Pending == nil) {
		next.Generation, next.Sysctls, next.Pending = generation, sysctls, pending
		again, err := e.State.Stage(next)
		if err = disk(err); err != nil {
			return undo(err)
		}
		staged = again
	}
	saved = true
	if staged != nil {
		if err := staged.Commit(); err == nil {
			pl.unsaved = nil
		} else if err = disk(err); err != nil {
			return undo(err)
		}
	}
	e.keep(pl)
	pl.remembered, pl.Unconfirmed = next, e.waiting(next.Unconfirmed)
	e.recordApply(pl, remembered)
	done()
	return nil
}

// verify reads back what was committed. It gives the generation that holds it.
func (e *Engine) verify(ctx context.Context, pl *Plan) (uint32, error) {
	defer e.step("read back")()
	if pl.Rules.Empty() {
		return e.Backend.Probe(ctx)
	}
	have, err := e.Backend.HaveAfter(ctx, pl.Rules)
	if err != nil {
		return 0, err
	}
	if left := plan.Diff(have, pl.want); !left.Empty() {
		return 0, fmt.Errorf("%w; what differs: %s", ErrUnverified, left.Summary())
	}
	return have.Generation, nil
}

func (e *Engine) turnOn(changes []sysctl.Change) (wrote []sysctl.Change, err error) {
	err = e.NetNS.Do(func() error {
		wrote, err = sysctl.Apply(changes)
		return err
	})
	return wrote, err
}

// putBack undoes a commit that cannot be completed. It says why it could not,
// and whether all is as it was. Forwarding goes off before the rules that it
// needs.
func (e *Engine) putBack(ctx context.Context, pl *Plan, gone []Left, wrote []sysctl.Change, why error) (undone bool, err error) {
	ctx = context.WithoutCancel(ctx)
	err = e.NetNS.Do(func() error {
		_, _, err := sysctl.Restore(wrote)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("%w; and the sysctls could not be put back: %w", why, err)
	}
	if pl.Rules.Empty() && len(gone) == 0 {
		return true, why
	}
	if err = putLeftBack(ctx, gone); err == nil && !pl.Rules.Empty() {
		err = revert(ctx, e.Backend, pl.Rules.From)
	}
	if err != nil {
		return false, fmt.Errorf("%w; and the rules could not be put back: %w", why, err)
	}
	return true, fmt.Errorf("%w; the rules are as they were", why)
}
