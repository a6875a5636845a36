package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// readFiles reads the policy. What it is read from is watched before it is
// read; a file that is only found then is watched, and all is read again.
func (w *worker) readFiles() (p *policy.Policy, err error) {
	w.watch(w.watched, w.Paths)
	for range 3 {
		p, err = w.Load()
		var named []string
		if p != nil {
			for _, s := range p.Sources {
				named = append(named, s.Name)
			}
			named = append(named, p.Missing...)
		}
		if !w.watch(named, w.Paths) {
			break
		}
	}
	return p, err
}

// watch has paths watched, and says whether they are others than before.
func (w *worker) watch(paths ...[]string) (others bool) {
	all := slices.Concat(paths...)
	slices.Sort(all)
	all = slices.Compact(all)
	others = !slices.Equal(all, w.watched)
	w.watched, w.prints, w.looked = all, prints(all), time.Now()
	if w.files != nil {
		if err := w.files.watch(placesOf(all)); err != nil {
			w.Log.Printf(Warning, "%v: policy files are looked at every %v", err, printsEvery)
			w.files = nil
		}
	}
	return others
}

// contentOf names what was read, mistakes and missing files included.
func contentOf(p *policy.Policy, err error) string {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if p != nil {
		sources := make([]state.Source, len(p.Sources))
		for i, s := range p.Sources {
			sources[i] = state.Source{Name: s.Name, Text: s.Text}
		}
		text += state.Digest(sources)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// withhold says that the policy in the files is not in force, and why. What was
// said before is not said again, unless somebody asks.
func (w *worker) withhold(err error, asked bool) {
	w.bad = true
	problem := short(err)
	if problem == w.said.Problem && !asked {
		return
	}
	keeps := "; what was applied before stays in force"
	if w.held == nil {
		keeps = ""
	}
	w.Log.Printf(Error, "%s", w.Explain(err))
	w.Log.Printf(Error, "the policy in %s is not applied%s", strings.Join(w.Paths, ", "), keeps)
	w.problem(problem)
}

// problem has status say why the policy in the files is not in force.
func (w *worker) problem(text string) {
	now := time.Now().UTC().Truncate(time.Second)
	w.said.Problem, w.said.ProblemSince = text, &now
	w.say()
	w.Notify.tell(status(w.state()))
}

// short is an error in a line.
func short(err error) string {
	var mistakes policy.Errors
	if errors.As(err, &mistakes) && len(mistakes) > 0 {
		text := mistakes[0].Error()
		if n := len(mistakes) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more)", n)
		}
		return text
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// settled says that the policy in the files is in force.
func (w *worker) settled() {
	w.bad = false
	if w.said.Problem == "" {
		return
	}
	w.said.Problem, w.said.ProblemSince = "", nil
	w.say()
}

// say writes the file that status reads. A disk that cannot be written to is no
// reason to stop.
func (w *worker) say() {
	err := w.Engine.State.SaveDaemon(w.said)
	if err != nil && !w.unsaved {
		w.Log.Printf(Warning, "status cannot be told how the daemon is: %v", err)
	}
	w.unsaved = err != nil
}

// state is a line about what is in force.
func (w *worker) state() string {
	text := "nothing is in force"
	if w.held != nil {
		text = fmt.Sprintf("policy %.12s is in force", w.held.Digest())
		if w.held.Digest() == w.byHand {
			text += ", applied by hand"
		}
	}
	if w.said.Problem != "" {
		text += "; the one in the files is not: " + w.said.Problem
	}
	return text
}

// leaves is what is left behind at the end.
func (w *worker) leaves() string {
	if w.held == nil {
		return "nothing is in force"
	}
	return fmt.Sprintf("policy %.12s stays in force", w.held.Digest())
}

// reloading and reloaded tell the manager of a policy that is read.
func (w *worker) reloading() {
	if w.ready {
		w.Notify.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
	}
}

func (w *worker) reloaded() {
	if w.ready {
		w.Notify.tell("READY=1", status(w.state()))
	}
}

func (w *worker) report(r Report) {
	if w.Done == nil {
		return
	}
	if w.held != nil {
		r.Digest, r.Since = w.held.Digest(), w.since
	}
	w.Done(r)
}

// warnings are about a policy that is new.
func (w *worker) warnings(pl *engine.Plan) {
	for _, m := range pl.Compiled.Warnings {
		w.Log.Printf(Warning, "%v", m)
	}
	for _, m := range pl.Warnings {
		w.Log.Printf(Warning, "%s", m)
	}
}
