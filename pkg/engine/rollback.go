package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Rollback is what a rollback did, or would do.
type Rollback struct {
	From, To *state.Applied // nil: nothing
	// Unconfirmed says that From waited to be confirmed.
	Unconfirmed bool
	Plan        *Plan     // of To
	Deletion    *Deletion // where To is nil
	Warnings    []string
	// Unsaved is why the state does not know of it: To is in force, and the next
	// rollback is the same one again.
	Unsaved error
}

// Rollback goes back from the policy in force: from one that is not confirmed to
// what was before it, as if it had never been; else to the policy before, and a
// second time forth again. To is the beginning of the digest of a policy that is
// stored still, "" for the one before. After an error the policy is in force
// that was.
func (e *Engine) Rollback(ctx context.Context, to string) (*Rollback, error) {
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	target, err := e.target(remembered, to)
	if err != nil {
		return nil, err
	}
	if remembered.Unconfirmed != nil && to == "" {
		return e.unapply(ctx, remembered, "")
	}
	r := &Rollback{From: remembered.Applied, To: target, Unconfirmed: remembered.Unconfirmed != nil}
	err = e.goTo(ctx, remembered, r, func(next *state.State) {
		again := *target
		again.Time = now()
		next.Applied, next.Previous, next.Unconfirmed, next.Withdrawn = &again, r.From, nil, ""
		if r.Unconfirmed { // what it took the place of stays what is before
			next.Previous = remembered.Unconfirmed.Back
		}
		if r.From != nil {
			next.Withdrawn = r.From.Digest
		}
	})
	if err != nil {
		return nil, err
	}
	if r.Unsaved != nil {
		return r, nil
	}
	e.warned(r, e.record(func(h *state.History) {
		e.complete(h, remembered)
		if r.From != nil {
			e.end(h, r.From.Digest, state.ResultRolledBack, "")
		}
		h.Entries = append(h.Entries, e.entry(r.To, summary(r.Plan), state.ResultApplied))
	}))
	return r, nil
}

// RollbackPlan is Rollback without doing it.
func (e *Engine) RollbackPlan(ctx context.Context, to string) (*Rollback, error) {
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	target, err := e.target(remembered, to)
	if err != nil {
		return nil, err
	}
	r := &Rollback{From: remembered.Applied, To: target, Unconfirmed: remembered.Unconfirmed != nil}
	if target == nil {
		r.Deletion, err = e.remove(ctx, remembered, true, nil)
		return r, err
	}
	p, err := e.stored(target.Digest)
	if err != nil {
		return nil, fmt.Errorf("read the policy to go back to: %w", err)
	}
	remembered.Unconfirmed = nil
	pl, err := e.plan(ctx, p, remembered, true)
	if err != nil {
		return nil, err
	}
	e.wouldCut(ctx, pl)
	r.Plan = pl
	return r, e.try(ctx, pl)
}

// target finds what to go back to; nil is nothing, as before a first policy that
// is not confirmed. From one that is, back is nowhere: a rollback that comes just
// after the guard's would remove what the guard went back to.
func (e *Engine) target(s *state.State, to string) (*state.Applied, error) {
	switch {
	case to != "":
		found, err := e.named(s, to)
		if err == nil && s.Applied != nil && found.Digest == s.Applied.Digest {
			// To go there would withdraw it, and lose what was before it.
			return nil, fmt.Errorf("the policy %s is in force already", short(found.Digest))
		}
		return found, err
	case s.Unconfirmed != nil:
		return s.Unconfirmed.Back, nil
	case s.Applied != nil && s.Previous == nil:
		return nil, fmt.Errorf("%w: no policy was in force before %s, and ipmasq delete removes that", ErrNothingBefore, short(s.Applied.Digest))
	case s.Previous == nil:
		return nil, ErrNothingBefore
	}
	return s.Previous, nil
}

