package engine

import (
	"context"
	"errors"
	"time"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// ErrNothingApplied is nothing to put or hold in force: no policy was applied, or it
// was deleted.
var ErrNothingApplied = errors.New("no policy was applied")

// Held is a policy that was put in force, for one who holds it there.
type Held struct{ plan *Plan }

// Held gives what Hold needs to put the policy of a plan back at once.
func (p *Plan) Held() *Held {
	return &Held{&Plan{Backend: p.Backend, Policy: p.Policy, Compiled: p.Compiled, facts: p.facts, want: p.want, digest: p.digest, source: p.source, docked: p.docked}}
}

// Digest names the policy, as the state does.
func (h *Held) Digest() string { return h.plan.source() }

// Hold puts the policy that was applied last in force again, on the host as it
// is now: that of held, or of whoever has applied another one since. Gone says
// that all rules are gone as far as is known. They are put back first then,
// before the host is looked at and anything is written to the disk: without
// them it forwards what it should translate.
func (e *Engine) Hold(ctx context.Context, held *Held, gone bool) (*Plan, error) {
	start := time.Now()
	unlock, err := e.State.Lock(ctx, e.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	if remembered.Applied == nil {
		return nil, ErrNothingApplied
	}
	if held == nil || held.Digest() != remembered.Applied.Digest {
		p, err := e.applied(remembered)
		if err != nil {
			return nil, err
		}
		return e.carry(ctx, p, remembered, nil)
	}
	refilled := time.Duration(0)
	if gone && e.refill(ctx, held) {
		refilled = time.Since(start)
	}
	pl, err := e.carry(ctx, held.plan.Policy, remembered, nil)
	if err == nil {
		pl.Refilled = refilled
	}
	return pl, err
}

// Holds says whether the kernel holds the rules of a policy, of which it reads
// nothing but these.
func (e *Engine) Holds(ctx context.Context, held *Held) (bool, error) {
	have, err := e.Backend.Have(ctx)
	if err != nil {
		return false, err
	}
	return held.plan.Backend == e.Backend.Name() && plan.Diff(have, held.plan.want).Empty(), nil
}

// refill commits what is held, if there is nothing. Where it does not succeed
// there is nothing still, and the way on is the usual one.
func (e *Engine) refill(ctx context.Context, held *Held) bool {
	defer e.step("refill")()
	have, err := e.Backend.Have(ctx)
	if err != nil || !have.Empty() || held.plan.want.Empty() || held.plan.Backend != e.Backend.Name() {
		return false
	}
	return e.Backend.Commit(ctx, plan.Diff(have, held.plan.want), false) == nil
}

// Slipped gives the sysctls that a policy in force needs and that somebody has
// set to something else. It reads some files below /proc/sys and nothing more.
func (e *Engine) Slipped(held *Held) ([]sysctl.Change, error) {
	changes, err := e.forwarding(held.plan.Compiled, held.plan.facts)
	if err != nil {
		return nil, err
	}
	settings, _, err := e.settings(held.plan.Policy, held.plan.Compiled, nil)
	if err != nil {
		return nil, err
	}
	return (&Plan{Sysctls: append(changes, settings...)}).writes(), nil
}

// Facts reads what a plan would see of the host.
func (e *Engine) Facts() (link.Facts, error) {
	f, err := e.facts()
	return f.Facts, err
}

// Facts are what the plan saw of the host.
func (p *Plan) Facts() link.Facts { return p.facts.Facts }

// Written are the sysctls of a plan that are written, not only remembered.
func (p *Plan) Written() []sysctl.Change { return p.writes() }
