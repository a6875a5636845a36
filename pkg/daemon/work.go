package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// worker does the jobs, one after the other. Between jobs the loop may look at
// it.
type worker struct {
	*Daemon
	files *fileWatch // nil: there is none
	// watched are the paths that matter, and prints what could be seen of them
	// before they were read; looked is when.
	watched []string
	prints  string
	looked  time.Time
	// read is the digest of the content of the files when they were read last,
	// mine that of the policy that was applied from them, held the policy in
	// force; nil where there is none.
	read, mine string
	held       *engine.Held
	since      time.Time // when it was applied
	facts      link.Facts
	// generation is that of the rules after the last job, seen the last that was
	// told of; odd is one that nobody has told of, so far.
	generation, odd uint32
	seen            atomic.Uint32

	// started says that Boot has decided what is in force, bad that what the
	// files hold cannot be: another host may allow it.
	started, bad bool

	place   place     // where the rules are
	lookNot time.Time // before when it is not looked at them again
	by      []string  // who has committed something since
	// unowned says that it was said that nobody can own them there.
	unowned bool

	ready   bool
	said    state.Daemon
	byHand  string // what was applied by somebody else, as it was said
	unsaved bool
	fought  time.Duration
	fatal   error
}

// do does a job.
func (w *worker) do(ctx context.Context, j job) outcome {
	start := time.Now()
	var o outcome
	if j.reads() {
		o = w.load(ctx, j)
	} else {
		o = w.hold(ctx, j)
	}
	o.took = time.Since(start)
	return o
}

// load reads the policy and applies it, if it is another one.
func (w *worker) load(ctx context.Context, j job) outcome {
	start := time.Now()
	asked := j.cause&causeReload != 0
	if asked {
		w.reloading()
	}
	p, err := w.readFiles()
	content := contentOf(p, err)
	if w.Engine.Step != nil {
		w.Engine.Step("parse", time.Since(start))
	}
	again := w.bad && j.cause&(causeRetry|causeHost) != 0
	if !asked && !again && content == w.read {
		if j.cause != causeFiles {
			return w.hold(ctx, j)
		}
		return outcome{withheld: w.said.Problem != ""}
	}
	if !asked {
		w.reloading()
	}
	defer w.reloaded()
	w.read = content
	if err != nil {
		w.withhold(err, asked)
		w.report(Report{Read: true, Withheld: true, Took: time.Since(start)})
		o := w.instead(ctx, j, mistaken(err))
		o.withheld = true
		return o
	}
	before := w.held
	withheld := ""
	pl, err := w.commit(func() (pl *engine.Plan, err error) {
		if w.started {
			return w.Engine.Apply(ctx, p)
		}
		pl, withheld, err = w.boot(ctx, p)
		return pl, err
	})
	took := time.Since(start) // from the reading of the files on
	if err == nil && withheld != "" {
		return w.startsWithout(pl, withheld, took)
	}
	if err != nil {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return outcome{} // the daemon ends
		}
		if !w.ready && hopeless(err) {
			w.fatal = err
			return outcome{failed: true}
		}
		w.withhold(err, asked)
		w.report(Report{Read: true, Withheld: true, Applied: true, Failed: true, Took: took})
		o := outcome{withheld: true, failed: !mistaken(err)}
		if j.cause&(causeGone|causeRules|causeSettings|causeDocker) != 0 || !w.ready {
			o = w.instead(ctx, j, mistaken(w.Check(p)))
			o.withheld, o.failed = true, !mistaken(err)
		}
		return o
	}
	w.inForce(pl)
	w.mine = w.held.Digest()
	w.settled()
	w.byHand = ""
	w.report(Report{Read: true, Applied: true, Changed: !pl.Empty(), Took: took})
	w.Log.Printf(Notice, "applied %s (%.12s)%s: %s; in %s", strings.Join(w.Paths, ", "), w.mine, because(j), changesOf(pl), took.Round(10*time.Microsecond))
	if before == nil || before.Digest() != w.held.Digest() {
		w.warnings(pl)
	}
	return outcome{}
}

// because says why, where it is not that the files have changed.
func because(j job) string {
	switch {
	case j.cause&causeRetry != 0:
		return " at another try"
	case j.cause&causeHost != 0 && j.cause&causeReload == 0:
		return ", which the host now allows"
	}
	return ""
}

