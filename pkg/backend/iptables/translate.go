package iptables

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// line is a rule as iptables-save prints it, behind the name of its chain.
type line struct {
	text    string
	origin  ruleset.Origin
	counter string // what it counts for
	rest    string // the chain in which what is behind it stands; "": this one
}

// chain is a chain of ours.
type chain struct {
	name   string
	origin ruleset.Origin
	lines  []line
}

// hooked are the chains that a built-in chain leads to, in order.
type hooked struct {
	builtin string
	chains  []string
}

// table is what is ours of one table of one family.
type table struct {
	family ruleset.Family
	name   string
	hooks  []hooked
	chains []*chain
}

// tableNames are the tables in the order in which they are committed on the way
// up: what stops packets comes before what translates them.
func tableNames() []string { return []string{"raw", "mangle", "filter", "nat"} }

func families() []ruleset.Family { return []ruleset.Family{ruleset.IPv4, ruleset.IPv6} }

// translator turns a ruleset into lines, one base chain at a time.
type translator struct {
	rules  *ruleset.Ruleset
	chains map[string]*ruleset.Chain
	sets   map[string]*ruleset.Set

	tables  []*table
	refused []*backend.Refused
	known   map[refusal]bool
	done    map[reached]bool
	names   map[string]string // of chains, to what they were made from
	counts  map[string]int    // lines that keep what a dynamic set keeps
	objects map[string]bool
	// timeouts are the timeout objects that lines refer to, by name.
	timeouts map[string]plan.Object

	kernel    kernel
	addresses map[string]*addressSet // sets of the kernel by name
	grouped   map[string][]group
	lists     map[string]string // chains that hold elements, by what they were made from

	// among is what all packets are like that a list is for.
	among condition
	// towards are the interfaces of the way that a rule asks for, where it stands
	// for several.
	towards []string
	// Where the chain that is being translated is.
	family ruleset.Family
	place  place
	table  *table
	at     string // the chain
}

// refusal is an entry and why it was refused, so that it is told once.
type refusal struct {
	origin ruleset.Origin
	why    string
}

// reached is a chain in a table.
type reached struct {
	family ruleset.Family
	table  string
	mode   mode
	chain  string
}

var errNoChain = errors.New("there is no such chain")

// translated is what a ruleset is in iptables, and what iptables cannot do of it.
type translated struct {
	tables   []*table // that have something of it
	sets     map[string]*addressSet
	timeouts []plan.Object // that the tables refer to
	refused  []*backend.Refused
}

// kernel is what a kernel can do, and not all can.
type kernel struct {
	sets   bool // sets of prefixes of both families
	shifts bool // ranges of ports to others, each to the one in its place (Linux 4.18)
	noIPv6 bool // it was booted with ipv6.disable=1: ip6tables does not work then
}

// families are those that have rules.
func (k kernel) families() []ruleset.Family {
	if k.noIPv6 {
		return families()[:1]
	}
	return families()
}

// newest is a kernel that can do all.
func newest() kernel { return kernel{sets: true, shifts: true} }

