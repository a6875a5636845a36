package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
)

// Window is the time in which an apply has to be confirmed.
type Window struct {
	For time.Duration
	// Guard starts what will call Expire at the deadline. It returns when that
	// cannot be stopped any more by what stops the caller. It is called before
	// anything is changed; the state does not know the ID then, and what was
	// started for an apply that dies before it does has to end by itself.
	Guard func(u *state.Unconfirmed) error
}

// UnconfirmedError refuses what cannot be done while a policy is not confirmed.
type UnconfirmedError struct {
	Digest string
	Left   time.Duration // to confirm it; not above 0: it should have gone back
}

func (e *UnconfirmedError) Error() string {
	if e.Left <= 0 {
		return fmt.Sprintf("the policy in force (%s) was not confirmed in time, and its guard is gone, so that it did not go back", short(e.Digest))
	}
	return fmt.Sprintf("the policy in force (%s) is not confirmed yet, and goes back in %d s unless it is", short(e.Digest), (e.Left+time.Second-1)/time.Second)
}

// What there may be nothing of.
var (
	// ErrNothingUnconfirmed is nothing to confirm.
	ErrNothingUnconfirmed = errors.New("no policy waits to be confirmed")
	// ErrNothingBefore is nothing to go back to.
	ErrNothingBefore = errors.New("there is nothing to go back to")
)

func short(digest string) string { return digest[:min(12, len(digest))] }

// Unconfirmed is a policy that waits to be confirmed.
type Unconfirmed struct {
	ID, Digest string
	Left       time.Duration // not above 0: it should have gone back
	Window     time.Duration
	Back       *state.Applied // nil: nothing
	Guarded    bool           // a process waits for the deadline
	// Warning is what Confirm could not note, or "".
	Warning string
}

// Unconfirmed gives what waits, or nil. It takes no lock.
func (e *Engine) Unconfirmed() (*Unconfirmed, error) {
	s, err := e.State.Load()
	if err != nil || s.Unconfirmed == nil || s.Unconfirmed.Boot != boot(e.NetNS.ID()) {
		return nil, err
	}
	return e.waiting(s.Unconfirmed), nil
}

func (e *Engine) waiting(u *state.Unconfirmed) *Unconfirmed {
	if u == nil {
		return nil
	}
	return &Unconfirmed{u.ID, u.Digest, left(u), u.Window, u.Back, e.State.Guarded(), ""}
}

// left is how long there is to confirm a policy of this boot.
func left(u *state.Unconfirmed) time.Duration { return u.Deadline - uptime() }

func (e *Engine) refused(s *state.State) error {
	if s.Unconfirmed == nil {
		return nil
	}
	return &UnconfirmedError{s.Unconfirmed.Digest, left(s.Unconfirmed)}
}

// unconfirmed is what the state says of an apply with a window; nil where it
// changes nothing that could go back.
func (e *Engine) unconfirmed(pl *Plan, before *state.State) (*state.Unconfirmed, error) {
	if e.Window == nil || pl.settle != nil || pl.Empty() {
		return nil, nil
	}
	u := &state.Unconfirmed{Digest: pl.source(), Boot: boot(e.NetNS.ID()), Window: e.Window.For, Deadline: uptime() + e.Window.For,
		Back: before.Applied, BackPrevious: before.Previous}
	var id [8]byte
	rand.Read(id[:])
	u.ID = hex.EncodeToString(id[:])
	rules, of := pl.before(before)
	u.Backend = of
	switch there := !rules.Empty(); {
	case !there && u.Back != nil && u.Back.Digest == u.Digest:
		u.Back, u.BackPrevious = nil, nil // it is not in force
	case there && u.Back == nil:
		return nil, fmt.Errorf("%w: the kernel holds rules of ipmasq's, and nothing is remembered of the policy that they are from; apply without a window", ErrNothingBefore)
	case there && u.Back.Digest == u.Digest:
		return nil, fmt.Errorf("%w: this very policy was applied last, and the host has drifted from it; apply without a window", ErrNothingBefore)
	}
	return u, nil
}

// startWindow has an apply guarded, if it is to be confirmed. Otherwise it gives
// what the state would hold anyway.
func (e *Engine) startWindow(pl *Plan, before *state.State, otherwise *state.Unconfirmed) (*state.Unconfirmed, error) {
	u, err := e.unconfirmed(pl, before)
	if err != nil || u == nil {
		return otherwise, err
	}
	defer e.step("guard")()
	rules, _ := pl.before(before)
	u.Rules = rules.Digest()
	for _, x := range before.Sysctls {
		u.Sysctls = append(u.Sysctls, x.Name)
	}
	if err := e.State.SaveBack(rulesKey(u.Rules), rules.Store); err != nil {
		return nil, err
	}
	if err := e.Window.Guard(u); err != nil {
		return nil, fmt.Errorf("nothing was changed, for what would go back by itself could not be started: %w", err)
	}
	return u, nil
}

// Confirm keeps the policy that waits for it.
func (e *Engine) Confirm(ctx context.Context) (*Unconfirmed, error) {
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	u := remembered.Unconfirmed
	switch {
	case remembered.Lapsed != nil:
		return nil, fmt.Errorf("%w: %s was not when the machine stopped, and is not in force", ErrNothingUnconfirmed, short(remembered.Lapsed.Digest))
	case u == nil:
		return nil, ErrNothingUnconfirmed
	case remembered.Applied == nil || remembered.Applied.Digest != u.Digest:
		return nil, fmt.Errorf("the apply of %s did not come to its end: roll it back", short(u.Digest))
	}
	next := *remembered
	next.Unconfirmed = nil
	if err := e.State.Save(next); err != nil {
		return nil, err
	}
	out := &Unconfirmed{ID: u.ID, Digest: u.Digest, Left: left(u), Window: u.Window, Back: u.Back}
	err = e.record(func(h *state.History) {
		e.complete(h, remembered)
		e.end(h, u.Digest, state.ResultConfirmed, "")
	})
	if err != nil {
		out.Warning = err.Error()
	}
	return out, nil
}

// goneBack makes a state what it was before a policy that was not confirmed.
func goneBack(s *state.State, u *state.Unconfirmed) {
	s.Applied, s.Previous, s.Unconfirmed = u.Back, u.BackPrevious, nil
	if s.Applied == nil || s.Applied.Digest != u.Digest {
		s.Withdrawn = u.Digest
	}
}
