package engine

import (
	"context"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// Start is what Boot did.
type Start struct {
	// Plan is of the policy that is in force now; nil where nothing is, or
	// where Waits says that nothing was done.
	Plan *Plan
	// Withheld is why the policy that was given was not applied, "" where it
	// was.
	Withheld string
	// Waits is a policy that is in force and not confirmed yet.
	Waits *Unconfirmed
}

// Boot applies a policy without anybody there who could be locked out: one that
// was never confirmed, or from which somebody has rolled back, is not applied
// from its files again, but the one that took its place. Without a policy (nil)
// the one that was applied last is put in force again.
func (e *Engine) Boot(ctx context.Context, p *policy.Policy) (*Start, error) {
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	s := &Start{}
	if u := remembered.Unconfirmed; u != nil {
		if left(u) > 0 {
			s.Waits = e.waiting(u)
			return s, nil
		}
		if _, err := e.unapply(ctx, remembered, "not confirmed in time"); err != nil {
			return nil, err
		}
		if remembered, err = e.remembered(ctx); err != nil {
			return nil, err
		}
	}
	digest := ""
	if p != nil {
		digest = state.Digest((&Plan{Policy: p}).stored())
	}
	switch {
	case p == nil && remembered.Applied == nil:
		return nil, ErrNothingApplied
	case p != nil && digest != remembered.Withdrawn:
		s.Plan, err = e.carry(ctx, p, remembered, nil)
		return s, err
	case p != nil:
		s.Withheld = withheld(remembered)
	}
	return s, e.again(ctx, remembered, s)
}

// withheld says why a policy is not applied at boot.
func withheld(s *state.State) string {
	why := "was rolled back"
	if s.Lapsed != nil {
		why = "was not confirmed before the machine stopped"
	}
	instead := "nothing is in force, and ipmasq turns no forwarding on"
	if a := s.Applied; a != nil {
		instead = fmt.Sprintf("the policy before it (%s, applied %s) is in force", short(a.Digest), a.Time.Format("2006-01-02 15:04:05 MST"))
	}
	return fmt.Sprintf("the policy in the files (%s) %s: %s", short(s.Withdrawn), why, instead)
}

// again puts what was applied last in force, whatever has become of it.
func (e *Engine) again(ctx context.Context, remembered *state.State, s *Start) error {
	same := func(next *state.State) {
		next.Applied, next.Previous, next.Withdrawn = remembered.Applied, remembered.Previous, remembered.Withdrawn
	}
	r := &Rollback{To: remembered.Applied}
	err := e.goTo(ctx, remembered, r, same)
	s.Plan = r.Plan
	if err == nil && remembered.Lapsed != nil {
		if noted := e.record(func(h *state.History) { e.complete(h, remembered) }); noted != nil && s.Plan != nil {
			s.Plan.Warnings = append(s.Plan.Warnings, noted.Error())
		}
	}
	return err
}
