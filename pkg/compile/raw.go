package compile

import "github.com/ipmasq/ipmasq/pkg/ruleset"

// raw builds the chain before conntrack, for what must not be tracked.
func (c *compiler) raw() {
	var base *ruleset.Chain
	attach := func() *ruleset.Chain {
		if base == nil {
			base = c.base("raw_prerouting", ruleset.TypeFilter, ruleset.Prerouting, priorityRaw)
		}
		return base
	}
	c.antispoof(attach)
	c.untracked(attach)
	if base != nil {
		c.rule(base, own("ipmasq"), pass())
	}
}
