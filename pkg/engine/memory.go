package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// remembered loads what is known of this namespace. It refuses a state that is
// about another namespace of this boot: the sysctls in it are not this one's to
// put back. What is known of an earlier boot is only its policy, for the
// sysctls started anew.
func (e *Engine) remembered(ctx context.Context) (*state.State, error) {
	s, err := e.State.Load()
	if err != nil {
		return nil, err
	}
	if err := e.chooseHeld(ctx, s); err != nil {
		return nil, err
	}
	s.Pending = e.pending(s)
	here := e.NetNS.ID()
	if u := s.Unconfirmed; u != nil && u.Boot != boot(here) {
		s.Lapsed = u
		goneBack(s, u)
	}
	if s.NetNS != here {
		s.Generation = 0 // another namespace, or boot, counts anew
	}
	switch {
	case s.NetNS == "" || link.SameNetNS(s.NetNS, here):
		return s, nil
	case boot(s.NetNS) != boot(here):
		s.Sysctls, s.Pending = nil, nil // there are no flows of then
		return s, nil
	case len(s.Sysctls) == 0:
		// Nothing would be lost. A container that was made anew, with its
		// state on a volume, is the common case.
		if have, err := e.Backend.Have(ctx); err != nil || have.Empty() {
			return s, err
		}
	}
	return nil, fmt.Errorf("the state in %s is about another network namespace: give each namespace its own with --state-dir, "+
		"or run ipmasq delete with this state there first; if that namespace is gone, move the folder away", e.State.Path())
}

// boot is the part of a namespace's identity that a reboot changes.
func boot(netns string) string {
	_, id, _ := strings.Cut(netns, "@")
	return id
}

// next is the state that will hold after the plan is carried out.
func (e *Engine) next(pl *Plan, before *state.State, sources []state.Source) state.State {
	next := *before
	next.NetNS, next.Backend, next.Also, next.Lapsed = e.NetNS.ID(), e.Backend.Name(), nil, nil
	// A commit is tied to the generation that it was planned from, and makes
	// the next one.
	next.Rules, next.Generation = pl.digest, pl.Rules.From.Generation
	if !pl.Rules.Empty() {
		next.Generation++
	}
	if digest := pl.source(); before.Applied == nil || before.Applied.Digest != digest {
		next.Previous = before.Applied
		next.Applied = &state.Applied{Digest: digest, Time: now(), Files: filesOf(sources)}
	}
	if next.Withdrawn == next.Applied.Digest {
		next.Withdrawn = ""
	}
	next.Sysctls = withChanges(before.Sysctls, pl.Sysctls)
	next.Pending = e.toReconcile(pl)
	next.Docker = pl.Policy.Gateway.Docker
	if pl.settle != nil {
		pl.settle(&next)
	}
	return next
}

func filesOf(sources []state.Source) []state.File {
	files := make([]state.File, len(sources))
	for i, s := range sources {
		files[i] = state.File{Name: s.Name, Bytes: len(s.Text)}
	}
	return files
}

// withChanges adds changes to what is remembered of sysctls. What a sysctl was
// before the first apply stays what is put back, or what somebody else has
// made of it since.
func withChanges(before []state.Sysctl, changes []sysctl.Change) []state.Sysctl {
	out := withIntents(before, changes)
	for i := range out {
		out[i].Last = ""
	}
	return slices.DeleteFunc(out, func(s state.Sysctl) bool {
		return slices.ContainsFunc(changes, func(c sysctl.Change) bool { return c.Name == s.Name && c.Kind == sysctl.Releases })
	})
}

// withIntents is withChanges before anything is written: whether it was cannot
// be known after a crash.
func withIntents(before []state.Sysctl, changes []sysctl.Change) []state.Sysctl {
	out := slices.Clone(before)
	for _, c := range changes {
		i := slices.IndexFunc(out, func(s state.Sysctl) bool { return s.Name == c.Name })
		switch {
		case c.Kind == sysctl.Releases:
		case i < 0:
			out = append(out, state.Sysctl{Name: c.Name, Before: c.Before, After: c.After, Policy: c.Kind == sysctl.Sets})
		case c.Kind == sysctl.Sets:
			s := &out[i]
			if c.Before != s.After && c.Before != s.Last {
				s.Before = c.Before
			}
			s.After, s.Last = c.After, c.Before
		}
	}
	return out
}

// forget makes the state what it was, after an apply that failed. Where that
// fails too, the state holds sysctls that were not written, which harms
// nothing: they are put back to what they are.
func (e *Engine) forget(before *state.State) {
	if before.Applied == nil && before.Previous == nil && before.Withdrawn == "" && len(before.Sysctls) == 0 {
		_ = e.State.Forget()
		return
	}
	_ = e.State.Save(*before)
}

// stored gives a policy's sources as the state keeps them.
func (pl *Plan) stored() []state.Source {
	out := make([]state.Source, len(pl.Policy.Sources))
	for i, s := range pl.Policy.Sources {
		out[i] = state.Source{Name: s.Name, Text: s.Text}
	}
	return out
}