// translate translates a ruleset, for a kernel.
func translate(rs *ruleset.Ruleset, k kernel) *translated {
	t := &translator{
		rules: rs, chains: map[string]*ruleset.Chain{}, sets: map[string]*ruleset.Set{}, known: map[refusal]bool{},
		done: map[reached]bool{}, names: map[string]string{}, counts: map[string]int{}, objects: map[string]bool{}, timeouts: map[string]plan.Object{},
		kernel: k, addresses: map[string]*addressSet{}, grouped: map[string][]group{}, lists: map[string]string{},
	}
	for _, c := range rs.Chains {
		t.chains[c.Name] = c
	}
	for _, s := range rs.Sets {
		t.sets[s.Name] = s
	}
	for _, c := range rs.Counters {
		t.objects[c.Name] = true
	}
	for _, f := range rs.Flowtables {
		t.refuse("flowtable "+f.Name, f.Origin, errors.New("iptables cannot offload flows; leave `offload` out"))
	}
	var bases []*ruleset.Chain
	for _, c := range rs.Chains {
		if c.Hook != nil {
			bases = append(bases, c)
		}
	}
	slices.SortFunc(bases, func(a, b *ruleset.Chain) int {
		return cmp.Or(cmp.Compare(a.Hook.Priority, b.Hook.Priority), cmp.Compare(a.Name, b.Name))
	})
	for _, f := range k.families() {
		t.family = f
		for _, c := range bases {
			places, err := t.placesOf(c)
			if err != nil {
				o, _ := t.placed(c, map[string]bool{})
				t.refuse("chain "+c.Name, o, err)
				continue
			}
			for _, p := range places {
				t.base(c, p)
			}
		}
		t.tracks(bases)
		// The copies that drop come right before nat, behind all else.
		for _, c := range bases {
			if c.Hook.Type == ruleset.TypeNAT && c.Hook.Point != ruleset.Forward && t.drops(c.Name, map[string]bool{}) {
				p, _ := placeOf(c.Hook)
				t.base(c, place{"mangle", p.builtin, dropping})
			}
		}
	}
	t.skips()
	slices.SortFunc(t.tables, func(a, b *table) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(slices.Index(tableNames(), a.name), slices.Index(tableNames(), b.name)))
	})
	for _, tab := range t.tables {
		slices.SortFunc(tab.chains, func(a, b *chain) int { return cmp.Compare(a.name, b.name) })
		slices.SortFunc(tab.hooks, func(a, b hooked) int { return cmp.Compare(a.builtin, b.builtin) })
	}
	t.forgetUnused()
	out := &translated{tables: t.tables, sets: t.addresses, refused: t.refused}
	for _, name := range slices.Sorted(maps.Keys(t.timeouts)) {
		out.timeouts = append(out.timeouts, t.timeouts[name])
	}
	return out
}

// placed finds the entry for which a chain is there, where that has no place
// itself: that of the first rule or element with a place that it leads to.
func (t *translator) placed(c *ruleset.Chain, seen map[string]bool) (ruleset.Origin, bool) {
	if c.Origin.Place.File != "" {
		return c.Origin, true
	}
	if seen[c.Name] {
		return ruleset.Origin{}, false
	}
	seen[c.Name] = true
	for _, r := range c.Rules {
		if o, ok := t.placedRule(r, seen); ok {
			return o, true
		}
	}
	return c.Origin, false
}

func (t *translator) placedRule(r *ruleset.Rule, seen map[string]bool) (ruleset.Origin, bool) {
	if r.Origin.Place.File != "" {
		return r.Origin, true
	}
	sets := []string{r.Action.Map}
	for _, m := range r.Matches {
		sets = append(sets, m.Set)
	}
	for _, name := range sets {
		set := t.sets[name]
		for i := 0; set != nil && i < set.Len(); i++ {
			if o := set.OriginAt(i); o != ruleset.NoOrigin && t.rules.Origins[o].Place.File != "" {
				return t.rules.Origins[o], true
			}
		}
	}
	for _, v := range t.verdicts(r) {
		if to := t.chains[v.Chain]; to != nil {
			if o, ok := t.placed(to, seen); ok {
				return o, true
			}
		}
	}
	return r.Origin, false
}

func (t *translator) refuse(object string, o ruleset.Origin, err error) {
	key := refusal{o, err.Error()}
	if t.known[key] || errors.Is(err, errBehindNAT) && t.known[refusal{o, errAddress.Error()}] {
		return
	}
	t.known[key] = true
	t.refused = append(t.refused, &backend.Refused{Object: object, Origin: o, By: "the iptables backend", Err: fmt.Errorf("%w%w", err, notSupported{})})
}

// notSupported marks an error as [backend.ErrNotSupported], without more words.
type notSupported struct{}

func (notSupported) Error() string        { return "" }
func (notSupported) Is(target error) bool { return target == backend.ErrNotSupported }

