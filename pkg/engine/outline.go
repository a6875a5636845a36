package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// Outline is what a plan does, and what it does it to, in few words: enough to
// find out later whether the same policy still comes to the same.
type Outline struct {
	// NetNS is the identity of the network namespace, the boot included.
	NetNS string `json:"netns"`
	// Backend is where the rules go; of what other backends hold, and goes, Left
	// has names and digests, a line each.
	Backend string   `json:"backend,omitempty"`
	Left    []string `json:"left,omitempty"`
	// Found and Wanted are digests of the rules before and after.
	Found  string `json:"found"`
	Wanted string `json:"wanted"`
	// Entries, Sysctls, Routing and Docker are what changes, a line each. No more than
	// the first linesKept entries are there.
	Entries []string `json:"entries"`
	Sysctls []string `json:"sysctls"`
	Routing []string `json:"routing"`
	Docker  []string `json:"docker,omitempty"`
	// Host is what was known of the host's links and routes, a line each.
	Host []string `json:"host"`
	// Flows is how many flows the policy contradicts.
	Flows int `json:"flows"`
}

const (
	linesKept  = 1000 // of the entries that change
	linesShown = 10   // of each kind of what differs
)

// Outline gives a plan's. It takes a digest of what was found, so not every plan
// makes one.
func (pl *Plan) Outline() Outline {
	o := Outline{
		NetNS: pl.netns, Backend: pl.Backend, Found: pl.Rules.From.Digest(), Wanted: pl.digest,
		Entries: []string{}, Sysctls: []string{}, Routing: []string{}, Host: pl.facts.lines(), Flows: pl.Cut.Total,
	}
	for _, l := range pl.Left {
		o.Left = append(o.Left, l.Backend+" "+l.Rules.From.Digest())
	}
	for i, e := range pl.Rules.Entries() {
		if i == linesKept {
			break
		}
		o.Entries = append(o.Entries, fmt.Sprintf("%c %s: %s", e.Sign, e.Name(), e.Detail()))
	}
	for _, c := range pl.Sysctls {
		o.Sysctls = append(o.Sysctls, fmt.Sprintf("%s: %s -> %s", c.Name, c.Before, c.After))
	}
	for _, line := range pl.Routing.Add.Lines() {
		o.Routing = append(o.Routing, "+ "+line)
	}
	for _, line := range pl.Routing.Remove.Lines() {
		o.Routing = append(o.Routing, "- "+line)
	}
	for _, line := range pl.Docker.Added() {
		o.Docker = append(o.Docker, "+ "+line)
	}
	for _, line := range pl.Docker.Removed() {
		o.Docker = append(o.Docker, "- "+line)
	}
	return o
}

// lines are the facts that rules are made from.
func (f hostFacts) lines() []string {
	out := []string{}
	for _, l := range f.Links {
		out = append(out, "link "+l.Name)
		for _, a := range l.Addresses {
			out = append(out, fmt.Sprintf("address %s on %s", a.Prefix, l.Name))
		}
	}
	for _, r := range f.Defaults {
		out = append(out, fmt.Sprintf("default route (IPv%d, table %d, metric %d) %s by %s", r.Family, r.Table, r.Metric, r.Gateway, r.Interface))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ChangedError says that a plan that was saved would now do something else.
type ChangedError struct {
	Differs []string // a line each
}

func (e *ChangedError) Error() string {
	return "the host has changed since the plan was saved, and to apply it would be something else now; nothing was done:\n  " +
		strings.Join(e.Differs, "\n  ")
}

// compare finds out whether a plan is the one that was saved. One after which
// nothing is left to do is: it has been applied.
func (then *Outline) compare(pl *Plan) error {
	if boot(then.NetNS) != boot(pl.netns) {
		return &ChangedError{[]string{"the plan was made on another machine, or before this one was started last"}}
	}
	if !link.SameNetNS(then.NetNS, pl.netns) {
		return &ChangedError{[]string{"the plan was made in another network namespace"}}
	}
	if pl.Empty() && pl.digest == then.Wanted {
		return nil
	}
	now := pl.Outline()
	var differs []string
	if now.Found != then.Found {
		differs = append(differs, "somebody has changed rules of ipmasq's")
	}
	if now.Backend != then.Backend && then.Backend != "" {
		differs = append(differs, fmt.Sprintf("the rules would go to %s, and not to %s", now.Backend, then.Backend))
	}
	if !slices.Equal(now.Left, then.Left) {
		differs = append(differs, "what other backends hold of ipmasq's is not what it was")
	}
	if now.Wanted != then.Wanted {
		differs = append(differs, "the policy comes to other rules on the host as it is now")
	}
	differs = append(differs, differing("plan", then.Entries, now.Entries)...)
	differs = append(differs, differing("sysctl", then.Sysctls, now.Sysctls)...)
	differs = append(differs, differing("routing", then.Routing, now.Routing)...)
	differs = append(differs, differing("docker", then.Docker, now.Docker)...)
	if len(differs) == 0 {
		return nil
	}
	return &ChangedError{append(differs, differing("host", then.Host, now.Host)...)}
}

// differing tells the lines that are on one side alone.
func differing(what string, then, now []string) (out []string) {
	only := func(when string, a, b []string) {
		n := 0
		for _, line := range a {
			if slices.Contains(b, line) {
				continue
			}
			if n++; n <= linesShown {
				out = append(out, fmt.Sprintf("%s, %s only: %s", what, when, line))
			}
		}
		if n > linesShown {
			out = append(out, fmt.Sprintf("%s, %s only: %d more", what, when, n-linesShown))
		}
	}
	only("then", then, now)
	only("now", now, then)
	return out
}
