package sysctl

import (
	"errors"
	"fmt"
	"slices"
)

// Setting is a sysctl of which a policy says the value. Name is in slash form.
type Setting struct {
	Name  string
	Value string
	Why   string
}

// SettingChanges is what must be written for settings to have their values,
// and for those that were written for an earlier policy and are no longer
// wanted to have what they had before. What somebody else has changed since is
// released without writing it.
func SettingChanges(want []Setting, remembered []Change) ([]Change, error) {
	var changes []Change
	for _, s := range want {
		now, err := Get(s.Name)
		if errors.Is(err, ErrAbsent) {
			return nil, fmt.Errorf("%s: %w; load the kernel module that has it, or take it out of the policy", s.Why, err)
		}
		if err != nil {
			return nil, err
		}
		if now != tidy(s.Value) {
			changes = append(changes, Change{Name: s.Name, Before: now, After: s.Value, Why: s.Why, Kind: Sets})
		}
	}
	for _, r := range remembered {
		if r.Kind != Sets || slices.ContainsFunc(want, func(s Setting) bool { return s.Name == r.Name }) {
			continue
		}
		now, err := Get(r.Name)
		if err != nil && !errors.Is(err, ErrAbsent) {
			return nil, err
		}
		back := Change{Name: r.Name, Before: now, After: now, Why: "the policy no longer sets it", Kind: Releases}
		if err == nil && r.Ours(now) {
			back.After = r.Before
		}
		changes = append(changes, back)
	}
	return changes, nil
}

// Links are the interfaces that have IPv4 settings of their own, in name order.
func Links() ([]string, error) {
	names, err := children("net/ipv4/conf")
	return slices.DeleteFunc(names, func(name string) bool { return name == "all" || name == "default" }), err
}
