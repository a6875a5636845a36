package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// EntryChange is what happens to one entry of the policy.
type EntryChange struct {
	Sign  byte // '+' it is new, '-' it goes, '~' it changes
	Entry string
	Place ruleset.Place // zero where the entry goes
	// Rules and Elements count what comes and goes in the kernel.
	RulesAdded, RulesRemoved       int
	ElementsAdded, ElementsRemoved int
}

// tally counts what happens to each entry.
type tally struct {
	changes *Changes
	entries map[string]*EntryChange
}

// Entries tells the changes by entry of the policy, in the order of places,
// with those that go at the end.
func (c *Changes) Entries() []EntryChange {
	if c.entries == nil {
		c.entries = c.tell()
	}
	return c.entries
}

func (c *Changes) tell() []EntryChange {
	t := &tally{c, map[string]*EntryChange{}}
	for _, ch := range c.Chains {
		t.chain(ch)
	}
	for i := range c.Sets {
		t.set(&c.Sets[i])
	}
	for _, x := range c.Counters {
		if x.To >= 0 {
			t.at(c.To.Counters[x.To].Origin)
		} else if x.From >= 0 {
			t.at(c.From.Counters[x.From].Origin)
		}
	}
	for _, x := range c.Objects {
		if x.To >= 0 {
			t.at(c.To.Objects[x.To].Origin)
		} else if o := &c.From.Objects[x.From]; o.Kind != Flowtable { // the kernel keeps no comment of these
			t.at(o.Origin)
		}
	}
	t.signs()
	out := make([]EntryChange, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b EntryChange) int {
		if (a.Place.File == "") != (b.Place.File == "") {
			return strings.Compare(b.Place.File, a.Place.File)
		}
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line),
			cmp.Compare(a.Place.Column, b.Place.Column), cmp.Compare(a.Entry, b.Entry))
	})
	return out
}

func (t *tally) at(o ruleset.Origin) *EntryChange {
	e := t.entries[o.Entry]
	if e == nil {
		e = &EntryChange{Entry: o.Entry}
		t.entries[o.Entry] = e
	}
	if o.Place.File != "" && (e.Place.File == "" || o.Place.Line < e.Place.Line) {
		e.Place = o.Place
	}
	return e
}

// chain counts the rules that only one side has.
func (t *tally) chain(ch ChainChange) {
	switch {
	case ch.From < 0:
		for i := range t.changes.To.Chains[ch.To].Rules {
			t.at(t.changes.To.Chains[ch.To].Rules[i].Origin).RulesAdded++
		}
		return
	case ch.To < 0:
		for i := range t.changes.From.Chains[ch.From].Rules {
			t.at(t.changes.From.Chains[ch.From].Rules[i].Origin).RulesRemoved++
		}
		return
	}
	left := map[string]int{}
	key := func(r *Rule) string { return r.Origin.Entry + "\x00" + string(r.Body) }
	if ch.To >= 0 {
		for i := range t.changes.To.Chains[ch.To].Rules {
			left[key(&t.changes.To.Chains[ch.To].Rules[i])]++
		}
	}
	if ch.From >= 0 {
		for i := range t.changes.From.Chains[ch.From].Rules {
			r := &t.changes.From.Chains[ch.From].Rules[i]
			if left[key(r)]--; left[key(r)] < 0 {
				t.at(r.Origin).RulesRemoved++
			}
		}
	}
	if ch.To >= 0 {
		for i := range t.changes.To.Chains[ch.To].Rules {
			r := &t.changes.To.Chains[ch.To].Rules[i]
			if left[key(r)] > 0 {
				left[key(r)]--
				t.at(r.Origin).RulesAdded++
			}
		}
	}
}

