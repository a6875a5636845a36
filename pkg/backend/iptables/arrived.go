package iptables

import (
	"errors"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// beginnings are what names of interfaces begin with, the likely ones first.
const beginnings = "ewbpvtldoinuxsgmachfjkqryzEWBPVTLDOINUXSGMACHFJKQRYZ0123456789_-.@#=~^"

// fromNowhere says which match of a rule asks for packets that came in by no
// interface: what the host itself sends, and what a bridge shows to POSTROUTING.
// -1 is none.
func fromNowhere(r *ruleset.Rule) int {
	return slices.IndexFunc(r.Matches, func(m ruleset.Match) bool {
		return m.Fields[0] == ruleset.IIf && m.Op == ruleset.Equal && strings.Trim(string(m.Value), "\x00") == ""
	})
}

// nowhere translates such a rule. Iptables cannot ask for the lack of a name. So
// the rule leads to a chain that all leave whose interface's name begins with
// anything, and where the others go on.
func (t *translator) nowhere(r *ruleset.Rule, at int, jumped bool) ([]line, error) {
	if r.Action.Kind != ruleset.Jump || r.Counter != "" || len(r.Do) > 0 {
		return nil, errors.New("iptables cannot ask whether a packet came in by an interface, but where that leads to another chain")
	}
	to, err := t.verdict(r.Action, jumped)
	if err != nil {
		return nil, err
	}
	name := chainName("nowhere_"+r.Action.Chain, t.place.mode)
	if !slices.ContainsFunc(t.table.chains, func(c *chain) bool { return c.name == name }) {
		c := &chain{name: name, origin: r.Origin}
		for _, b := range beginnings {
			c.lines = append(c.lines, finish("-i "+string(b)+"+", r.Origin, "", "-j RETURN"))
		}
		c.lines = append(c.lines, finish("", r.Origin, "", to))
		t.table.chains = append(t.table.chains, c)
	}
	conditions, err := t.alternatives(slices.Delete(slices.Clone(r.Matches), at, at+1))
	if err != nil {
		return nil, err
	}
	w := &writer{rule: r}
	for _, c := range conditions {
		w.write(c, nil, "", "-j "+name)
	}
	return w.lines, w.err
}
