package iptables

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Taken is what iptables can do of a ruleset, and what it cannot.
func Taken(rs *ruleset.Ruleset) (*plan.Snapshot, []*backend.Refused) {
	made := translate(rs, newest())
	return snapshot(made), made.refused
}

// RenderedSets are the sets of a snapshot as a file, or nothing.
func RenderedSets(s *plan.Snapshot) string {
	var b strings.Builder
	if len(s.Sets) > 0 {
		_ = writeRestore(&b, s.Sets)
	}
	return b.String()
}

// Rendered is what a snapshot is as files of one family.
func Rendered(s *plan.Snapshot, f ruleset.Family) string {
	text := ""
	held := &held{snapshot: &plan.Snapshot{}}
	for _, file := range files(plan.Diff(held.snapshot, s), held) {
		if file.family == f {
			text += string(file.write(nil, false))
		}
	}
	return text
}

// TakenByOld is Taken by a kernel that has neither sets nor shifted ranges.
func TakenByOld(rs *ruleset.Ruleset) *plan.Snapshot { return snapshot(translate(rs, kernel{})) }

// SetName is what a set is called.
func SetName(base, apart string) string { return setName(base, apart) }

// Tested are the lines of a file that are tested where some sets are missing.
func Tested(lines []string, missing ...string) []string {
	f := &file{table: "filter"}
	for _, text := range lines {
		l := fileLine{head: text}
		if head, body, ok := strings.Cut(text, " IPMASQ-x "); ok && head == "-A" {
			l = fileLine{head: "-A IPMASQ-x ", body: []byte(body)}
		}
		f.lines = append(f.lines, l)
	}
	names := map[string]bool{}
	for _, name := range missing {
		names[name] = true
	}
	var out []string
	for _, l := range samples([]*file{f}, names)[0].lines {
		out = append(out, l.text())
	}
	return out
}

// Spelled is a rule of iptables-save as it is read.
func Spelled(f ruleset.Family, rule string) string {
	return string(spelling{f, protocolNumbers()}.of([]byte(rule)))
}

// Widened are the chains of nat that change before filter, each with its rules.
func Widened(changes *plan.Changes) (out []string) {
	_, changed := carry(changes, &held{})
	for name, w := range widen(changes, changed) {
		_, _, chain := keyOf(name)
		text := "whole"
		if !w.whole {
			var rules []string
			for _, r := range w.rules {
				rules = append(rules, string(r.Body))
			}
			text = strings.Join(rules, ", ")
		}
		out = append(out, strings.TrimPrefix(chain, prefix)+": "+text)
	}
	slices.Sort(out)
	return out
}