func (t *tally) set(s *SetChange) {
	from, to := t.changes.From, t.changes.To
	each := func(n int, which []uint32, all bool, do func(i int)) {
		if !all {
			for _, i := range which {
				do(int(i))
			}
			return
		}
		for i := range n {
			do(i)
		}
	}
	whole := s.Kind != Keep
	if s.From >= 0 {
		set := from.Sets[s.From]
		each(set.Elements.Len(), s.Removed, whole, func(i int) { t.at(from.ElementOrigin(set, i)).ElementsRemoved++ })
	}
	if s.To >= 0 {
		set := to.Sets[s.To]
		each(set.Elements.Len(), s.Added, whole, func(i int) { t.at(to.ElementOrigin(set, i)).ElementsAdded++ })
	}
}

// signs finds out which of the entries that change each side knows.
func (t *tally) signs() {
	before, after := t.known(t.changes.From), t.known(t.changes.To)
	for name, e := range t.entries {
		switch {
		case before[name] && after[name]:
			e.Sign = '~'
		case after[name]:
			e.Sign = '+'
		default:
			e.Sign, e.Place = '-', ruleset.Place{}
		}
	}
}

// known tells which of the changed entries a side has anything of.
func (t *tally) known(s *Snapshot) map[string]bool {
	out := make(map[string]bool, len(t.entries))
	note := func(entry string) {
		if t.entries[entry] != nil {
			out[entry] = true
		}
	}
	for i := range s.Chains {
		for j := range s.Chains[i].Rules {
			note(s.Chains[i].Rules[j].Origin.Entry)
		}
	}
	for _, set := range s.Sets {
		note(set.Origin.Entry)
	}
	for _, c := range s.Counters {
		note(c.Origin.Entry)
	}
	for i := range s.Objects {
		note(s.Objects[i].Origin.Entry)
	}
	used := make([]bool, len(s.Origins))
	for _, set := range s.Sets {
		for _, o := range set.Elements.origins {
			if o != NoOrigin {
				used[o] = true
			}
		}
	}
	last := ""
	for i, u := range used {
		// The lines of a file have an origin each, all of one entry.
		if u && s.Origins[i].Entry != last {
			last = s.Origins[i].Entry
			note(last)
		}
	}
	return out
}

// structural says whether an entry is not one that the user wrote, but what
// all entries stand on.
func structural(entry string) bool {
	switch entry {
	case "ipmasq", "zones", "invalid", "invalid input", "closed redirect ports", "port_forward", "redirect", "one_to_one", "helpers", "timeouts", "antispoof", "mss_clamp", "symmetric", "synproxy":
		return true
	}
	return strings.HasPrefix(entry, "zone ") || strings.HasPrefix(entry, "antispoof ")
}

// Name is the entry's name, or what to call rules that name none, because
// somebody else put them into our chains.
func (e *EntryChange) Name() string {
	if e.Entry == "" {
		return "rules that are not of any entry"
	}
	return e.Entry
}

// Structural says whether the change is not of an entry that the user wrote.
func (e *EntryChange) Structural() bool { return structural(e.Entry) }

// Detail says in numbers what comes and goes.
func (e *EntryChange) Detail() string {
	var parts []string
	count := func(added, removed int, one, many string) {
		noun := many
		if added+removed == 1 {
			noun = one
		}
		switch {
		case added > 0 && removed > 0:
			if added == 1 {
				noun = one
			}
			parts = append(parts, fmt.Sprintf("%d %s in, %d out", added, noun, removed))
		case added > 0:
			parts = append(parts, fmt.Sprintf("%d %s", added, noun))
		case removed > 0:
			parts = append(parts, fmt.Sprintf("%d %s out", removed, noun))
		}
	}
	count(e.RulesAdded, e.RulesRemoved, "rule", "rules")
	count(e.ElementsAdded, e.ElementsRemoved, "element", "elements")
	return strings.Join(parts, ", ")
}

// Summary counts the changes in one line.
func (c *Changes) Summary() string {
	if c.Empty() {
		return "no difference"
	}
	var added, changed, removed int
	for _, e := range c.Entries() {
		if e.Structural() {
			continue
		}
		switch e.Sign {
		case '+':
			added++
		case '~':
			changed++
		default:
			removed++
		}
	}
	if added+changed+removed == 0 {
		return "only what the entries stand on"
	}
	return fmt.Sprintf("%d to add, %d to change, %d to remove", added, changed, removed)
}
