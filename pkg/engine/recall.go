package engine

import (
	"context"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// recall gives the rules that were last read back; nil where they are not kept.
// They are the kernel's only as long as its generation is what is remembered.
func (e *Engine) recall(s *state.State) *plan.Snapshot {
	text, err := e.State.LoadRules(rulesKey(s.Rules))
	if err != nil {
		return nil
	}
	have, err := plan.LoadStored(text)
	if err != nil || have.Digest() != s.Rules {
		return nil
	}
	have.Generation = s.Generation
	return have
}

// have reads the kernel's rules and what they have counted. While the generation
// is that of the last reading back, the rest is known: a set of a million ranges
// takes the kernel a minute to tell. Known gives it, or nil.
func (e *Engine) have(ctx context.Context, s *state.State, known func() *plan.Snapshot) (*plan.Snapshot, error) {
	if e.unchanged(ctx, s) {
		if k := known(); k != nil {
			at := *k
			at.Generation = s.Generation
			return e.Backend.HaveAfter(ctx, &plan.Changes{From: &at, To: &at})
		}
	}
	return e.Backend.Have(ctx)
}

// keep is recall the other way. Where it fails the next apply reads the kernel.
func (e *Engine) keep(pl *Plan) {
	_ = e.State.SaveRules(rulesKey(pl.digest), pl.want.Store)
}

// rulesKey says whose rules are kept: those of a digest, in the form in which
// this very program, and no other version of it, encodes them.
func rulesKey(digest string) string { return digest + " " + program() }
