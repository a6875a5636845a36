package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/state"
)

func short(digest string) string { return digest[:min(12, len(digest))] }

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// couldRead says whether part of the evidence is there.
func (h *Host) couldRead(name string) bool {
	return !slices.ContainsFunc(h.Unread, func(u Unread) bool { return u.What == name })
}

// stateUnusable is about a folder that cannot be believed, or is somebody
// else's: nothing can be applied, and what to compare with is not known.
func stateUnusable(h *Host) []Finding {
	if h.State.Problem == nil {
		return nil
	}
	f := Finding{
		Severity: Broken, Weight: 970,
		Title:    "the state folder cannot be used: what was applied is not known, and apply will refuse",
		Evidence: strings.Split("state: "+h.State.Problem.Error(), "\n"),
		Mend:     []string{"# do what the message says; then ipmasq apply FILE"},
	}
	if errors.Is(h.State.Problem, backend.ErrNotSupported) {
		f.Title = "the rules in force cannot be looked at, and apply will refuse"
	}
	if errors.Is(h.State.Problem, backend.ErrNoProgram) {
		f.Mend = []string{"# install the package iptables, or have PATH name the folder that it is in, as /usr/sbin"}
	}
	return []Finding{f}
}

// nothingApplied is about a host on which ipmasq has nothing to do.
func nothingApplied(h *Host) []Finding {
	if h.Policy != nil || h.State.Problem != nil || h.Status == nil || h.Status.InForce || len(h.Status.Left) > 0 || !h.couldRead(partState) {
		return nil
	}
	f := Finding{
		Severity: Broken, Weight: 980,
		Title:    "no policy is in force: none was applied",
		Evidence: []string{"state: nothing was applied", "rules: none of ipmasq's are in the kernel"},
		Mend:     []string{"# write a policy (ipmasq init begins one) and put it in force: ipmasq apply --confirm 60s FILE"},
	}
	if n := len(h.State.History); n > 0 {
		f.Evidence = append(f.Evidence, "history: the last apply "+became(&h.State.History[n-1]))
	}
	return []Finding{f}
}