// named finds a stored policy by the beginning of its digest.
func (e *Engine) named(s *state.State, to string) (*state.Applied, error) {
	known := []*state.Applied{s.Applied, s.Previous}
	if u := s.Unconfirmed; u != nil {
		known = append(known, u.Back, u.BackPrevious)
	}
	h, err := e.State.LoadHistory()
	if err == nil {
		for _, x := range h.Entries {
			a := &state.Applied{Digest: x.Digest, Time: x.Time}
			for _, name := range x.Files {
				a.Files = append(a.Files, state.File{Name: name})
			}
			known = append(known, a)
		}
	}
	var found *state.Applied
	for _, a := range known {
		if a == nil || a.Digest == "" || !strings.HasPrefix(a.Digest, to) || found != nil && found.Digest == a.Digest {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s is the beginning of more than one policy's digest: give more of it", to)
		}
		found = a
	}
	switch {
	case found == nil && err != nil:
		return nil, fmt.Errorf("no such policy: %s; and %w", to, err)
	case found == nil:
		return nil, fmt.Errorf("no policy that was applied has a digest that begins with %s", to)
	case !e.State.Holds(found.Digest):
		return nil, fmt.Errorf("the policy %s is not stored any more: apply it from its own files", short(found.Digest))
	}
	return found, nil
}

// Expire ends an apply at its deadline, if it is still the one of an ID: it goes
// back. Left is how much time there is, and r nil, where that is too early. It
// is ErrNothingUnconfirmed where there is nothing to be done any more.
func (e *Engine) Expire(ctx context.Context, id string) (left time.Duration, r *Rollback, err error) {
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return 0, nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return 0, nil, err
	}
	if u := remembered.Unconfirmed; u == nil || u.ID != id {
		return 0, nil, ErrNothingUnconfirmed
	} else if left := u.Deadline - uptime(); left > 0 {
		return left, nil, nil
	}
	r, err = e.unapply(ctx, remembered, "not confirmed in time")
	return 0, r, err
}

// unapply goes back from a policy that is not confirmed.
func (e *Engine) unapply(ctx context.Context, remembered *state.State, why string) (*Rollback, error) {
	u := remembered.Unconfirmed
	r := &Rollback{From: &state.Applied{Digest: u.Digest}, To: u.Back, Unconfirmed: true}
	if a := remembered.Applied; a != nil && a.Digest == u.Digest {
		r.From = a
	}
	before, restored, err := e.turnBack(remembered)
	if err != nil {
		return nil, err
	}
	err = e.goTo(ctx, before, r, func(next *state.State) { goneBack(next, u) })
	if err != nil && e.restore(ctx, before, r, err) != nil {
		if len(restored) > 0 {
			err = e.restoreAgain(restored, err)
			_ = e.State.Save(*remembered)
		}
		return nil, err
	}
	if r.Unsaved != nil {
		return r, nil
	}
	e.warned(r, e.record(func(h *state.History) {
		e.complete(h, remembered)
		e.end(h, u.Digest, state.ResultRolledBack, why)
	}))
	return r, nil
}

// turnBack puts back the forwarding that only the policy that is not confirmed
// has turned on: off before its rules go. It gives the state without these.
func (e *Engine) turnBack(s *state.State) (before *state.State, restored []sysctl.Change, err error) {
	u := s.Unconfirmed
	if u.Back == nil {
		return s, nil, nil // everything is put back
	}
	added := func(x state.Sysctl) bool { return !x.Policy && !slices.Contains(u.Sysctls, x.Name) }
	without, only := *s, *s
	without.Sysctls = slices.DeleteFunc(slices.Clone(s.Sysctls), added)
	only.Sysctls = slices.DeleteFunc(slices.Clone(s.Sysctls), func(x state.Sysctl) bool { return !added(x) })
	err = e.NetNS.Do(func() error {
		restored, _, err = sysctl.Restore(changesOf(&only))
		return err
	})
	if err != nil {
		return nil, nil, e.restoreAgain(restored, fmt.Errorf("put the sysctls back: %w", err))
	}
	return &without, restored, nil
}

func (e *Engine) warned(r *Rollback, err error) {
	if err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
}

// goTo puts a stored policy in force, or nothing.
func (e *Engine) goTo(ctx context.Context, remembered *state.State, r *Rollback, settle func(*state.State)) (err error) {
	if r.To == nil {
		r.Deletion, err = e.remove(ctx, remembered, false, func() error {
			next := *remembered
			next.Rules, next.Generation, next.Also, next.Sysctls, next.Pending, next.Docker = "", 0, nil, nil, nil, false
			settle(&next)
			return e.State.Save(next)
		})
		return err
	}
	p, err := e.stored(r.To.Digest)
	if err != nil {
		return fmt.Errorf("read the policy to go back to: %w", err)
	}
	if r.Plan, err = e.carry(ctx, p, remembered, settle); err != nil {
		return fmt.Errorf("go back to %s: %w", short(r.To.Digest), err)
	}
	r.Warnings, r.Unsaved = append(r.Warnings, r.Plan.Warnings...), r.Plan.unsaved
	return nil
}
