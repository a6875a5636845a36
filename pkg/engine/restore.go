package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// restore puts back the rules that were in the kernel before a policy that is
// not confirmed, where the policy that they came from cannot be put in force: it
// may not fit the host any more, or its copy be damaged. Whoever was there could
// reach the host with these rules. Sysctls stay as they are until the next
// apply.
func (e *Engine) restore(ctx context.Context, remembered *state.State, r *Rollback, why error) error {
	u := remembered.Unconfirmed
	if u.Back == nil || errors.Is(why, context.DeadlineExceeded) || errors.Is(why, context.Canceled) {
		return why
	}
	text, err := e.State.LoadBack(rulesKey(u.Rules))
	if err != nil {
		return err
	}
	before, err := plan.LoadStored(text)
	if err != nil {
		return err
	}
	if before.Digest() != u.Rules {
		return fmt.Errorf("the rules that were kept are damaged: %w", why)
	}
	done := e.step("restore")
	if u.Backend != "" && e.Backends != nil {
		if err := e.take(u.Backend); err != nil {
			return err
		}
	}
	if err := revert(ctx, e.Backend, before); err != nil {
		return err
	}
	have, err := e.Backend.Have(ctx)
	if err != nil {
		return err
	}
	if left := plan.Diff(have, before); !left.Empty() {
		return fmt.Errorf("%w; what differs: %s", ErrUnverified, left.Summary())
	}
	left, err := e.left(ctx, remembered)
	if err == nil {
		_, err = e.removeLeft(ctx, left)
	}
	if err != nil {
		return err
	}
	done()
	r.Warnings = append(r.Warnings, fmt.Sprintf("the policy before could not be put in force (%v); the rules are those that were in the kernel then, and sysctls and flows stay as they are until a policy is applied", why))
	next := *remembered
	next.Rules, next.Generation, next.Backend, next.Also = u.Rules, 0, e.Backend.Name(), nil
	next.Pending = &state.Pending{Before: earlier(remembered, "")}
	goneBack(&next, u)
	if !e.State.Holds(u.Back.Digest) {
		next.Applied = nil // nobody can compare with it
	}
	r.Unsaved = e.State.Save(next)
	return nil
}