func became(e *state.Entry) string {
	if e.Digest == "" {
		return "(" + when(e.Time) + ") is a rollback to before the first policy"
	}
	text := fmt.Sprintf("(%s) is %s", when(e.Time), e.Result)
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

// foreignRules is about rules of ours that this state folder knows nothing of.
func foreignRules(h *Host) []Finding {
	if h.Given || h.Applied != nil || h.Status == nil || h.State.Problem != nil {
		return nil
	}
	var places []string // a state that knows nothing does not know the backend either
	if h.Status.InForce {
		places = append(places, h.Status.Backend)
	}
	places = append(places, h.Status.Left...)
	if len(places) == 0 {
		return nil
	}
	evidence := []string{"state: nothing was applied"}
	for _, backend := range places {
		evidence = append(evidence, "rules: in "+placeOf(backend))
	}
	return []Finding{{
		Severity: Broken, Weight: 965,
		Title:    "the rules in force were applied with another state folder: this one knows nothing of them",
		Evidence: evidence,
		Mend: []string{"# give doctor the --state-dir that they were applied with (ps shows that of a daemon);",
			"# or put a policy in force with this one: ipmasq apply FILE takes them over",
			"# or, if they are of an apply that was killed and nothing is to be in force: ipmasq delete"},
	}}
}

// filesChanged is about files that say something else than what is in force.
func filesChanged(h *Host) []Finding {
	if h.Given || len(h.State.Changed) == 0 || h.State.Daemon != nil {
		return nil // a daemon reads them by itself, and says what is wrong with them
	}
	a := h.State.State.Applied
	f := Finding{
		Severity: Risk, Weight: 650,
		Title: fmt.Sprintf("%s has changed since it was applied, and what it says now is not in force", strings.Join(h.State.Changed, ", ")),
		Mend:  h.applyAgain("# apply it"),
	}
	for _, name := range h.State.Changed {
		f.Evidence = append(f.Evidence, fmt.Sprintf("file: %s is not what was applied at %s (%s)", name, when(a.Time), short(a.Digest)))
	}
	return []Finding{f}
}

// unconfirmed is about a policy that goes back by itself.
func unconfirmed(h *Host) []Finding {
	if h.Status == nil || h.Status.Unconfirmed == nil {
		return nil
	}
	u := h.Status.Unconfirmed
	f := Finding{
		Severity: Note, Weight: 90,
		Title:    fmt.Sprintf("the policy goes back by itself in %s unless it is confirmed", u.Left.Round(time.Second)),
		Evidence: []string{fmt.Sprintf("state: %s waits to be confirmed", short(u.Digest))},
		Mend:     []string{"ipmasq confirm", "# or go back now: ipmasq rollback"},
	}
	if !u.Guarded || u.Left <= 0 {
		f.Severity, f.Weight = Risk, 550
		f.Title = "the policy was not confirmed, and nobody is there to go back"
		f.Evidence = append(f.Evidence, "state: nobody guards it")
	}
	return []Finding{f}
}

// lapsed is about a policy that was not confirmed when the machine stopped: at
// boot the one before came.
func lapsed(h *Host) []Finding {
	if h.Status == nil || h.Status.Lapsed == "" || h.Given {
		return nil
	}
	f := Finding{
		Severity: Risk, Weight: 655,
		Title:    "the last policy was not confirmed when the machine stopped, and is not in force any more",
		Evidence: []string{"state: " + short(h.Status.Lapsed) + " was not confirmed"},
		Mend:     []string{"# put it in force again and confirm it: ipmasq apply --confirm 60s FILE"},
	}
	if s := h.Status; s.Digest != "" {
		f.Evidence = append(f.Evidence, fmt.Sprintf("state: %s of %s is what was applied before", short(s.Digest), when(s.Applied)))
	}
	return []Finding{f}
}

// withdrawn is about a policy that somebody, or the guard, went back from.
func withdrawn(h *Host) []Finding {
	w := h.State.State.Withdrawn
	if h.Given || w == "" || h.Status == nil || h.Status.Lapsed != "" || h.State.State.Applied == nil {
		return nil
	}
	f := Finding{
		Severity: Note, Weight: 80,
		Title:    fmt.Sprintf("the policy %s was rolled back, and is not applied at boot", short(w)),
		Evidence: []string{"state: " + short(w) + " was withdrawn"},
		Mend:     []string{"# ipmasq history says by whom; to apply it again ends this note"},
	}
	for i := len(h.State.History) - 1; i >= 0; i-- {
		if e := &h.State.History[i]; e.Digest == w {
			f.Evidence = append(f.Evidence, "history: the apply "+became(e))
			break
		}
	}
	return []Finding{f}
}

// lastFailed is about an apply that did not come to its end.
func lastFailed(h *Host) []Finding {
	n := len(h.State.History)
	if h.Given || n == 0 || h.State.History[n-1].Result != state.ResultFailed {
		return nil
	}
	e := &h.State.History[n-1]
	return []Finding{{
		Severity: Risk, Weight: 645,
		Title:    "the last apply failed, and what it should have changed is as it was",
		Evidence: []string{"history: the apply " + became(e)},
		Mend:     []string{"# see whether it does now: ipmasq apply " + strings.Join(e.Files, " ")},
	}}
}

// withheld is about a daemon that does not apply what its files say.
func withheld(h *Host) []Finding {
	d := h.State.Daemon
	if d == nil || d.Problem == "" {
		return nil
	}
	f := Finding{
		Severity: Broken, Weight: 640,
		Title:    fmt.Sprintf("the daemon does not apply what %s says", strings.Join(d.Files, ", ")),
		Evidence: strings.Split(fmt.Sprintf("daemon (pid %d): %s", d.PID, d.Problem), "\n"),
		Mend:     []string{"# mend what it says; it reads the files by itself when they change. ipmasq check " + strings.Join(d.Files, " ") + " shows all mistakes"},
	}
	if d.ProblemSince != nil {
		f.Evidence = append(f.Evidence, "daemon: since "+when(*d.ProblemSince))
	}
	return []Finding{f}
}

// otherDaemon is about daemons that hold what another state folder remembers.
func otherDaemon(h *Host) (out []Finding) {
	if !h.couldRead(partState) {
		return nil
	}
	for _, p := range h.State.Daemons {
		if d := h.State.Daemon; d != nil && d.PID == p.PID {
			continue
		}
		out = append(out, Finding{
			Severity: Broken, Weight: 962,
			Title:    fmt.Sprintf("a daemon with another state folder (pid %d) works on this network namespace: it puts its own policy back", p.PID),
			Evidence: []string{fmt.Sprintf("process %d: %s", p.PID, p.Command)},
			Mend:     []string{fmt.Sprintf("kill %d", p.PID), "# or stop its service; or, if it is the right one, give doctor and apply its --state-dir"},
		})
	}
	return out
}

// oldDaemon is about a daemon whose program has been replaced.
func oldDaemon(h *Host) (out []Finding) {
	for _, p := range h.State.Daemons {
		if !p.Replaced {
			continue
		}
		out = append(out, Finding{
			Severity: Risk, Weight: 540,
			Title:    fmt.Sprintf("the daemon (pid %d) is of a version that is no longer installed", p.PID),
			Evidence: []string{fmt.Sprintf("process %d: /proc/%d/exe is deleted", p.PID, p.PID)},
			Mend:     []string{"# end it, and start it as it was: " + p.Command},
		})
		if h.State.Unit != "" {
			out[len(out)-1].Mend = []string{"systemctl restart ipmasq"}
		}
	}
	return out
}

// daemonGone is about a service that should run.
func daemonGone(h *Host) []Finding {
	if h.State.Unit == "" || h.State.Daemon != nil || len(h.State.Daemons) > 0 || !h.couldRead(partState) {
		return nil
	}
	return []Finding{{
		Severity: Risk, Weight: 545,
		Title:    "the service is enabled, and no daemon runs: nobody puts right what others change",
		Evidence: []string{"unit: " + h.State.Unit, "state: no daemon holds daemon.lock"},
		Mend:     []string{"systemctl restart ipmasq", "# see why it ended: journalctl -u ipmasq"},
	}}
}
