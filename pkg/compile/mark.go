package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// priorityMark is behind the translation of destinations, so that a packet is
// seen as forward sees it, and before routing.
const priorityMark = priorityDstNAT + 10

// marks builds the chain that marks packets for policy routing, and for other
// firewalls. It goes by the rules of forward, or of input for what is for the
// host itself, the first that matches deciding, but before routing, and for
// every packet on the way from the client to the server: where a packet goes to
// is what the routes say without the mark.
func (c *compiler) marks() {
	from := map[*zone]string{}
	for _, z := range c.zones {
		through, local := c.marking(c.rules, z), pass()
		if c.inputRules != nil {
			if name := c.marking(c.inputRules, z); name != "" {
				local = goTo(name)
			}
		}
		if through == "" && local.Kind == ruleset.Accept {
			continue
		}
		from[z] = "mark_prerouting_from_" + z.Name
		zo := origin("zone", z.Name, z.Place)
		ch := c.chain(from[z], zo)
		c.rule(ch, zo, local, isLocal())
		if through != "" {
			c.rule(ch, zo, goTo(through))
		}
	}
	if len(from) == 0 {
		return
	}
	base := c.base("mark_prerouting", ruleset.TypeFilter, ruleset.Prerouting, priorityMark)
	c.rule(base, own("ipmasq"), pass(), equal(ruleset.CtDirection, ruleset.CtReply))
	c.dispatch(base, from, "")
	c.rule(base, own("ipmasq"), pass())
}

// marking makes the chain of the marks that rules of forward or input set on
// what comes from a zone, and gives its name, or "" where none does. The first
// rule that matches ends the search.
func (c *compiler) marking(x *filter, z *zone) string {
	last := -1
	for i := range x.Rules {
		if x.Rules[i].Mark != nil && slices.Contains(x.conditions[i].from, z) {
			last = i
		}
	}
	if last < 0 {
		return ""
	}
	ch := c.chain("mark_"+x.section+"_from_"+z.Name, origin("zone", z.Name, z.Place))
	for i := range x.Rules[:last+1] {
		r := &x.Rules[i]
		if !slices.Contains(x.conditions[i].from, z) {
			continue
		}
		var do []ruleset.Statement
		if r.Mark != nil {
			do = []ruleset.Statement{{Kind: ruleset.SetMark, Value: r.Mark.Value, Mask: r.Mark.Mask}}
		}
		c.statements(ch, x.origin(r), c.ruleCondition(x, r, ruleset.FibDaddrOIfName), do)
	}
	return ch.Name
}
