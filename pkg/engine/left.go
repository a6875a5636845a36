package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// Rules may be in more than one place: in the table of nftables, and in chains of
// either variant of iptables. Those of one backend take the place of another's
// while both are there: what passes has to pass both then, and what is to be
// translated is, by either. So the new come first, are read back, and the old go.

// Left is what another backend than the one of a plan holds of ours.
type Left struct {
	Backend string // by name
	Rules   *plan.Changes
	backend backend.Backend
}

// holders names the backends that hold anything of ours, by the kernel's own
// account. No program is run for it. Doubtful is one that could not be read so.
func (e *Engine) holders() (names []string, doubtful string, err error) {
	var rules *foreign.Rules
	err = e.NetNS.Do(func() (err error) {
		rules, err = foreign.Chains()
		return err
	})
	if err != nil {
		return nil, "", err
	}
	names = holdersOf(rules)
	if legacy := string(foreign.XTLegacy); len(rules.Problems) > 0 && !slices.Contains(names, legacy) {
		names, doubtful = append(names, legacy), legacy
	}
	return names, doubtful, nil
}

func holdersOf(rules *foreign.Rules) (names []string) {
	for _, k := range rules.Holders() {
		if k == foreign.NFT {
			names = append(names, usual)
		} else {
			names = append(names, string(k))
		}
	}
	return names
}

// left reads what backends other than that of the engine hold: those that have
// chains, and those that the state names. An apply that was killed before its
// first table, or a delete after its last, leaves sets and timeouts alone.
func (e *Engine) left(ctx context.Context, s *state.State) ([]Left, error) {
	if e.Backends == nil {
		return nil, nil
	}
	names, doubtful, err := e.holders()
	if err != nil {
		return nil, fmt.Errorf("look for rules of other backends: %w", err)
	}
	holders := len(names)
	for _, name := range append(slices.Clone(s.Also), s.Backend) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var out []Left
	for i, name := range names {
		if name == e.Backend.Name() {
			continue
		}
		b, err := e.Backends(name)
		var have *plan.Snapshot
		if err == nil {
			have, err = b.Have(ctx)
		}
		if err != nil && name == doubtful && s.Backend != name && !slices.Contains(s.Also, name) {
			continue // who cannot read them has not put any there
		}
		if i >= holders && errors.Is(err, backend.ErrNotSupported) {
			continue // its programs are gone, and so are its rules
		}
		if err != nil {
			return nil, fmt.Errorf("read the rules that are left in %s: %w", name, err)
		}
		if !have.Empty() {
			out = append(out, Left{name, plan.Diff(have, &plan.Snapshot{}), b})
		}
	}
	return out, nil
}

// moves says whether a plan is for another backend than the state tells of, or one
// of several.
func (e *Engine) moves(s *state.State) bool {
	return s.Backend != e.Backend.Name() && (s.Backend != "" || s.Applied != nil) || len(s.Also) > 0
}

// arrives says whether a plan is for a backend that the state does not tell of.
// Where it tells of none, that is the usual one.
func (e *Engine) arrives(s *state.State) bool {
	return e.Backend.Name() != cmp.Or(s.Backend, usual) && !slices.Contains(s.Also, e.Backend.Name())
}

// mayBeLeft says whether another backend may hold rules. As long as nobody has
// committed anything to nf_tables, nothing has come there.
func (e *Engine) mayBeLeft(s *state.State, unchanged bool) bool {
	if e.Backends == nil {
		return false
	}
	if !unchanged || e.moves(s) || e.Backend.Name() != usual {
		return true
	}
	any := false
	_ = e.NetNS.Do(func() error { any = foreign.AnyLegacy(); return nil })
	return any
}

// removeLeft removes what other backends hold. It gives what is gone, also where
// the rest could not be removed.
func (e *Engine) removeLeft(ctx context.Context, all []Left) (gone []Left, err error) {
	for _, l := range all {
		done := e.step("leave " + l.Backend)
		if err := remove(ctx, l.backend, l.Rules); err != nil {
			return gone, fmt.Errorf("remove the rules of %s: %w", l.Backend, err)
		}
		gone = append(gone, l)
		done()
	}
	return gone, nil
}

// remove commits a deletion, made anew where somebody else was faster.
func remove(ctx context.Context, b backend.Backend, rules *plan.Changes) error {
	err := b.Commit(ctx, rules, false)
	for range staleAttempts - 1 {
		if !errors.Is(err, backend.ErrStale) {
			break
		}
		have, herr := b.Have(ctx)
		if herr != nil {
			return herr
		}
		err = b.Commit(ctx, plan.Diff(have, &plan.Snapshot{}), false)
	}
	return err
}

// putLeftBack has other backends hold again what they held.
func putLeftBack(ctx context.Context, gone []Left) error {
	for _, l := range slices.Backward(gone) {
		if err := revert(ctx, l.backend, l.Rules.From); err != nil {
			return fmt.Errorf("the rules of %s: %w", l.Backend, err)
		}
	}
	return nil
}

// revert makes what a backend holds what it was.
func revert(ctx context.Context, b backend.Backend, to *plan.Snapshot) (err error) {
	for range staleAttempts {
		var have *plan.Snapshot
		if have, err = b.Have(ctx); err == nil {
			err = b.Commit(ctx, plan.Diff(have, to), false)
		}
		if !errors.Is(err, backend.ErrStale) {
			break
		}
	}
	return err
}

// before is what was in force when a plan was made, and of which backend.
func (pl *Plan) before(s *state.State) (*plan.Snapshot, string) {
	for _, l := range pl.Left {
		if l.Backend == s.Backend || pl.Rules.From.Empty() {
			return l.Rules.From, l.Backend
		}
	}
	return pl.Rules.From, pl.Backend
}
