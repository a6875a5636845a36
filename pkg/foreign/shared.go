package foreign

import (
	"slices"
	"strings"
)

// In the tables of iptables our own chains stand among those of others, and the
// built-in chains that lead to them are everybody's.

// ours is how the names of our chains begin in the tables of iptables.
const ours = "IPMASQ-"

// withoutOurs puts our chains aside. What leads to them stays in its place among
// the rules of others: those before it have their turn first, and those behind it
// do not see what we accept. It says whether there were any.
func (t *Table) withoutOurs() bool {
	isOurs := func(name string) bool { return strings.HasPrefix(name, ours) }
	t.Chains = slices.DeleteFunc(t.Chains, func(c *Chain) bool {
		if isOurs(c.Name) {
			c.table = t
			t.own = append(t.own, c)
		}
		return isOurs(c.Name)
	})
	for _, c := range t.Chains {
		for i := range c.Rules {
			r := &c.Rules[i]
			r.Ours = (r.Verdict == Jump || r.Verdict == Goto) && isOurs(r.To)
		}
	}
	return len(t.own) > 0
}

// Shared says whether the chain leads to chains of ours.
func (c *Chain) Shared() bool { return c.ourJump() >= 0 }

// ourJump is the first rule that has all packets asked by chains of ours, or -1. It
// may lead there through a chain of others, such as DOCKER-USER.
func (c *Chain) ourJump() int {
	return slices.IndexFunc(c.Rules, func(r Rule) bool {
		if r.Ours || len(r.Tests) > 0 || r.Verdict != Jump && r.Verdict != Goto {
			return r.Ours
		}
		to := c.table.Chain(r.To)
		return to != nil && len(to.Rules) > 0 && to.Rules[0].Ours
	})
}

// Displaced says whether rules of others come before one that leads to ours.
func (c *Chain) Displaced() bool {
	others := slices.IndexFunc(c.Rules, func(r Rule) bool { return !r.Ours })
	return c.Hook != "" && others >= 0 && others < c.Behind()-1
}

// Before is what stands in a base chain before our own rules are asked, as a chain
// that lets all else pass; nil where that is nothing. It has the first word: what it
// accepts our rules do not see.
func (c *Chain) Before() *Chain {
	n := c.ourJump()
	if n <= 0 || !c.Displaced() {
		return nil
	}
	before := *c
	before.Drops, before.Rules = false, c.Rules[:n]
	return &before
}

// Behind is the place, as iptables counts, right behind our own rules; 1 where
// there are none.
func (c *Chain) Behind() int {
	n := 0
	for i := range c.Rules {
		if c.Rules[i].Ours {
			n = i + 1
		}
	}
	return n + 1
}

// Decides says whether any packet may end in the chain, or be translated, or passed
// over by conntrack, by a rule of it.
func (c *Chain) Decides() bool {
	return c.reaches(func(v Verdict) bool { return v != Other && v != Jump && v != Goto && v != Return })
}

// OurNAT is the table in which our own rules translate a family: nil for nftables,
// whose number is Own, and where there are none.
func (r *Rules) OurNAT(family string) *Table {
	for _, t := range r.Tables {
		if t.Family == family && t.Name == "nat" && len(t.own) > 0 {
			return t
		}
	}
	return nil
}

// leadsTo finds a chain of the table, ours too.
func (t *Table) leadsTo(name string) *Chain {
	for _, c := range t.own {
		if c.Name == name {
			return c
		}
	}
	return t.Chain(name)
}
