package compile

import (
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// dispatch appends rules to a base chain that send a packet to the chain of
// the zone it comes from: by interface, then by source. What comes from no zone
// that has a chain goes on behind these rules, or passes; but what arrives on
// an interface that a zone names and comes from no zone goes to the chain
// otherwise, unless that is "".
func (c *compiler) dispatch(base *ruleset.Chain, chains map[*zone]string, otherwise string) {
	// From the widest to the narrowest, since an interface needs a verdict of
	// its own only where it differs from that of the next wider pattern.
	verdicts := make([]ruleset.Action, len(c.buckets))
	needed := make([]bool, len(c.buckets))
	made := map[string]ruleset.Action{}
	for i := len(c.buckets) - 1; i >= 0; i-- {
		b := &c.buckets[i]
		fallback := pass()
		if otherwise != "" && b.pattern != anyInterface() {
			fallback = goTo(otherwise)
		}
		verdicts[i] = c.bucketVerdict(base.Name, b, chains, fallback, made)
		wider := pass()
		if b.wider >= 0 {
			wider = verdicts[b.wider]
		}
		needed[i] = !sameVerdict(verdicts[i], wider)
	}
	var exact *ruleset.Set
	for i := range c.buckets {
		b := &c.buckets[i]
		if !needed[i] || b.pattern.wildcard {
			continue
		}
		if exact == nil {
			exact = ruleset.NewSet(unused(c.taken, base.Name+"_interfaces"), []ruleset.Type{ruleset.IfName}, []ruleset.Type{ruleset.Verdict})
			exact.Origin = own("zones")
			c.out.Sets = append(c.out.Sets, exact)
			c.rule(base, own("zones"), ruleset.Action{Kind: ruleset.VerdictMap, Fields: []ruleset.Field{ruleset.IIfName}, Map: exact.Name})
		}
		exact.AddVerdict(ifname(b.pattern.name), nil, verdicts[i], ruleset.NoOrigin)
	}
	for i := range c.buckets {
		if b := &c.buckets[i]; needed[i] && b.pattern.wildcard {
			c.rule(base, own("zones"), verdicts[i], interfaceIs(ruleset.IIfName, b.pattern)...)
		}
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
