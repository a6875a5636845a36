package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
)

// Nothing depends on the history, so that a folder whose history is damaged is
// as good as any to apply with. Plans warn then.

// record changes the history, and says why it could not.
func (e *Engine) record(change func(h *state.History)) error {
	h, err := e.State.LoadHistory()
	if err == nil {
		change(h)
		err = e.State.SaveHistory(h)
	}
	if err != nil {
		return fmt.Errorf("the history is not kept: %w", err)
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// recordApply notes that another policy is in force, or the same one with another
// backend.
func (e *Engine) recordApply(pl *Plan, before *state.State) {
	if pl.settle != nil {
		return // by its own name
	}
	after := pl.remembered
	same := after.Unconfirmed == nil || after.Unconfirmed == before.Unconfirmed // not begun by this apply
	if before.Lapsed == nil && same && before.Applied != nil && before.Applied.Digest == after.Applied.Digest && len(pl.Left) == 0 {
		return
	}
	result := state.ResultApplied
	if after.Unconfirmed != nil {
		result = state.ResultUnconfirmed
	}
	err := e.record(func(h *state.History) {
		e.complete(h, before)
		h.Entries = append(h.Entries, e.entry(after.Applied, summary(pl), result))
	})
	if err != nil {
		pl.Warnings = append(pl.Warnings, err.Error())
	}
}

// entry is one of the history, of now.
func (e *Engine) entry(a *state.Applied, summary string, result state.Result) state.Entry {
	out := state.Entry{Time: now(), By: e.By, Summary: summary, Result: result}
	if a != nil {
		out.Digest = a.Digest
		for _, f := range a.Files {
			out.Files = append(out.Files, f.Name)
		}
	}
	return out
}

func summary(pl *Plan) string {
	if len(pl.Left) == 0 {
		return pl.Rules.Summary()
	}
	names := make([]string, len(pl.Left))
	for i, l := range pl.Left {
		names[i] = l.Backend
	}
	return fmt.Sprintf("%s; %s in the place of %s", pl.Rules.Summary(), pl.Backend, strings.Join(names, " and "))
}

// recordFailure notes an apply that was undone.
func (e *Engine) recordFailure(pl *Plan, before *state.State, why error) {
	_ = e.record(func(h *state.History) {
		e.complete(h, before)
		failed := e.entry(&state.Applied{Digest: pl.source(), Files: filesOf(pl.stored())}, summary(pl), state.ResultFailed)
		failed.Why = why.Error()
		h.Entries = append(h.Entries, failed)
	})
}

// end notes what became of the last apply of a policy.
func (e *Engine) end(h *state.History, digest string, result state.Result, why string) {
	for i := len(h.Entries) - 1; i >= 0; i-- {
		x := &h.Entries[i]
		if x.Digest == digest && x.Result != state.ResultFailed {
			by := e.By
			x.Result, x.Why, x.Ended, x.EndedBy = result, why, now(), &by
			return
		}
	}
}

// complete adds what a process did not come to note before it was killed, and
// what was applied before there was a history.
func (e *Engine) complete(h *state.History, before *state.State) {
	if l := before.Lapsed; l != nil {
		e.end(h, l.Digest, state.ResultRolledBack, "not confirmed when the machine stopped")
	}
	a := before.Applied
	if a == nil || slices.ContainsFunc(h.Entries, func(x state.Entry) bool { return x.Digest == a.Digest && x.Result != state.ResultFailed }) {
		return
	}
	x := e.entry(a, "", state.ResultApplied)
	x.Time, x.By = a.Time, state.By{UID: -1}
	h.Entries = append(h.Entries, x)
}
