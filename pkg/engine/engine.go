// Package engine owns the order of steps: what happens first, what must be
// true before the next thing happens, and what is undone when it cannot.
//
// The whole idea on one page:
//
//	policy ── compile ──> ruleset ── backend.Want ──> what is wanted ─┐
//	                                 backend.Have ──> what is there ──┴─ plan.Diff ──> changes
//
//	apply    lock, plan, make sure of the disk and of the sysctls, make the
//	         routes that marks will lead to, commit in one transaction, read
//	         back, turn forwarding on, have Docker's rules let pass what ours
//	         do, remember, cut the flows that the rules contradict
//	         With a window: start the guard before all this is changed, and
//	         remember what to go back to
//	confirm  lock, remember that there is nothing to go back from
//	rollback lock, apply the policy before; where there was none, delete
//	delete   lock, take our rules out of Docker's, turn off the forwarding that
//	         apply turned on, remove the rules, cut the flows that they
//	         translated, remove the routes, forget
//	status   read the kernel; the state on disk says only what to compare with
//
// Three rules hold everywhere. The kernel is the truth: nothing is reported
// that was not read from it, now or when it was of the same generation. Rules
// come before forwarding on the way up, and go after it on the way down. A step
// that fails leaves things as they were; only cutting flows comes when nothing
// can be undone any more, and is done by the next apply where it fails.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Engine carries policies into one network namespace.
type Engine struct {
	Backend backend.Backend
	// Backends gives a backend by its name, for policies that name one and for
	// rules that one holds. Nil: there is Backend alone.
	Backends func(name string) (backend.Backend, error)
	// UserChains are those that Docker leaves to users. Nil: they are left alone.
	UserChains UserChains
	State      *state.Dir
	NetNS      *link.NetNS
	// Session is what the command is run over, or nil; its Interface is found
	// out.
	Session *compile.Session
	// CountFlows has Status count the flows of each entry however many there
	// are. The kernel does not count them by entry: the whole table is read.
	CountFlows bool
	// KeepFlows leaves the flows that a policy contradicts.
	KeepFlows bool
	// Expected is what Apply has to come to, or it does nothing and returns a
	// [*ChangedError]. Nil is allowed.
	Expected *Outline
	// Window has Apply's policy go back by itself unless it is confirmed. Nil: it
	// stays.
	Window *Window
	// By is who the history says it was.
	By state.By
	// Step is told the name of each step of Apply, Rollback and Delete when it is done
	// and how long it took. Nil is allowed.
	Step func(name string, took time.Duration)
	// Waiting is told who holds the lock, if somebody does. Nil is allowed.
	Waiting func(holder string)
}

// staleAttempts bounds how often a plan is made again because somebody else
// changed the kernel's rules between reading and committing.
const staleAttempts = 10

// ErrUnverified says that the kernel does not hold what it took. What was
// there before has been put back.
var ErrUnverified = errors.New("the kernel does not hold the rules that it accepted")

// Plan is what would change.
type Plan struct {
	Backend string // by name
	// Left is what other backends hold: it goes once Rules are in force.
	Left     []Left
	Policy   *policy.Policy
	Compiled *compile.Result
	Rules    *plan.Changes
	Sysctls  []sysctl.Change
	Routing  Routing
	Docker   Docker
	// Warnings are about this host, beside those about the policy, and Hints what
	// is no mistake and may be good to know.
	Warnings, Hints []string
	// Cut is which flows the policy contradicts: those that apply would cut, or
	// has cut.
	Cut Cut
	// rules is what the policy compiled to, while it is needed to judge flows,
	// on the host of facts.
	rules *ruleset.Ruleset
	facts hostFacts
	// unsettled says that there may be flows that the policy contradicts.
	unsettled bool
	// earlier are the policies that may have translated open flows, and held is
	// the digest of the rules that the kernel should have had until now.
	// remembered is the state that apply has left.
	earlier    []string
	held       string
	remembered state.State
	// want is what the rules will be; digest names it.
	want   *plan.Snapshot
	digest string
	netns  string // where it was made
	// docked is what was seen of Docker when the plan was carried out.
	docked string
	// source is the digest of the policy's sources.
	source func() string
	// recalled says that the kernel's rules were not read for it.
	recalled bool
	// Unconfirmed is what apply has left to be confirmed, or nil.
	Unconfirmed *Unconfirmed
	// settle says what the state will be, where it is not what an apply makes it.
	settle func(next *state.State)
	// unsaved is why the state does not know what is in force.
	unsaved error
	// Refilled is how long it took to put the rules back, where there were none
	// at all, before anything else was looked at; else 0.
	Refilled time.Duration
}

