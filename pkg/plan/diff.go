package plan

import (
	"bytes"
)

// Kind is what happens to an object.
type Kind uint8

// The kinds of change.
const (
	Keep    Kind = iota // it is equal, or only what is in it changes
	Add                 // it is new
	Remove              // it goes
	Replace             // it is removed and made anew, for its attributes differ
)

// Changes lead from one snapshot to another.
type Changes struct {
	From, To *Snapshot
	Chains   []ChainChange
	Sets     []SetChange
	Counters []CounterChange
	Objects  []ObjectChange

	entries []EntryChange // once they were asked for
}

// ChainChange is a chain that differs. From and To are indices in the
// snapshots' Chains, -1 where there is none. A chain of kind Keep is flushed
// and filled again.
type ChainChange struct {
	Kind     Kind
	From, To int
}

// SetChange is a set that differs. With kind Keep, Removed are elements of
// From and Added elements of To, by index; otherwise all of them go or come.
type SetChange struct {
	Kind           Kind
	From, To       int
	Removed, Added []uint32
}

// CounterChange is a counter that comes or goes.
type CounterChange struct {
	Kind     Kind
	From, To int
}

// Empty says whether there is nothing to do.
func (c *Changes) Empty() bool {
	return len(c.Chains) == 0 && len(c.Sets) == 0 && len(c.Counters) == 0 && len(c.Objects) == 0
}

// Diff gives the changes that lead from one snapshot to the other. Both must
// be normalized.
func Diff(from, to *Snapshot) *Changes {
	c := &Changes{From: from, To: to}
	pair(len(from.Chains), len(to.Chains),
		func(i int) string { return from.Chains[i].Name },
		func(i int) string { return to.Chains[i].Name },
		func(i, j int) {
			if kind, differs := diffChain(from, to, i, j); differs {
				c.Chains = append(c.Chains, ChainChange{kind, i, j})
			}
		})
	pair(len(from.Sets), len(to.Sets),
		func(i int) string { return from.Sets[i].Name },
		func(i int) string { return to.Sets[i].Name },
		func(i, j int) {
			if change, differs := diffSet(from, to, i, j); differs {
				c.Sets = append(c.Sets, change)
			}
		})
	pair(len(from.Counters), len(to.Counters),
		func(i int) string { return from.Counters[i].Name },
		func(i int) string { return to.Counters[i].Name },
		func(i, j int) {
			if kind := presence(i, j); kind != Keep {
				c.Counters = append(c.Counters, CounterChange{kind, i, j})
			}
		})
	c.Objects = diffObjects(from.Objects, to.Objects)
	return c
}

// pair walks two sorted lists and calls each for every name, with the index on
// each side or -1.
func pair(n, m int, nameFrom, nameTo func(int) string, each func(i, j int)) {
	i, j := 0, 0
	for i < n || j < m {
		switch {
		case j == m || i < n && nameFrom(i) < nameTo(j):
			each(i, -1)
			i++
		case i == n || nameTo(j) < nameFrom(i):
			each(-1, j)
			j++
		default:
			each(i, j)
			i++
			j++
		}
	}
}

func presence(i, j int) Kind {
	switch {
	case i < 0:
		return Add
	case j < 0:
		return Remove
	}
	return Keep
}

func diffChain(from, to *Snapshot, i, j int) (Kind, bool) {
	if kind := presence(i, j); kind != Keep {
		return kind, true
	}
	a, b := &from.Chains[i], &to.Chains[j]
	if a.Attributes != b.Attributes {
		return Replace, true
	}
	if len(a.Rules) != len(b.Rules) {
		return Keep, true
	}
	for k := range a.Rules {
		if !sameRule(&a.Rules[k], &b.Rules[k]) {
			return Keep, true
		}
	}
	return Keep, false
}

func sameRule(a, b *Rule) bool {
	return a.Origin.Entry == b.Origin.Entry && bytes.Equal(a.Body, b.Body)
}

func sameOrigins(a, b *Snapshot) bool {
	return len(a.Origins) == 0 && len(b.Origins) == 0 ||
		len(a.Origins) >= len(b.Origins) && len(b.Origins) > 0 && &a.Origins[0] == &b.Origins[0]
}

func diffSet(from, to *Snapshot, i, j int) (SetChange, bool) {
	if kind := presence(i, j); kind != Keep {
		return SetChange{Kind: kind, From: i, To: j}, true
	}
	a, b := from.Sets[i], to.Sets[j]
	if a.Attributes != b.Attributes {
		return SetChange{Kind: Replace, From: i, To: j}, true
	}
	change := SetChange{From: i, To: j}
	x, y := &a.Elements, &b.Elements
	if x.is(y) && a.Origin.Entry == b.Origin.Entry && sameOrigins(from, to) {
		return change, false // what was read back refers to what was wanted
	}
	k, l := 0, 0
	for k < x.Len() || l < y.Len() {
		order := 0
		switch {
		case k == x.Len():
			order = 1
		case l == y.Len():
			order = -1
		default:
			order = bytes.Compare(x.At(k), y.At(l))
		}
		switch {
		case order < 0:
			change.Removed = append(change.Removed, uint32(k))
			k++
		case order > 0:
			change.Added = append(change.Added, uint32(l))
			l++
		default:
			if from.ElementOrigin(a, k).Entry != to.ElementOrigin(b, l).Entry {
				change.Removed = append(change.Removed, uint32(k))
				change.Added = append(change.Added, uint32(l))
			}
			k++
			l++
		}
	}
	return change, len(change.Removed)+len(change.Added) > 0
}
