package compile

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// translator is an entry that gives packets a new source. They are tried in
// the order of compiler.translators: one_to_one, snat, masquerade.
type translator struct {
	condition
	attributes
	origin ruleset.Origin
	object string // what the names of its objects begin with: section_name
	to     []*zone
	opens  bool // it opens the forward path
	// translate appends what gives a packet that matches when its new source.
	translate func(ch *ruleset.Chain, when []alternative)
	// leaks is when, told by a set that counts for each of several entries; nil:
	// a counter does.
	leaks []alternative
	// source is the entry of masquerade, or the part of snat that is the same.
	source *policy.Masquerade
	// outside are the runs of ports that it uses outside, the widest last; none
	// is for any port.
	outside []policy.Ports
	// borrows says that the new source is the address of the interface by which
	// the packet leaves, or one that the kernel takes from another interface.
	borrows bool
}

// translatorsFrom calls each with the entries that take packets from a zone,
// in order.
func (c *compiler) translatorsFrom(z *zone, each func(t *translator)) {
	for _, t := range c.translators {
		if slices.Contains(t.from, z) {
			each(t)
		}
	}
}

// translated makes a chain for each zone that an entry takes packets from, and
// lets fill put in what each entry needs.
func (c *compiler) translated(prefix string, fill func(ch *ruleset.Chain, t *translator)) map[*zone]string {
	from := map[*zone]string{}
	for _, z := range c.zones {
		var ch *ruleset.Chain
		c.translatorsFrom(z, func(t *translator) {
			if len(t.when) == 0 {
				return
			}
			if ch == nil {
				from[z] = prefix + z.Name
				ch = c.chain(from[z], origin("zone", z.Name, z.Place))
				c.sparesOwn(ch)
			}
			fill(ch, t)
		})
	}
	return from
}

// stopLeaks drops what an entry would have translated, and counts it.
func (c *compiler) stopLeaks(ch *ruleset.Chain, t *translator, when []alternative) {
	drop := ruleset.Action{Kind: ruleset.Drop}
	if t.leaks != nil {
		c.entryRules(ch, t.origin, t.leaks, "", drop)
		return
	}
	c.entryRules(ch, t.origin, when, c.leakCounter(t), drop)
}

// leakCounter counts what an entry would have translated and was stopped. The
// names of entries are unique within their section alone.
func (c *compiler) leakCounter(t *translator) string {
	return c.counter("leak_stopped_"+strings.TrimPrefix(t.object, "masquerade_"), t.origin)
}