// Empty says whether the host is as the policy wants it.
func (p *Plan) Empty() bool {
	return p.Rules.Empty() && len(p.Left) == 0 && len(p.writes()) == 0 && p.Routing.Empty() && p.Docker.Empty()
}

// writes are the sysctls that have to be written; the others are only
// remembered.
func (p *Plan) writes() []sysctl.Change {
	var out []sysctl.Change
	for _, c := range p.Sysctls {
		if c.Writes() {
			out = append(out, c)
		}
	}
	return out
}

// Plan compares a policy with the host, and has the kernel check what would be
// committed.
func (e *Engine) Plan(ctx context.Context, p *policy.Policy) (*Plan, error) {
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	reads := false
	for range staleAttempts {
		var pl *Plan
		if pl, err = e.plan(ctx, p, remembered, reads); err != nil {
			return nil, err
		}
		if err = e.try(ctx, pl); err == nil {
			e.wouldCut(ctx, pl)
			if err := e.refused(remembered); err != nil {
				pl.Warnings = append(pl.Warnings, err.Error())
			}
			return pl, nil
		}
		if !again(err, pl) {
			return nil, err
		}
		reads = true
	}
	return nil, fmt.Errorf("plan: %w (%d times in a row)", err, staleAttempts)
}

// try has the kernel check all that a plan commits.
func (e *Engine) try(ctx context.Context, pl *Plan) error {
	if err := e.Backend.Commit(ctx, pl.Rules, true); err != nil {
		return err
	}
	for _, l := range pl.Left {
		if err := l.backend.Commit(ctx, l.Rules, true); err != nil {
			return fmt.Errorf("remove the rules of %s: %w", l.Backend, err)
		}
	}
	return pl.Docker.check(ctx, e.UserChains)
}

// again says whether a plan that the kernel did not take is to be made again:
// it has changed since, or was not read for it.
func again(err error, pl *Plan) bool {
	var refused *backend.Refused
	return errors.Is(err, backend.ErrStale) || pl.recalled && errors.As(err, &refused)
}

