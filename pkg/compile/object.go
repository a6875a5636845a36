package compile

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// longestName is what names of chains and sets are cut to. The kernel takes
// 255 bytes; older nft(8) takes 127.
const longestName = 120

// fit shortens a name that is too long, and keeps it apart from others that
// begin as it does. Names are made of the names of zones, of which an entry
// can name many.
func fit(name string) string {
	if len(name) <= longestName {
		return name
	}
	return fmt.Sprintf("%s_%08x", name[:longestName-9], crc32.ChecksumIEEE([]byte(name)))
}

// unused makes a name unique among taken ones by a number.
func unused(taken map[string]bool, name string) string {
	name = fit(name)
	candidate := name
	for n := 2; taken[candidate]; n++ {
		candidate = name + "_" + strconv.Itoa(n)
	}
	taken[candidate] = true
	return candidate
}

// origin names an entry and its place.
func origin(section, name string, at policy.Place) ruleset.Origin {
	return ruleset.Origin{Entry: strings.TrimSpace(section + " " + name), Place: ruleset.Place(at)}
}

// own is the origin of rules that no entry asked for, but all of them need.
func own(what string) ruleset.Origin { return ruleset.Origin{Entry: what} }

// chain adds a chain that is not attached.
func (c *compiler) chain(name string, o ruleset.Origin) *ruleset.Chain {
	ch := &ruleset.Chain{Name: name, Origin: o}
	c.chains[name] = true
	c.out.Chains = append(c.out.Chains, ch)
	return ch
}

// base adds a chain that is attached to a hook.
func (c *compiler) base(name string, typ ruleset.ChainType, point ruleset.HookPoint, priority int) *ruleset.Chain {
	ch := c.chain(name, ruleset.Origin{})
	ch.Hook = &ruleset.Hook{Type: typ, Point: point, Priority: priority}
	return ch
}

// numbered is what rules are numbered by.
type numbered struct {
	chain *ruleset.Chain
	entry string
}

// rule appends a rule to a chain.
func (c *compiler) rule(ch *ruleset.Chain, o ruleset.Origin, a ruleset.Action, matches ...ruleset.Match) *ruleset.Rule {
	key := numbered{ch, o.Entry}
	c.numbers[key]++
	r := &ruleset.Rule{
		ID:     ch.Name + "/" + o.Entry + "#" + strconv.Itoa(c.numbers[key]),
		Origin: o, Matches: matches, Action: a,
	}
	ch.Rules = append(ch.Rules, r)
	return r
}

// entryRules appends a rule for each alternative of an entry's condition.
func (c *compiler) entryRules(ch *ruleset.Chain, o ruleset.Origin, when []alternative, counter string, do ruleset.Action) {
	for _, a := range when {
		m := a.matches
		if f, one := a.family.index(); one {
			m = append([]ruleset.Match{isFamily(f)}, m...)
		}
		c.rule(ch, o, do, m...).Counter = counter
	}
}

// counter makes a named counter and gives its name.
func (c *compiler) counter(name string, o ruleset.Origin) string {
	if !c.counters[name] {
		c.counters[name] = true
		c.out.Counters = append(c.out.Counters, &ruleset.Counter{Name: name, Origin: o})
	}
	return name
}

// set makes a set of single values or ranges, or finds the one of that name.
func (c *compiler) set(name string, o ruleset.Origin, interval bool, types []ruleset.Type, fill func(*ruleset.Set)) string {
	name = fit(name)
	if !c.taken[name] {
		c.taken[name] = true
		s := ruleset.NewSet(name, types, nil)
		s.Interval, s.Origin = interval, o
		fill(s)
		c.out.Sets = append(c.out.Sets, s)
	}
	return name
}

// nameOf gives the name of a set that is shared by all that need the same
// content, made of a base where it is new.
func (c *compiler) nameOf(base, content string) (name string, known bool) {
	key := base + "\x00" + content
	if name, known = c.contents[key]; !known {
		name = fit(base)
		for n := 2; c.taken[name]; n++ {
			name = fit(base) + "_" + strconv.Itoa(n)
		}
		c.contents[key] = name
	}
	return name, known
}

// sort puts everything but the rules of a chain in order of names.
func (c *compiler) sort() {
	slices.SortFunc(c.out.Chains, func(a, b *ruleset.Chain) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.out.Sets, func(a, b *ruleset.Set) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.out.Counters, func(a, b *ruleset.Counter) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.out.Helpers, func(a, b *ruleset.Helper) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.out.Timeouts, func(a, b *ruleset.Timeout) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.out.Flowtables, func(a, b *ruleset.Flowtable) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range c.out.Sets {
		s.Sort()
	}
}

// jumpTo is a jump to a chain; goTo one that does not come back; pass leaves
// the hook.
func jumpTo(chain string) ruleset.Action { return ruleset.Action{Kind: ruleset.Jump, Chain: chain} }
func goTo(chain string) ruleset.Action   { return ruleset.Action{Kind: ruleset.Goto, Chain: chain} }
func pass() ruleset.Action               { return ruleset.Action{Kind: ruleset.Accept} }
