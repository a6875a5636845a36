package iptables

import (
	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Taken is what iptables can do of a ruleset, and what it cannot.
func Taken(rs *ruleset.Ruleset) (*plan.Snapshot, []*backend.Refused) {
	tables, refused := translate(rs)
	return snapshot(tables), refused
}

// Rendered is what a snapshot is as files of one family.
func Rendered(s *plan.Snapshot, f ruleset.Family) string {
	text := ""
	held := &held{snapshot: &plan.Snapshot{}}
	for _, file := range files(plan.Diff(held.snapshot, s), held) {
		if file.family == f {
			text += file.text(false)
		}
	}
	return text
}