// base translates a base chain and all that it leads to.
func (t *translator) base(c *ruleset.Chain, p place) {
	t.place = p
	t.table = t.tableOf(p.table)
	jumped := t.reach(c)
	h := t.hook(p.builtin)
	h.chains = append(h.chains, chainName(c.Name, p.mode))
	for _, name := range slices.Sorted(maps.Keys(jumped)) {
		at := reached{t.family, p.table, p.mode, name}
		if t.done[at] || p.mode == tracked && !t.assigning(name, map[string]bool{}) {
			continue
		}
		t.done[at] = true
		t.chain(t.chains[name], jumped[name])
	}
}

func (t *translator) tableOf(name string) *table {
	for _, x := range t.tables {
		if x.family == t.family && x.name == name {
			return x
		}
	}
	x := &table{family: t.family, name: name}
	t.tables = append(t.tables, x)
	return x
}

func (t *translator) hook(builtin string) *hooked {
	for i := range t.table.hooks {
		if t.table.hooks[i].builtin == builtin {
			return &t.table.hooks[i]
		}
	}
	t.table.hooks = append(t.table.hooks, hooked{builtin: builtin})
	return &t.table.hooks[len(t.table.hooks)-1]
}

// reach finds the chains that a packet of the family can come to from a base
// chain, and whether by a jump: from those it comes back.
func (t *translator) reach(base *ruleset.Chain) map[string]bool {
	jumped := map[string]bool{base.Name: false}
	todo := []string{base.Name}
	for len(todo) > 0 {
		c := t.chains[todo[0]]
		from := jumped[todo[0]]
		todo = todo[1:]
		for _, r := range c.Rules {
			if !t.possible(r) {
				continue
			}
			for _, v := range t.verdicts(r) {
				if v.Kind != ruleset.Jump && v.Kind != ruleset.Goto || t.chains[v.Chain] == nil {
					continue
				}
				by := from || v.Kind == ruleset.Jump
				if was, known := jumped[v.Chain]; !known || by && !was {
					jumped[v.Chain] = by
					todo = append(todo, v.Chain)
				}
			}
		}
	}
	return jumped
}

// verdicts are what a rule can decide.
func (t *translator) verdicts(r *ruleset.Rule) []ruleset.Action {
	if r.Action.Kind != ruleset.VerdictMap {
		return []ruleset.Action{r.Action}
	}
	if m := t.sets[r.Action.Map]; m != nil {
		return m.Verdicts
	}
	return nil
}

// possible says whether a rule can match a packet of the family.
func (t *translator) possible(r *ruleset.Rule) bool {
	other := func(f ruleset.Field) bool { fam := familyOf(f); return fam != ruleset.Inet && fam != t.family }
	for _, m := range r.Matches {
		if slices.ContainsFunc(m.Fields, other) {
			return false
		}
		if m.Fields[0] == ruleset.NFProtoField && m.Op == ruleset.Equal && ruleset.Family(m.Value[0]) != t.family {
			return false
		}
	}
	for _, s := range r.Do {
		if slices.ContainsFunc(s.Fields, other) {
			return false
		}
	}
	a := &r.Action
	if slices.ContainsFunc(a.Fields, other) || slices.ContainsFunc(a.Pick.Fields, other) {
		return false
	}
	switch a.Kind {
	case ruleset.DNAT, ruleset.SNAT, ruleset.SNATToDest:
		return a.Family == t.family
	}
	return true
}

// drops says whether a chain, or one that it leads to, drops packets of the
// family.
func (t *translator) drops(name string, seen map[string]bool) bool {
	c := t.chains[name]
	if c == nil || seen[name] {
		return false
	}
	seen[name] = true
	for _, r := range c.Rules {
		if !t.possible(r) {
			continue
		}
		for _, v := range t.verdicts(r) {
			if v.Kind == ruleset.Drop || (v.Kind == ruleset.Jump || v.Kind == ruleset.Goto) && t.drops(v.Chain, seen) {
				return true
			}
		}
	}
	return false
}

