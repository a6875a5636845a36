package explain

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// chain is a chain whose rules are made ready when a packet first comes by.
type chain struct {
	*ruleset.Chain
	index int // in Walker.chains
	// Of base chains. The filter is the one that decides what passes.
	priority    int
	nat, filter bool
	ready       bool
	rules       []rule
}

// rule is a rule with all that it names found.
type rule struct {
	*ruleset.Rule
	matches []match
	fixed   int                 // so many of them the packet's kind decides
	do      []ruleset.Statement // those that change the packet
	never   bool                // a limit is not reached
	to      *chain              // Jump, Goto
	in      *set                // the action's map
}

// New makes a walker for a compiled ruleset.
func New(rules *ruleset.Ruleset, host Host) *Walker {
	w := &Walker{rules: rules, host: host, chains: make([]chain, len(rules.Chains)), sets: make([]set, len(rules.Sets))}
	for i, c := range rules.Chains {
		w.chains[i].Chain = c
	}
	for i, s := range rules.Sets {
		w.sets[i].Set = s
	}
	slices.SortFunc(w.chains, func(a, b chain) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(w.sets, func(a, b set) int { return strings.Compare(a.Name, b.Name) })
	for i := range w.chains {
		w.chains[i].index = i
		if c := &w.chains[i]; c.Hook != nil {
			c.priority, c.nat = int(c.Hook.Priority), c.Hook.Type == ruleset.TypeNAT
			c.filter = c.priority == priorityFilter && c.Hook.Type == ruleset.TypeFilter
			w.hooks[c.Hook.Point] = append(w.hooks[c.Hook.Point], c)
		}
	}
	for _, list := range w.hooks {
		slices.SortStableFunc(list, func(a, b *chain) int { return cmp.Compare(a.priority, b.priority) })
	}
	return w
}

// chain finds a chain by name; nil where there is none.
func (w *Walker) chain(name string) *chain {
	i := sort.Search(len(w.chains), func(i int) bool { return w.chains[i].Name >= name })
	if i < len(w.chains) && w.chains[i].Name == name {
		return &w.chains[i]
	}
	return nil
}

// set finds a set by name. Where there is none, it gives an empty one, which
// nothing is in.
func (w *Walker) set(name string) *set {
	i := sort.Search(len(w.sets), func(i int) bool { return w.sets[i].Name >= name })
	if i == len(w.sets) || w.sets[i].Name != name {
		return &set{Set: &ruleset.Set{}}
	}
	s := &w.sets[i]
	if s.sizes == nil {
		s.resolve()
	}
	return s
}

func (w *Walker) prepare(c *chain) {
	c.ready, c.rules = true, make([]rule, len(c.Rules))
	for i, src := range c.Rules {
		r := &c.rules[i]
		r.Rule, r.never = src, limited(c.Rules[i:])
		if n := len(src.Matches); n > 0 {
			r.matches = make([]match, n)
			for k := range src.Matches {
				r.matches[k] = w.resolveMatch(&src.Matches[k])
			}
			r.fixed = fixedFirst(r.matches)
		}
		for _, do := range src.Do {
			switch do.Kind {
			case ruleset.SetMark, ruleset.SetCtMark, ruleset.SetAddress, ruleset.NoTrack:
				r.do = append(r.do, do)
			}
		}
		if src.Action.Chain != "" {
			r.to = w.chain(src.Action.Chain)
		}
		if src.Action.Map != "" {
			r.in = w.set(src.Action.Map)
		}
	}
}

// limited says whether the first of the rest of a chain ends at a limit. What
// leaves the chain above a rate is let go on where the rest of it only refuses.
func limited(rest []*ruleset.Rule) bool {
	r := rest[0]
	for _, do := range r.Do {
		switch do.Kind {
		case ruleset.CountOver:
			return true
		case ruleset.RateOver:
			return r.Action.Kind != ruleset.Return || !refuses(rest[1:])
		case ruleset.RateUnder:
			if r.Action.Kind == ruleset.Drop || r.Action.Kind == ruleset.Reject {
				return true
			}
		}
	}
	return false
}

// refuses says whether rules can only drop and reject.
func refuses(rules []*ruleset.Rule) bool {
	some := false
	for _, r := range rules {
		switch r.Action.Kind {
		case ruleset.Drop, ruleset.Reject:
			some = true
		case ruleset.Continue, ruleset.Return:
		default:
			return false
		}
	}
	return some
}

// flow is what is to be done behind a rule.
type flow uint8

const (
	onward  flow = iota // the next rule
	back                // the calling chain goes on
	decided             // the hook is left
)

// mostJumps is how deep the kernel lets chains call each other
// (NFT_JUMP_STACK_SIZE).
const mostJumps = 16

// pass takes the packet through a chain.
func (w *Walker) pass(c *chain) flow {
	if c == nil || w.depth > mostJumps {
		return onward
	}
	rules := w.kind.rules[c.index]
	if rules == nil {
		rules = w.narrow(c)
	}
next:
	for i := range rules {
		x := &rules[i]
		for k := range x.matches {
			if !w.holds(&x.matches[k]) {
				continue next
			}
		}
		r := x.rule
		if w.Trace != nil {
			w.came = w.ends()
		}
		if r.never {
			if w.Trace != nil {
				w.limit = true
				w.trace(c, r, nil, -1, &r.Origin)
				w.limit = false
			}
			continue
		}
		for k := range r.do {
			w.change(&r.do[k])
		}
		f := onward
		if x.element >= 0 {
			f = w.element(c, r, int(x.element))
		} else {
			f = w.act(c, r, &r.Action, r.to)
		}
		switch f {
		case back:
			return onward
		case decided:
			return decided
		}
	}
	return onward
}

// act does what a rule, or the element that it leads to, says.
func (w *Walker) act(c *chain, r *rule, a *ruleset.Action, to *chain) flow {
	if a.Map != "" {
		return w.lookUp(c, r)
	}
	origin := &r.Origin
	if w.Trace != nil {
		w.trace(c, r, nil, -1, origin)
	}
	switch a.Kind {
	case ruleset.DNAT, ruleset.SNAT, ruleset.SNATToDest, ruleset.Masquerade, ruleset.Redirect:
		w.translate(a.Kind, a.NAT, origin)
		return decided
	}
	return w.follow(a, to, origin)
}

// follow does what needs no look-up.
func (w *Walker) follow(a *ruleset.Action, to *chain, origin *ruleset.Origin) flow {
	switch a.Kind {
	case ruleset.Jump:
		w.depth++
		f := w.pass(to)
		w.depth--
		return f
	case ruleset.Goto:
		w.depth++
		f := w.pass(to)
		w.depth--
		if f == decided {
			return decided
		}
		return back
	case ruleset.Return:
		return back
	case ruleset.Accept, ruleset.Drop, ruleset.Reject, ruleset.Synproxy:
		w.result.Verdict, w.result.By, w.result.With = a.Kind, origin, a.With
		return decided
	}
	return onward
}

// lookUp does what the element of a map says that the packet leads to.
func (w *Walker) lookUp(c *chain, r *rule) flow {
	a, s := &r.Action, r.in
	if a.Pick.Of != 0 {
		return w.choose(c, r)
	}
	i, ok := w.find(s, a.Fields)
	if !ok || i < 0 {
		return onward
	}
	return w.element(c, r, i)
}

func (w *Walker) element(c *chain, r *rule, i int) flow {
	a, s := &r.Action, r.in
	origin := w.originOf(r, s, i)
	if w.Trace != nil {
		w.trace(c, r, s, i, origin)
	}
	if a.Kind != ruleset.VerdictMap {
		w.translate(a.Kind, fromMap(s, i, a.NAT), origin)
		return decided
	}
	if i >= len(s.Verdicts) {
		return onward
	}
	v := &s.Verdicts[i]
	if v.Chain == "" {
		return w.follow(v, nil, origin)
	}
	if s.chains == nil {
		s.chains = make([]*chain, s.Len())
	}
	if s.chains[i] == nil {
		s.chains[i] = w.chain(v.Chain)
	}
	return w.follow(v, s.chains[i], origin)
}

// originOf is the entry that an element is of: its own, or its map's where that
// is made for one entry, or the rule's.
func (w *Walker) originOf(r *rule, s *set, i int) *ruleset.Origin {
	if o := s.OriginAt(i); o != ruleset.NoOrigin && int(o) < len(w.rules.Origins) {
		return &w.rules.Origins[o]
	}
	if r.Origin.Place.Line == 0 && s.Origin.Place.Line != 0 {
		return &s.Origin
	}
	return &r.Origin
}

// choose takes one of several: that by which the packet became what it is, or
// the first.
func (w *Walker) choose(c *chain, r *rule) flow {
	s := r.in
	if s.Len() == 0 {
		return onward
	}
	became := &w.frame.p.Became
	if !became.Destination.IsValid() {
		return w.element(c, r, 0)
	}
	if r.Action.Kind != ruleset.VerdictMap {
		i := -1
		if r.Action.Kind == ruleset.SNAT {
			i = s.chosen(became.Source, became.SourcePort)
		} else {
			i = s.chosen(became.Destination, became.DestinationPort)
		}
		return w.element(c, r, max(i, 0))
	}
	// Chains differ in what they translate to: each is tried.
	frame, result, trace := w.frame, w.result, w.Trace
	w.Trace = nil
	way := 0
	for i := range s.Len() {
		w.element(c, r, i)
		fits := w.result.DNAT.Kind != ruleset.Continue && w.result.DNAT.Allowed
		if w.hook == ruleset.Postrouting || w.hook == ruleset.Input {
			fits = w.result.SNAT.Kind != ruleset.Continue && w.result.SNAT.Allowed
		}
		w.frame, w.result = frame, result
		if fits {
			way = i
			break
		}
	}
	w.Trace = trace
	return w.element(c, r, way)
}

// change does what a statement says to the packet.
func (w *Walker) change(do *ruleset.Statement) {
	f := &w.frame
	switch do.Kind {
	case ruleset.SetMark:
		f.mark(f.p.Mark&^do.Mask | do.Value)
	case ruleset.SetCtMark:
		f.ctMark(f.p.CtMark&^do.Mask | do.Value)
	case ruleset.NoTrack:
		f.noTrack = true
	case ruleset.SetAddress:
		w.setAddress(do.Fields)
	}
}

// ends are those that the packet has now.
func (w *Walker) ends() Became {
	p := &w.frame.p
	return Became{p.Source, p.Destination, p.SourcePort, p.DestinationPort}
}

func (w *Walker) trace(c *chain, r *rule, s *set, i int, origin *ruleset.Origin) {
	p := &w.came
	step := Step{Hook: w.hook, Chain: c.Chain, Rule: r.Rule, Element: i, Origin: origin, Limited: w.limit,
		Source: p.Source, Destination: p.Destination, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort}
	if s != nil {
		step.Set = s.Set
	}
	w.Trace(step)
}
