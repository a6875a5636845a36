package explain

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// kind is what packets of one interface, family, protocol and state have in
// common: most rules can be decided for all of them at once. A gateway sees few
// kinds of packets, and many of each. Conntrack has not seen a packet at first,
// so that it is of two kinds on its way.
type kind struct {
	in                string
	family, protocol  uint8
	flags             uint8 // of TCP
	untracked, traced bool
	answer            bool // of an open flow
	state             uint32
	// rules are, by chain, those that such a packet can meet; nil where none
	// came by.
	rules [][]narrowed
}

// narrowed is a rule with what is left to be decided.
type narrowed struct {
	*rule
	matches []match
	element int32 // that its map leads to, or -1: that is left to be decided too
}

// mostKinds is how many kinds are known at once.
const mostKinds = 32

// mostTaken is how many rules of a chain are taken over by one that leads there.
const mostTaken = 8

// fixed are the fields that all packets of a kind have the same in, at any
// hook.
const fixed = 1<<ruleset.IIfName | 1<<ruleset.IIf | 1<<ruleset.NFProtoField | 1<<ruleset.L4Proto | 1<<ruleset.TCPFlagsField |
	1<<ruleset.CtStateField | 1<<ruleset.CtDirection

// track sets whether conntrack knows the packet in the frame at this point, and
// finds of what kind it is.
func (w *Walker) track(known bool) {
	f := &w.frame
	state := f.track(known)
	untracked, traced, family := f.hidden != 0, w.Trace != nil, f.at(ruleset.NFProtoField)[0]
	answer := f.p.Flow != nil && f.p.Flow.Answer
	is := func(k *kind) bool {
		return k.protocol == f.p.Protocol && k.state == state && k.family == family && k.flags == f.p.TCPFlags &&
			k.untracked == untracked && k.traced == traced && k.answer == answer && k.in == f.p.In
	}
	if w.kind != nil && is(w.kind) {
		return
	}
	for _, k := range w.kinds {
		if is(k) {
			w.kind = k
			return
		}
	}
	if len(w.kinds) == mostKinds {
		w.kinds = w.kinds[:0]
	}
	w.kind = &kind{in: f.p.In, family: family, protocol: f.p.Protocol, flags: f.p.TCPFlags, untracked: untracked, traced: traced,
		answer: answer, state: state, rules: make([][]narrowed, len(w.chains))}
	w.kinds = append(w.kinds, w.kind)
}

// narrow decides the rules of a chain as far as the packet's kind does.
func (w *Walker) narrow(c *chain) []narrowed {
	if !c.ready {
		w.prepare(c)
	}
	out := []narrowed{}
next:
	for i := range c.rules {
		r := &c.rules[i]
		for k := range r.matches[:r.fixed] {
			if !w.holds(&r.matches[k]) {
				continue next
			}
		}
		x := narrowed{rule: r, matches: r.matches[r.fixed:], element: -1}
		if r.in != nil && r.Action.Pick.Of == 0 && areFixed(r.Action.Fields) {
			i, ok := w.find(r.in, r.Action.Fields)
			if !ok || i < 0 {
				if len(r.do) == 0 {
					continue
				}
			} else {
				x.element = int32(i)
			}
		}
		if !w.kind.traced && (r.never || r.Action.Kind == ruleset.Continue && r.Action.Map == "" && len(r.do) == 0) {
			continue // it changes nothing
		}
		always := len(x.matches) == 0 && !r.never
		if always && r.Action.Kind == ruleset.Goto && r.Action.Map == "" && r.to != nil && len(r.do) == 0 && !w.kind.traced && w.depth < mostJumps {
			if there := w.rulesOf(r.to); len(there) <= mostTaken {
				out = append(out, there...) // nothing comes back from there, so it may as well stand here
				break
			}
		}
		out = append(out, x)
		if always && ends(&r.Action) {
			break
		}
	}
	w.kind.rules[c.index] = out
	return out
}

// rulesOf are those of a chain that the packet's kind can meet.
func (w *Walker) rulesOf(c *chain) []narrowed {
	if rules := w.kind.rules[c.index]; rules != nil {
		return rules
	}
	w.depth++ // chains that go round end somewhere
	defer func() { w.depth-- }()
	return w.narrow(c)
}

// ends says whether nothing behind a rule is looked at once its conditions are
// met.
func ends(a *ruleset.Action) bool {
	switch a.Kind {
	case ruleset.Accept, ruleset.Drop, ruleset.Reject, ruleset.Return, ruleset.Goto:
		return a.Map == ""
	}
	return false
}

func areFixed(fields []ruleset.Field) bool {
	return len(fields) > 0 && !slices.ContainsFunc(fields, func(f ruleset.Field) bool { return fixed&(1<<f) == 0 })
}

// fixedFirst puts the conditions that a packet's kind decides in front of the
// others, whose order stays, and counts them. All have to hold, whatever their
// order.
func fixedFirst(list []match) int {
	isFixed := func(m *match) bool {
		if m.set != nil {
			return areFixed(m.fields)
		}
		return fixed&(1<<m.field) != 0
	}
	slices.SortStableFunc(list, func(a, b match) int {
		switch x, y := isFixed(&a), isFixed(&b); {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	n := 0
	for n < len(list) && isFixed(&list[n]) {
		n++
	}
	return n
}