// chain translates one chain.
func (t *translator) chain(c *ruleset.Chain, jumped bool) {
	out := &chain{name: chainName(c.Name, t.place.mode), origin: c.Origin}
	key := fmt.Sprint(t.family, t.place.table, out.name)
	made := fmt.Sprint(c.Name, t.place.mode)
	if was, taken := t.names[key]; taken && was != made {
		t.refuse("chain "+c.Name, c.Origin, fmt.Errorf("another chain is called %s too", out.name))
		return
	}
	t.names[key] = made
	t.at = out.name
	t.table.chains = append(t.table.chains, out)
	if c.Hook != nil {
		own := ruleset.Origin{Entry: "ipmasq"}
		for _, text := range t.preface(c.Hook) {
			out.lines = append(out.lines, finish(text, own, "", "-j RETURN"))
		}
	}
	if t.place.mode == tracked {
		t.track(c, out, jumped)
		return
	}
	for i := 0; i < len(c.Rules); i++ {
		r := c.Rules[i]
		last := c.Hook != nil && i == len(c.Rules)-1
		if last && r.Action.Kind == ruleset.Accept && len(r.Matches)+len(r.Do) == 0 && r.Counter == "" {
			// What is left is for others to judge.
			out.lines = append(out.lines, finish("", r.Origin, "", "-j RETURN"))
			break
		}
		if !t.possible(r) {
			continue
		}
		t.towards = t.likeWays(c.Rules[i:])
		lines, err := t.rule(r, jumped)
		i += max(len(t.towards), 1) - 1
		t.towards = nil
		if err != nil {
			o, ok := t.placedRule(r, map[string]bool{c.Name: true})
			if !ok {
				o, _ = t.placed(c, map[string]bool{}) // a neighbour's, for which it is there too
			}
			t.refuse("a rule of chain "+c.Name, o, err)
			continue
		}
		for _, l := range lines {
			out.lines = append(out.lines, l)
			if l.rest == "" {
				continue
			}
			out.lines = append(out.lines, finish("", l.origin, "", "-g "+l.rest))
			out = &chain{name: l.rest, origin: c.Origin}
			t.table.chains = append(t.table.chains, out)
		}
	}
}

// preface are the packets that a base chain leaves alone where it is not where
// the ruleset has it.
func (t *translator) preface(h *ruleset.Hook) []string {
	switch t.place.mode {
	case early: // what nat is still to see
		return []string{"-m conntrack --ctstate NEW,RELATED -m conntrack ! --ctstatus CONFIRMED"}
	case later:
		return []string{"-m conntrack --ctstate NEW -m conntrack ! --ctstatus CONFIRMED", "-m conntrack --ctstate DNAT"}
	case routed:
		return []string{"-m conntrack ! --ctstate DNAT"}
	case tracked: // what reaches a host of ours is not translated on its way out
		if h.Point == ruleset.Postrouting {
			return []string{"-m addrtype --dst-type LOCAL"}
		}
	case dropping: // all but that; what a helper expects is translated already
		return []string{"-m conntrack --ctstate INVALID,ESTABLISHED,UNTRACKED", "-m conntrack --ctstatus EXPECTED,CONFIRMED"}
	}
	return nil
}

// finish puts a line together.
func finish(condition string, o ruleset.Origin, counter, target string) line {
	return line{text: joined(condition, comment(o.Entry, counter), target), origin: o, counter: counter}
}

// joined puts what there is of a line behind each other.
func joined(parts ...string) string {
	size := 0
	for _, p := range parts {
		size += len(p) + 1
	}
	text := make([]byte, 0, size)
	for _, p := range parts {
		if len(text) > 0 && p != "" {
			text = append(text, ' ')
		}
		text = append(text, p...)
	}
	return string(text)
}

// elementCounter is the counter of an element, which the ruleset has in the
// element itself.
func elementCounter(set, entry string) string {
	if strings.HasPrefix(set, "one_to_one_leaks_") {
		return "leak_stopped_+" + entry
	}
	return "+" + entry
}
