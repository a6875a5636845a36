package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// uplinks are the zones that entries translate sources to, and an entry for
// each choice of them.
type uplinks struct {
	zones   map[*zone]bool
	entries []*translator
}

func (c *compiler) sourceUplinks() *uplinks {
	u := &uplinks{zones: map[*zone]bool{}}
	seen := map[string]bool{}
	for _, t := range c.translators {
		for _, z := range t.to {
			u.zones[z] = true
		}
		if key := zoneNames(t.to, " "); !seen[key] {
			seen[key] = true
			u.entries = append(u.entries, t)
		}
	}
	return u
}

// forgedFrom says whether the answers to a zone's forged sources could leave by
// an uplink.
//
// A zone without networks has any address, so an inside host can send to
// another zone from an address of the outside. The answer would leave by the
// uplink with an inside source, and the guard behind nat would take it for one
// to a connection that the outside opened. Only the first packet shows where
// the flow comes from, which is what chains of type nat see. Uplinks are left
// alone: what comes in by one of them may be routed back by another.
func (c *compiler) forgedFrom(z *zone, u *uplinks) bool {
	inside := slices.ContainsFunc(c.translators, func(t *translator) bool { return slices.Contains(t.from, z) })
	return inside && !u.zones[z] && len(z.Networks) == 0 && !z.Antispoof && c.reachesInside(z, u)
}

// reachesInside says whether anything may pass from a zone to where nothing is
// translated to. What a port forward leads there is answered from the address
// that it was sent to.
func (c *compiler) reachesInside(z *zone, u *uplinks) bool {
	if c.policy.Forward.Default == policy.Accept {
		return true
	}
	for i := range c.rules.Rules {
		r := &c.rules.Rules[i]
		if r.Action != policy.Accept || !slices.Contains(c.rules.conditions[i].from, z) {
			continue
		}
		to := c.towards(r.To)
		if to == nil || slices.ContainsFunc(to, func(z *zone) bool { return !u.zones[z] }) {
			return true
		}
	}
	return false
}

// dropForged drops what the way back to leads out of an uplink, and the way on
// does not.
func (c *compiler) dropForged(ch *ruleset.Chain, u *uplinks) {
	for _, t := range u.entries {
		patterns := widest(t.to)
		if slices.Contains(patterns, anyInterface()) {
			continue
		}
		o := t.origin
		// nft(8) takes no sets of what a look-up of routes gives.
		var on []ruleset.Match
		for _, p := range patterns {
			on = append(on, negated(interfaceIs(ruleset.FibDaddrOIfName, p)[0]))
		}
		for _, p := range patterns {
			c.rule(ch, o, ruleset.Action{Kind: ruleset.Drop}, append(interfaceIs(ruleset.FibSaddrOIfName, p), on...)...).Counter = c.leakCounter(t)
		}
	}
}

// widest gives the interface patterns of zones without those that another one
// covers.
func widest(zones []*zone) []pattern {
	var out []pattern
	for _, z := range zones {
		for _, p := range z.patterns {
			if !slices.ContainsFunc(out, func(q pattern) bool { return q.covers(p) }) {
				out = append(slices.DeleteFunc(out, func(q pattern) bool { return p.covers(q) }), p)
			}
		}
	}
	return out
}