// plan compares without asking the kernel to check. Where the kernel's rules
// are of the generation that was last read back, they are not read again,
// unless reads says so.
func (e *Engine) plan(ctx context.Context, p *policy.Policy, remembered *state.State, reads bool) (*Plan, error) {
	done := e.step("facts")
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	warnings := append(e.bridged(p, facts), e.withDocker(p, &facts)...)
	done()
	pl := &Plan{Policy: p, Warnings: warnings, facts: facts, netns: e.NetNS.ID()}
	recalled := sync.OnceValue(func() *plan.Snapshot { return e.recall(remembered) })
	pl.source = sync.OnceValue(func() string { return state.Digest(pl.stored()) })
	if !reads && remembered.Applied != nil {
		go func() { // what is needed in all likelihood, while the policy is compiled
			if pl.source() != remembered.Applied.Digest {
				recalled()
			}
		}()
	}
	done = e.step("compile")
	if pl.Compiled, err = compile.Compile(p, e.withSession(facts.compile())); err != nil {
		return nil, err
	}
	done()
	warning, err := e.choose(ctx, p)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		pl.Warnings = append(pl.Warnings, warning)
	}
	pl.Backend = e.Backend.Name()
	done = e.step("encode")
	if pl.want, err = e.Backend.Want(pl.Compiled.Ruleset); err != nil {
		return nil, err
	}
	pl.digest = pl.want.Digest()
	done()
	done = e.step("read")
	unchanged := !reads && e.unchanged(ctx, remembered)
	pl.unsettled = !unchanged || remembered.Rules != pl.digest || remembered.Pending != nil
	docker := pl.Compiled.Ruleset.Docker
	pl.rules, pl.Compiled.Ruleset = pl.Compiled.Ruleset, nil
	if !pl.unsettled || e.KeepFlows || !e.open() {
		pl.rules = nil // what is wanted holds it all, and memory is short at size
	}
	if unchanged && remembered.Rules == pl.digest {
		pl.want.Generation = remembered.Generation
		pl.Rules = &plan.Changes{From: pl.want, To: pl.want}
	} else if !unchanged || !pl.recall(recalled()) {
		have, err := e.Backend.Have(ctx)
		if err != nil {
			return nil, err
		}
		pl.Rules = plan.Diff(have, pl.want)
	}
	if e.mayBeLeft(remembered, unchanged) {
		if pl.Left, err = e.left(ctx, remembered); err != nil {
			return nil, err
		}
	}
	if pl.Rules.Empty() && len(pl.Left) == 0 && remembered.Rules == pl.digest && remembered.Pending == nil {
		pl.unsettled, pl.rules = false, nil // only the rules of others have changed
	}
	if pl.unsettled {
		pl.earlier, pl.held = earlier(remembered, pl.source()), remembered.Rules
	}
	done()
	if err := e.planDocker(ctx, pl, docker, remembered); err != nil {
		return nil, err
	}
	return pl, e.planHost(pl, facts, remembered)
}

// planHost plans what is not rules.
func (e *Engine) planHost(pl *Plan, facts hostFacts, remembered *state.State) error {
	if remembered.Applied == nil { // else it is better to put the rules back than to be able to cut flows
		if err := e.follows(); err != nil {
			return err
		}
	}
	routing, warnings, err := facts.routingOf(pl.Compiled.Uplinks)
	if err != nil {
		return err
	}
	pl.Routing, pl.Warnings = routing, append(pl.Warnings, warnings...)
	pl.Warnings = append(pl.Warnings, withoutIPv6(pl.Policy, pl.Compiled)...)
	forwarding, err := e.forwarding(pl.Compiled, facts)
	if err != nil {
		return err
	}
	settings, warnings, err := e.settings(pl.Policy, pl.Compiled, changesOf(remembered))
	if err != nil {
		return err
	}
	pl.Sysctls, pl.Warnings = append(forwarding, settings...), append(pl.Warnings, warnings...)
	return e.mayWriteMax(pl.Policy, settings)
}

// recall compares with what is kept of the kernel's rules, where that does.
// What the elements have counted is not kept, and a set that is made anew goes
// on from there.
func (pl *Plan) recall(have *plan.Snapshot) bool {
	if have == nil {
		return false
	}
	pl.Rules = plan.Diff(have, pl.want)
	pl.recalled = !slices.ContainsFunc(pl.Rules.Sets, func(c plan.SetChange) bool { return c.Kind == plan.Replace })
	return pl.recalled
}

// unchanged says whether the kernel surely holds the rules that were last read
// back: nobody has changed any since.
func (e *Engine) unchanged(ctx context.Context, remembered *state.State) bool {
	if remembered.Generation == 0 || remembered.NetNS != e.NetNS.ID() || e.moves(remembered) {
		return false
	}
	generation, err := e.Backend.Probe(ctx)
	return err == nil && generation == remembered.Generation
}

// step starts to time a step; call what it returns at its end.
func (e *Engine) step(name string) func() {
	if e.Step == nil {
		return func() {}
	}
	start := time.Now()
	return func() { e.Step(name, time.Since(start)) }
}