// mistaken says whether a policy has mistakes.
func mistaken(err error) bool {
	var mistakes policy.Errors
	var cannot backend.Inexpressible
	return errors.As(err, &mistakes) || errors.As(err, &cannot)
}

// instead keeps in force what was applied before a policy that is withheld. At
// the start there may be nothing: then no host mends a policy that is wrong, and
// for all else the daemon waits, and the service manager need not. A boot that
// waits for the network waits for the daemon first.
func (w *worker) instead(ctx context.Context, j job, wrong bool) outcome {
	if w.ready && j.cause&^(causeFiles|causeReload|causeRetry|causeHost) == 0 {
		return outcome{}
	}
	if w.started {
		return w.hold(ctx, job{j.cause | causeRules, j.who})
	}
	pl, err := w.commit(func() (pl *engine.Plan, err error) { pl, _, err = w.boot(ctx, nil); return pl, err })
	switch {
	case (errors.Is(err, engine.ErrNothingApplied) || err == nil && pl == nil) && wrong:
		w.fatal = ErrMistakes
	case errors.Is(err, engine.ErrNothingApplied) || err == nil && pl == nil:
		w.Log.Printf(Warning, "nothing is in force: the daemon waits for a policy that it can apply")
		w.decided()
	case err != nil && hopeless(err):
		w.fatal = err
	case err != nil:
		w.Log.Printf(Error, "what was applied before could not be put in force: %s", w.Explain(err))
		return outcome{failed: true}
	default:
		w.inForce(pl)
		w.Log.Printf(Warning, "the policy that was applied before (%.12s, %s) is in force instead", w.held.Digest(), w.since.Format(time.DateTime))
	}
	return outcome{}
}

// boot puts in force what may be without anybody there: the policy that was
// read, unless it was withdrawn; one that waits to be confirmed, as long as it
// does; without a policy the one that was applied last.
func (w *worker) boot(ctx context.Context, p *policy.Policy) (pl *engine.Plan, withheld string, err error) {
	s, err := w.Engine.Boot(ctx, p)
	if err != nil {
		w.started = errors.Is(err, engine.ErrNothingApplied)
		return nil, "", err
	}
	w.started = true
	pl, withheld = s.Plan, s.Withheld
	if s.Waits != nil {
		withheld = fmt.Sprintf("another policy (%.12s) waits to be confirmed, and is held in force until it is or goes back; SIGHUP applies that of the files then", s.Waits.Digest)
		pl, err = w.Engine.Hold(ctx, nil, false)
	}
	return pl, withheld, err
}

// startsWithout is a start on which the policy in the files was not applied.
func (w *worker) startsWithout(pl *engine.Plan, withheld string, took time.Duration) outcome {
	w.Log.Printf(Warning, "%s", withheld)
	w.problem(withheld)
	if pl != nil {
		w.inForce(pl)
		w.byHand = w.held.Digest()
	}
	w.decided()
	w.report(Report{Read: true, Withheld: true, Applied: pl != nil, Changed: pl != nil && !pl.Empty(), Took: took})
	return outcome{}
}

// hold puts what was applied last in force again, if it is not.
func (w *worker) hold(ctx context.Context, j job) outcome {
	changed, err := w.compare(j)
	if err == nil && !changed {
		return outcome{}
	}
	before, start := w.facts, time.Now()
	var pl *engine.Plan
	if err == nil {
		pl, err = w.commit(func() (*engine.Plan, error) { return w.Engine.Hold(ctx, w.held, j.cause&causeGone != 0) })
	}
	took := time.Since(start)
	switch {
	case errors.Is(err, engine.ErrNothingApplied):
		if w.held != nil {
			w.Log.Printf(Warning, "ipmasq delete was run: nothing is held in force until the policy files change, or SIGHUP")
		}
		w.held, w.mine, w.byHand = nil, "", ""
		return outcome{}
	case err != nil:
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return outcome{}
		}
		if !w.ready && hopeless(err) {
			w.fatal = err
		}
		w.Log.Printf(Error, "what was applied could not be held in force: %s", w.Explain(err))
		w.report(Report{Applied: true, Failed: true, Took: took})
		return outcome{failed: true, docker: j.cause&causeDocker != 0}
	}
	w.inForce(pl)
	w.adopted()
	return w.corrected(j, pl, took, before)
}

