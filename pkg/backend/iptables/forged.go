package iptables

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// A source that the way back leads to by an uplink, of a flow that does not
// leave by one, is forged, and its answers would leak. Which way leads back is
// not known before the answer goes it. So the flow gets a label, and what would
// answer it out of the uplink is dropped there.

// forgedLabel is the bit of conntrack's labels that such flows have. Those that
// have names (connlabel.conf) begin at 0.
const forgedLabel = 119

// forgery is a rule about forged sources: the uplink that the way back leads
// to, and those that the way on may lead to.
type forgery struct {
	back string
	on   []string
}

// forgeryOf recognizes such a rule.
func forgeryOf(r *ruleset.Rule) (f forgery, ok bool, err error) {
	if r.Action.Kind != ruleset.Drop || !about(r, ruleset.FibSaddrOIfName) || !about(r, ruleset.FibDaddrOIfName) {
		return f, false, nil
	}
	for _, m := range r.Matches {
		p, err := "", errWays
		if asksWay(m.Fields[0]) {
			p, err = patternOf(m)
		}
		if err != nil {
			return f, true, err
		}
		switch {
		case m.Fields[0] == ruleset.FibSaddrOIfName && m.Op == ruleset.Equal && f.back == "":
			f.back = p
		case m.Fields[0] == ruleset.FibDaddrOIfName && m.Op == ruleset.NotEqual:
			f.on = append(f.on, p)
		default:
			return f, true, errWays
		}
	}
	if len(r.Do) > 0 {
		err = errSteps
	}
	return f, true, err
}

// forged translates a rule about forged sources.
func (t *translator) forged(r *ruleset.Rule, f forgery) ([]line, error) {
	switch {
	case t.place.table == "nat":
		return nil, nil // it drops in the copy
	case t.place.mode != dropping:
		return nil, errors.New("iptables can drop what is forged where a flow is translated alone")
	}
	t.answers(r, f)
	mark := finish(fmt.Sprintf(`-m connlabel --label "%d" --set`, forgedLabel), ruleset.Origin{Entry: r.Origin.Entry, Place: r.Origin.Place}, "", "")
	for _, c := range t.table.chains {
		if c.name == t.at && slices.ContainsFunc(c.lines, func(l line) bool { return l.text == mark.text }) {
			return nil, nil // its flows have it
		}
	}
	return []line{mark}, nil
}

// answers has the answers of labelled flows dropped where they would leave.
func (t *translator) answers(r *ruleset.Rule, f forgery) {
	h := fnv.New32a()
	fmt.Fprint(h, f, r.Counter)
	key := reached{t.family, "mangle", early, fmt.Sprintf("forged %x", h.Sum32())}
	if t.done[key] {
		return
	}
	t.done[key] = true
	name := chainName("forged", plain)
	var out *chain
	for _, c := range t.table.chains {
		if c.name == name {
			out = c
		}
	}
	if out == nil {
		out = &chain{name: name, origin: ruleset.Origin{Entry: "ipmasq"}}
		t.table.chains = append(t.table.chains, out)
		h := t.hook("POSTROUTING")
		h.chains = slices.Insert(h.chains, 0, name)
	}
	c := condition{{slot: output, text: f.back}}
	for _, p := range f.on {
		c = append(c, atom{slot: input, not: true, text: p})
	}
	c = append(c, atom{slot: match, text: "-m conntrack %s--ctdir REPLY"}, atom{slot: match, text: fmt.Sprintf(`-m connlabel %%s--label "%d"`, forgedLabel)})
	w := &writer{rule: r, chain: name, table: t.table}
	w.write(alternative{condition: c}, nil, r.Counter, "-j DROP")
	out.lines = append(out.lines, w.lines...)
}
