// Package doctor finds out why traffic does not pass.
//
// [Read] gathers what can be known of a host without changing it. [Examine] looks
// at that alone: each check is a function from evidence to findings, and so can be
// tested on evidence that was written down.
package doctor

import (
	"cmp"
	"slices"
	"strings"
)

// Finding is one thing that is wrong.
type Finding struct {
	// ID is stable, as "forwarding-off".
	ID       string
	Severity Severity
	// Title says what is wrong, in one line.
	Title string
	// Evidence is what was seen, each line with where: a sysctl, a rule, a counter.
	Evidence []string
	// Mend are the lines of a shell script that puts it right. What a command
	// cannot do, and what there is beside it, is a comment: a line that begins
	// with "# ".
	Mend []string
	// Weight orders findings of one severity: the likelier that it is what the
	// user has come for, the higher. What causes others is above them.
	Weight int
}

// Commands are the lines of Mend that a shell would carry out.
func (f *Finding) Commands() []string {
	return slices.DeleteFunc(slices.Clone(f.Mend), func(line string) bool { return strings.HasPrefix(line, "#") })
}

// Severity is how bad a finding is.
type Severity int

// The severities: what stops traffic now, what will or may, what is odd.
const (
	Note Severity = iota
	Risk
	Broken
)

// String gives "broken", "risk" or "note".
func (s Severity) String() string { return [...]string{"note", "risk", "broken"}[s] }

// check looks for one kind of mistake.
type check struct {
	id   string // of what it finds
	look func(*Host) []Finding
}

func checks() []check { return slices.Concat(hostChecks, ruleChecks, flowChecks) }

// IDs are those of all findings that there may be, in the order of names.
func IDs() []string {
	var out []string
	for _, c := range checks() {
		out = append(out, c.id)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Examine gives the findings, most likely cause first.
func Examine(h *Host) []Finding {
	var out []Finding
	for _, c := range checks() {
		for _, f := range c.look(h) {
			f.ID = c.id
			for i, line := range f.Mend {
				f.Mend[i] = h.Place.command(line)
			}
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Weight, a.Weight))
	})
	return out
}

// Wrong says whether any of the findings is more than a note.
func Wrong(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity > Note })
}