// compare says whether there is anything to do about what was told.
func (w *worker) compare(j job) (changed bool, err error) {
	if w.held == nil || j.cause&^(causeHost|causeSettings) != 0 {
		return true, nil
	}
	if j.cause&causeHost != 0 {
		now, err := w.Engine.Facts()
		if err != nil || digest(now) != digest(w.facts) {
			return true, err
		}
	}
	slipped, err := w.Engine.Slipped(w.held)
	return len(slipped) > 0, err
}

// corrected says what was not as it should be, and whose doing it was.
func (w *worker) corrected(j job, pl *engine.Plan, took time.Duration, before link.Facts) outcome {
	written := pl.Written()
	rules := pl.Refilled > 0 || !pl.Rules.Empty()
	if !rules && len(written) == 0 && pl.Routing.Empty() && pl.Docker.Empty() {
		return outcome{docker: j.cause&causeDocker != 0}
	}
	in := took.Round(10 * time.Microsecond)
	hosts := digest(before) != digest(w.facts)
	told := j.cause&(causeRules|causeGone) != 0
	did := "changed"
	if pl.Rules.From.Empty() {
		did = "removed"
	}
	o := outcome{docker: j.cause&causeDocker != 0}
	switch {
	case pl.Refilled > 0:
		o.rules = true
		w.Log.Printf(Warning, "%s removed %s: put back in %s, and read back in %s", w.who(j), &w.place, pl.Refilled.Round(10*time.Microsecond), in)
	case rules && told && w.ready && (len(j.who) > 0 || !hosts):
		o.rules = true
		w.Log.Printf(Warning, "%s %s %s: put right in %s: %s", w.who(j), did, &w.place, in, changesOf(pl))
	case j.cause&causeDocker != 0:
		w.Log.Printf(Notice, "Docker's rules have changed: put right in %s: %s", in, changesOf(pl))
	case hosts:
		w.Log.Printf(Notice, "adapted to the host (%s) in %s: %s", differences(before, w.facts), in, changesOf(pl))
	case rules || !pl.Routing.Empty() || !pl.Docker.Empty():
		w.Log.Printf(Notice, "put right in %s: %s", in, changesOf(pl))
	}
	if len(written) > 0 && !hosts {
		o.settings = true
		w.Log.Printf(Warning, "somebody changed sysctls that the policy needs: put right in %s: %s", in, sysctlsOf(pl))
	}
	w.report(Report{Applied: true, Changed: true, Took: took, Rules: o.rules, Sysctls: len(written) > 0, Routing: !pl.Routing.Empty() && !hosts})
	return o
}

func (w *worker) who(j job) string {
	if len(j.who) == 0 {
		return "another program"
	}
	return strings.Join(j.who, ", ")
}

// commit runs what may commit, without being told of it, and finds out whether
// somebody else has committed meanwhile.
func (w *worker) commit(do func() (*engine.Plan, error)) (*engine.Plan, error) {
	if w.Rules != nil {
		if err := w.Rules.Pause(); err != nil {
			return nil, err
		}
	}
	pl, err := do()
	if w.Rules != nil {
		if deaf := w.Rules.Resume(); deaf != nil {
			w.Log.Printf(Error, "%v: what others change is found a second later, and not who they are", deaf)
		}
	}
	w.place.is(w.Engine.Backend.Name())
	w.odd = 0
	if now, probed := w.Engine.Backend.Probe(context.Background()); probed == nil {
		w.generation = now
		if s, loaded := w.Engine.State.Load(); loaded == nil && err == nil && s.Generation != 0 && now != 0 {
			w.generation = s.Generation
		}
		w.seen.Store(w.generation)
	}
	return pl, err
}

// inForce remembers a plan that was carried out.
func (w *worker) inForce(pl *engine.Plan) {
	w.held = pl.Held()
	// Not the host of now: what has changed since is not in the rules, and what
	// tells of it may have come already.
	w.facts = pl.Facts()
	w.since = time.Now()
	if s, err := w.Engine.State.Load(); err == nil && s.Applied != nil {
		w.since = s.Applied.Time
	}
	if w.Owns != nil && !w.place.heard() && !w.unowned {
		w.unowned = true
		w.Log.Printf(Warning, "nobody can own chains of iptables: what others do to them is put right")
	}
	if w.Owns != nil && w.Owns() != w.said.Owns {
		w.said.Owns = w.Owns()
		w.say()
	}
	if pl.Cut.Problem != nil {
		w.Log.Printf(Warning, "flows that the policy contradicts may be open still: %v", pl.Cut.Problem)
	}
	w.decided()
}

