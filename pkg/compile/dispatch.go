package compile

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// fewInterfaces is how many names a packet's interface is compared with one by
// one. A comparison costs 5 ns or so, a look-up as much as several.
const fewInterfaces = 2

// dispatch appends rules to a base chain that send a packet to the chain of
// the zone it comes from: by interface, then by source. What comes from no zone
// that has a chain goes on behind these rules, or passes; but what arrives on
// an interface that a zone names and comes from no zone goes to the chain
// otherwise, unless that is "".
func (c *compiler) dispatch(base *ruleset.Chain, chains map[*zone]string, otherwise string) {
	made := map[string]ruleset.Action{}
	c.byInterface(base, own("zones"), pass(), func(b *bucket) ruleset.Action {
		fallback := pass()
		if otherwise != "" && b.pattern != anyInterface() {
			fallback = goTo(otherwise)
		}
		return c.bucketVerdict(base.Name, b, chains, fallback, made)
	})
}

// byInterface appends rules that give what arrives the verdict of its bucket.
// What is in none goes on behind them, which is to mean the verdict none.
func (c *compiler) byInterface(base *ruleset.Chain, o ruleset.Origin, none ruleset.Action, of func(*bucket) ruleset.Action) {
	// From the widest to the narrowest, since an interface needs a verdict of
	// its own only where it differs from that of the next wider pattern.
	verdicts := make([]ruleset.Action, len(c.buckets))
	needed := make([]bool, len(c.buckets))
	for i := len(c.buckets) - 1; i >= 0; i-- {
		b := &c.buckets[i]
		verdicts[i] = of(b)
		wider := none
		if b.wider >= 0 {
			wider = verdicts[b.wider]
		}
		needed[i] = !sameVerdict(verdicts[i], wider)
	}
	names := 0
	for i := range c.buckets {
		if needed[i] && !c.buckets[i].pattern.wildcard {
			names++
		}
	}
	var exact *ruleset.Set
	for i := range c.buckets {
		b := &c.buckets[i]
		if !needed[i] || b.pattern.wildcard {
			continue
		}
		if names <= fewInterfaces {
			c.rule(base, o, verdicts[i], interfaceIs(ruleset.IIfName, b.pattern)...)
			continue
		}
		if exact == nil {
			exact = ruleset.NewSet(unused(c.taken, base.Name+"_interfaces"), []ruleset.Type{ruleset.IfName}, []ruleset.Type{ruleset.Verdict})
			exact.Origin = o
			c.out.Sets = append(c.out.Sets, exact)
			c.rule(base, o, ruleset.Action{Kind: ruleset.VerdictMap, Fields: []ruleset.Field{ruleset.IIfName}, Map: exact.Name})
		}
		exact.AddVerdict(ifname(b.pattern.name), nil, verdicts[i], ruleset.NoOrigin)
	}
	for i := range c.buckets {
		if b := &c.buckets[i]; needed[i] && b.pattern.wildcard {
			c.rule(base, o, verdicts[i], interfaceIs(ruleset.IIfName, b.pattern)...)
		}
	}
}

// arriving appends rules to a base chain that send what may come from one of
// the zones to a chain. They look at the interface alone, and at no more than
// they need to have the rest leave at once.
func (c *compiler) arriving(base *ruleset.Chain, from map[*zone]string, to string) {
	var patterns []pattern
	for i := len(c.buckets) - 1; i >= 0; i-- { // from the widest to the narrowest
		b := &c.buckets[i]
		comes := slices.ContainsFunc(b.cells, func(x cell) bool { return from[x.zone] != "" && !x.empty() })
		covered := slices.ContainsFunc(patterns, func(p pattern) bool { return p.covers(b.pattern) })
		if comes && !covered {
			patterns = append(patterns, b.pattern)
		}
	}
	if len(patterns) > fewInterfaces {
		by := c.interfaces(ruleset.IIfName, patterns, base.Name+"_arriving", own("zones"))
		c.rule(base, own("zones"), goTo(to), by.matches...)
		return
	}
	for _, p := range slices.Backward(patterns) {
		c.rule(base, own("zones"), goTo(to), interfaceIs(ruleset.IIfName, p)...)
	}
}

func sameVerdict(a, b ruleset.Action) bool { return a.Kind == b.Kind && a.Chain == b.Chain }

// bucketVerdict says where the packets of a bucket go: straight to the only
// zone's chain, or through a chain that looks at the source. Buckets with the
// same cells share one.
func (c *compiler) bucketVerdict(base string, b *bucket, chains map[*zone]string, fallback ruleset.Action, made map[string]ruleset.Action) ruleset.Action {
	var cells []cell
	var names []string
	key := fallback.Chain
	for _, x := range b.cells {
		if chains[x.zone] != "" && !x.empty() {
			cells = append(cells, x)
			names = append(names, x.zone.Name)
			key += " " + x.name
		}
	}
	switch known, ok := made[key]; {
	case ok:
		return known
	case len(cells) == 0:
		return fallback
	case len(cells) == 1 && total(cells[0].addresses):
		return goTo(chains[cells[0].zone])
	}
	ch := c.chain(unused(c.chains, base+"_in_"+strings.Join(names, "_")), own("zones"))
	for f, field := range sources() {
		m := ruleset.NewSet(ch.Name+familySuffix(f), []ruleset.Type{field.Type()}, []ruleset.Type{ruleset.Verdict})
		m.Interval, m.Origin = true, own("zones")
		var low, high [16]byte
		for _, x := range cells {
			for _, s := range x.addresses[f] {
				m.AddVerdict(appendAddr(low[:0], s.lo), appendAddr(high[:0], s.hi), goTo(chains[x.zone]), ruleset.NoOrigin)
			}
		}
		if m.Len() == 0 {
			continue
		}
		m.Name = unused(c.taken, m.Name)
		c.out.Sets = append(c.out.Sets, m)
		c.rule(ch, own("zones"), ruleset.Action{Kind: ruleset.VerdictMap, Fields: []ruleset.Field{field}, Map: m.Name}, isFamily(f))
	}
	if fallback.Kind != ruleset.Accept {
		c.rule(ch, own("zones"), fallback)
	}
	made[key] = goTo(ch.Name)
	return made[key]
}
