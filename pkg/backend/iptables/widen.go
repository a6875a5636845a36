package iptables

import (
	"bytes"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Filter and nat are two commits. What one of them lets pass and the other does
// not translate would leave with an inside address: the guard stands before nat,
// and cannot tell of a first packet. So where both change, the chains behind
// POSTROUTING first become what translates all that the old or the new rules do,
// then filter changes, and then they become the new ones. Where the new rules
// only translate more, that is the first step alone, and where less, the last.

// widened is what becomes of a chain before filter changes.
type widened struct {
	whole bool        // the chain is as it is to be already
	rules []plan.Rule // else it has these; none: it stays
}

// widen finds the chains that change before filter, by their names.
func widen(changes *plan.Changes, changed []changedChain) map[string]widened {
	out := map[string]widened{}
	for _, f := range families() {
		in := func(table string) bool {
			return slices.ContainsFunc(changed, func(c changedChain) bool {
				is, of, _ := keyOf(c.name())
				return is == f && of == table
			})
		}
		if !in("filter") || !in("nat") {
			continue
		}
		behind := map[string]bool{}
		behindPostrouting(changes.From, f, behind)
		behindPostrouting(changes.To, f, behind)
		for _, c := range changed {
			if !behind[c.name()] {
				continue
			}
			_, _, name := keyOf(c.name())
			switch {
			case c.to == nil:
			case c.from == nil:
				out[c.name()] = widened{whole: true}
			case strings.HasPrefix(name, prefix):
				if w := both(c.from.Rules, c.to.Rules); w.whole || w.rules != nil {
					out[c.name()] = w
				}
			}
		}
	}
	return out
}

// behindPostrouting notes POSTROUTING of nat and the chains that it leads to.
func behindPostrouting(s *plan.Snapshot, f ruleset.Family, known map[string]bool) {
	chains := map[string]*plan.Chain{}
	for i := range s.Chains {
		chains[s.Chains[i].Name] = &s.Chains[i]
	}
	seen := map[string]bool{}
	for todo := []string{"POSTROUTING"}; len(todo) > 0; todo = todo[1:] {
		key := chainKey(f, "nat", todo[0])
		c := chains[key]
		if c == nil || seen[key] {
			continue
		}
		seen[key], known[key] = true, true
		for _, r := range c.Rules {
			if to := targetOf(string(r.Body)); strings.HasPrefix(to, prefix) {
				todo = append(todo, to)
			}
		}
	}
}

// both are rules that translate what either of two lists does.
func both(from, to []plan.Rule) widened {
	switch {
	case within(from, to):
		return widened{whole: true}
	case within(to, from):
		return widened{}
	}
	had, has := bodies(from), bodies(to)
	same := 0
	for same < min(len(from), len(to)) && bytes.Equal(from[same].Body, to[same].Body) {
		same++
	}
	end := 0
	for end < min(len(from), len(to))-same && bytes.Equal(from[len(from)-1-end].Body, to[len(to)-1-end].Body) {
		end++
	}
	out := slices.Clone(to[:same])
	add := func(list []plan.Rule, other map[string]bool, again bool) {
		for _, r := range list {
			switch {
			case other[string(r.Body)]:
				if again {
					out = append(out, r)
				}
			case !goesBack(r):
				out = append(out, comesBack(r))
			}
		}
	}
	add(to[same:len(to)-end], had, true)
	add(from[same:len(from)-end], has, false)
	out = append(out, to[len(to)-end:]...)
	switch equal := func(a, b plan.Rule) bool { return bytes.Equal(a.Body, b.Body) }; {
	case slices.EqualFunc(out, to, equal):
		return widened{whole: true}
	case slices.EqualFunc(out, from, equal):
		return widened{}
	}
	return widened{rules: out}
}

func bodies(rules []plan.Rule) map[string]bool {
	out := make(map[string]bool, len(rules))
	for _, r := range rules {
		out[string(r.Body)] = true
	}
	return out
}

// within says whether a list has all rules of another, in order, and translates
// what that does: what goes back in one alone leaves something out.
func within(few, many []plan.Rule) bool {
	i := 0
	for _, r := range many {
		switch {
		case i < len(few) && bytes.Equal(few[i].Body, r.Body):
			i++
		case goesBack(r), !bytes.Equal(comesBack(r).Body, r.Body):
			return false
		}
	}
	return i == len(few)
}

// goesBack says whether a rule leaves packets as they are.
func goesBack(r plan.Rule) bool {
	to := targetOf(string(r.Body))
	return to == "RETURN" || to == "ACCEPT"
}

// comesBack is a rule from which packets that nothing translated come back.
func comesBack(r plan.Rule) plan.Rule {
	to := targetOf(string(r.Body))
	if head, ok := strings.CutSuffix(string(r.Body), "-g "+to); ok {
		r.Body = []byte(head + "-j " + to)
	}
	return r
}