// decided tells the service manager, once, that it is decided what is in force,
// be that nothing.
func (w *worker) decided() {
	if !w.ready {
		w.ready = true
		w.Notify.tell("READY=1", status(w.state()))
	}
}

// adopted says that what is held is another policy than that of the files.
func (w *worker) adopted() {
	digest := w.held.Digest()
	if digest == w.mine || digest == w.byHand || w.mine == "" {
		return
	}
	w.byHand = digest
	w.Log.Printf(Warning, "another policy was applied by hand (%.12s): it is held in force until the policy files change, or SIGHUP", digest)
	w.Notify.tell(status(w.state()))
}

// fights says that somebody undoes again and again what is done here.
func (w *worker) fights(d *decider) {
	wait := max(d.rules.fight(), d.settings.fight())
	if wait > w.fought {
		hint := ""
		if d.rules.fight() > 0 && !w.said.Owns && w.place.heard() {
			hint = "; ipmasq run --own-table keeps others from the rules"
		}
		w.Log.Printf(Warning, "somebody undoes it again and again: the next time it is put right after %v%s", wait, hint)
	}
	w.fought = wait
}

// poll looks at what nobody tells of.
func (w *worker) poll() (events []event) {
	if w.looked.IsZero() || time.Since(w.looked) >= printsEvery || w.files == nil {
		w.looked = time.Now()
		if now := prints(w.watched); now != w.prints {
			w.prints = now
			events = append(events, event{cause: causeFiles})
		}
	}
	if w.held == nil {
		return events
	}
	if slipped, err := w.Engine.Slipped(w.held); err == nil && len(slipped) > 0 {
		events = append(events, event{cause: causeSettings})
	}
	if changed, err := w.Engine.DockerChanged(w.held); err == nil && changed {
		events = append(events, event{cause: causeDocker})
	}
	if !w.place.heard() {
		return append(events, w.look()...)
	}
	generation, err := w.Engine.Backend.Probe(context.Background())
	switch {
	case err != nil:
	case generation == w.generation:
		w.odd = 0
	case w.Rules != nil && generation == w.seen.Load():
		w.generation, w.odd = generation, 0 // of others, who were heard
	case w.Rules == nil || generation == w.odd:
		w.generation, w.odd = generation, 0
		events = append(events, event{cause: causeRules})
	default:
		w.odd = generation // what tells of it may be on its way
	}
	return events
}

// changesOf says what a plan has changed, in a line.
func changesOf(pl *engine.Plan) string {
	const most = 8
	var out []string
	more, inside := 0, false
	for _, e := range pl.Rules.Entries() {
		switch {
		case e.Structural():
			inside = true
		case len(out) == most:
			more++
		default:
			out = append(out, fmt.Sprintf("%c %s", e.Sign, e.Name()))
		}
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	if inside && len(out) == 0 {
		out = append(out, "~ what the entries stand on (zones, chains)")
	}
	for _, l := range pl.Left {
		out = append(out, fmt.Sprintf("%s in the place of %s", pl.Backend, l.Backend))
	}
	if text := sysctlsOf(pl); text != "" {
		out = append(out, text)
	}
	out = append(out, slices.Concat(prefixed("+ ", pl.Routing.Add.Lines()), prefixed("- ", pl.Routing.Remove.Lines()))...)
	out = append(out, slices.Concat(prefixed("+ ", pl.Docker.Added()), prefixed("- ", pl.Docker.Removed()))...)
	if pl.Cut.Total > 0 {
		flows := "flows"
		if pl.Cut.Total == 1 {
			flows = "flow"
		}
		out = append(out, fmt.Sprintf("%d %s cut", pl.Cut.Total, flows))
	}
	if len(out) == 0 {
		return "nothing changed"
	}
	return strings.Join(out, ", ")
}

func prefixed(prefix string, lines []string) (out []string) {
	for _, l := range lines {
		out = append(out, prefix+l)
	}
	return out
}

func sysctlsOf(pl *engine.Plan) string {
	var out []string
	for _, c := range pl.Written() {
		out = append(out, fmt.Sprintf("~ sysctl %s: %s -> %s", c.Name, c.Before, c.After))
	}
	return strings.Join(out, ", ")
}
