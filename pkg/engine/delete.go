package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Deletion is what Delete did, or would do.
type Deletion struct {
	Backend  string // by name
	Rules    *plan.Changes
	Left     []Left          // what other backends held
	Restored []sysctl.Change // put back
	Kept     []sysctl.Change // left, because somebody else has changed them
	Flows    int             // translated flows that were cut
	Routing  link.Routing    // routes and rules that were removed
	Docker   Docker          // rules that were taken out of Docker's chains
	// StillForwards says that the host forwards without our rules now, as it
	// did before the first apply: inside hosts are not translated any more.
	StillForwards bool
	// Forgotten is why nobody knows which flows are ours, or why the kernel does
	// not tell: none was cut. Nil where that is known.
	Forgotten error
}

// Empty says whether there was nothing to delete.
func (d *Deletion) Empty() bool {
	return d.Rules.Empty() && len(d.Left) == 0 && len(d.Restored) == 0 && d.Flows == 0 && d.Routing.Empty() && d.Docker.Empty()
}

// errNoState is rules that no state tells of.
var errNoState = errors.New("nothing is remembered of an apply")

// Delete removes all that Apply has put in place. Forwarding that apply turned
// on goes off before the rules go, so that nothing leaves untranslated; the
// flows that were translated are cut, for their answers would meet the
// gateway's own stack, which resets them. A dry run changes nothing. After an
// error either the rules and sysctls are as they were, or the next Delete goes
// on where this one stopped.
func (e *Engine) Delete(ctx context.Context, dryRun bool) (*Deletion, error) {
	if !dryRun {
		unlock, err := e.State.Lock(ctx, e.Waiting)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	if u := remembered.Unconfirmed; u != nil && !dryRun {
		// If this is killed half way, its guard goes on.
		ended := *remembered
		to := *u
		to.Back, to.BackPrevious = nil, nil
		ended.Unconfirmed = &to
		if err := e.State.Save(ended); err != nil {
			return nil, err
		}
	}
	d, err := e.remove(ctx, remembered, dryRun, e.State.Remove)
	if err != nil && !dryRun && remembered.Unconfirmed != nil {
		_ = e.State.Save(*remembered)
	}
	return d, err
}

// remove takes away all that is in the kernel, then has it forgotten.
func (e *Engine) remove(ctx context.Context, remembered *state.State, dryRun bool, forget func() error) (_ *Deletion, err error) {
	have, err := e.have(ctx, remembered, func() *plan.Snapshot { return e.recall(remembered) })
	if err != nil {
		return nil, err
	}
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	d := &Deletion{Backend: e.Backend.Name(), Rules: plan.Diff(have, &plan.Snapshot{}), Routing: facts.Own}
	if d.Left, err = e.left(ctx, remembered); err != nil {
		return nil, err
	}
	there := !have.Empty() || len(d.Left) > 0
	ours, err := e.translating(remembered, facts)
	switch {
	case err != nil:
		d.Forgotten = err
	case ours == nil && there:
		d.Forgotten = errNoState
	}
	if len(ours) > 0 {
		if err := e.follows(); err != nil {
			d.Forgotten, ours = err, nil
		}
	}
	// What cannot be cut must be known before anything is changed.
	if d.Flows, err = e.flows(ours, false); err != nil {
		return nil, err
	}
	if d.Docker, err = e.dockerChanges(ctx, nil, nil, facts, remembered); err != nil {
		return nil, err
	}
	changes := changesOf(remembered)
	if dryRun {
		if err := e.wouldRestore(d, changes); err != nil {
			return nil, err
		}
		return d, e.try(ctx, &Plan{Rules: d.Rules, Left: d.Left, Docker: d.Docker})
	}
	gone := false // whether the rules are
	if !d.Docker.Empty() {
		defer func() {
			if err != nil && !gone {
				err = e.undoDocker(ctx, d.Docker, err)
			}
		}()
		if err := e.leaveDocker(ctx, d, remembered); err != nil {
			return nil, err
		}
	}
	done := e.step("sysctls")
	err = e.NetNS.Do(func() error {
		d.Restored, d.Kept, err = sysctl.Restore(changes)
		return err
	})
	if err != nil {
		return nil, e.restoreAgain(d.Restored, fmt.Errorf("put the sysctls back: %w", err))
	}
	done()
	done = e.step("commit")
	if gone, err := e.removeLeft(ctx, d.Left); err != nil {
		if back := putLeftBack(context.WithoutCancel(ctx), gone); back != nil {
			return nil, fmt.Errorf("%w; and what was removed could not be put back: %w", err, back)
		}
		return nil, e.restoreAgain(d.Restored, err)
	}
	if err := remove(ctx, e.Backend, d.Rules); err != nil {
		return nil, e.restoreAgain(d.Restored, err)
	}
	gone = true
	done()
	done = e.step("flows")
	if d.Flows, err = e.flows(ours, true); err != nil {
		return nil, err
	}
	done()
	if !d.Routing.Empty() {
		done = e.step("routes")
		if err := e.NetNS.Do(d.Routing.Remove); err != nil {
			return nil, err
		}
		done()
	}
	d.StillForwards = there && e.forwards()
	done = e.step("forget")
	if err := forget(); err != nil {
		return nil, err
	}
	done()
	return d, nil
}

// restoreAgain turns on again what a deletion that failed has turned off: the
// rules are still there.
func (e *Engine) restoreAgain(restored []sysctl.Change, why error) error {
	again := slices.Clone(restored)
	slices.Reverse(again)
	if _, err := e.turnOn(again); err != nil {
		return fmt.Errorf("%w; and forwarding could not be turned on again: %w", why, err)
	}
	return why
}

// wouldRestore tells what becomes of the sysctls without touching them.
func (e *Engine) wouldRestore(d *Deletion, changes []sysctl.Change) error {
	return e.NetNS.Do(func() error {
		for _, c := range slices.Backward(changes) {
			now, err := sysctl.Get(c.Name)
			switch {
			case errors.Is(err, sysctl.ErrAbsent):
			case err != nil:
				return err
			case c.Ours(now):
				d.Restored = append(d.Restored, c)
			default:
				d.Kept = append(d.Kept, c)
			}
		}
		return nil
	})
}

func changesOf(s *state.State) []sysctl.Change {
	var changes []sysctl.Change
	for _, x := range s.Sysctls {
		c := sysctl.Change{Name: x.Name, Before: x.Before, After: x.After, Last: x.Last}
		if x.Policy {
			c.Kind = sysctl.Sets
		}
		changes = append(changes, c)
	}
	return changes
}

// forwards says whether the host forwards IPv4 or IPv6.
func (e *Engine) forwards() bool {
	on := false
	_ = e.NetNS.Do(func() error {
		for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			v, err := sysctl.Get(name)
			on = on || err == nil && v == "1"
		}
		return nil
	})
	return on
}
