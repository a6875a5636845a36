package iptables

import (
	"errors"
	"fmt"
	"hash/fnv"
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
// anything, and where the others go on. Where the rule goes back, what leaves
// that chain meets the rest of the rules in another one.
func (t *translator) nowhere(r *ruleset.Rule, at int, jumped bool) ([]line, error) {
	if r.Counter != "" || len(r.Do) > 0 {
		return nil, errors.New("iptables cannot ask whether a packet came in by an interface, and count or do something then")
	}
	to, err := t.verdict(r.Action, jumped)
	if err != nil {
		return nil, err
	}
	conditions, err := t.alternatives(slices.Delete(slices.Clone(r.Matches), at, at+1))
	if err != nil {
		return nil, err
	}
	what, option, back, rest := r.Action.Chain, "-j ", "-j RETURN", ""
	switch {
	case returning(to):
		h := fnv.New32a()
		fmt.Fprint(h, t.at, r.ID, to)
		what, option = fmt.Sprintf("%08x", h.Sum32()), "-g "
		rest = chainName("rest_"+what, plain)
		back = "-g " + rest
	case what == "":
		what = strings.ToLower(strings.TrimPrefix(to, "-j "))
	}
	name := chainName("nowhere_"+what, t.place.mode)
	w := t.writer(r)
	for _, c := range conditions {
		w.write(c, nil, "", option+name)
	}
	if len(w.lines) == 0 || w.err != nil {
		return nil, w.err
	}
	w.lines[len(w.lines)-1].rest = rest
	if slices.ContainsFunc(t.table.chains, func(c *chain) bool { return c.name == name }) {
		return w.lines, nil
	}
	c := &chain{name: name, origin: r.Origin}
	for _, b := range beginnings {
		c.lines = append(c.lines, finish("-i "+string(b)+"+", r.Origin, "", back))
	}
	c.lines = append(c.lines, finish("", r.Origin, "", to))
	t.table.chains = append(t.table.chains, c)
	return w.lines, nil
}
