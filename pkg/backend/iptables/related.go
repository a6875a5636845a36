package iptables

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// A flow may have the helper of an entry that translates sources, and leave by
// another way: the helper was assigned before that was known. What such a helper
// expects is not let pass for its sake. It is told by this: expected flows are
// translated as the flow is that they belong to (nf_nat_follow_master), and
// nobody has translated that one. That of SANE translates nothing: what it expects
// comes from the client itself, and is translated as any other flow of it, behind
// forward.

// translates says whether a helper translates what it expects.
func translates(helper string) bool { return helper != "sane" }

// looseHelpers are the kernel's names of the helpers that flows may have which
// they are not for.
func (t *translator) looseHelpers() []string {
	var out []string
	for _, c := range t.rules.Chains {
		if c.Hook == nil || c.Hook.Type != ruleset.TypeNAT || c.Hook.Point != ruleset.Postrouting {
			continue
		}
		for name := range t.reach(c) {
			for _, r := range t.chains[name].Rules {
				for _, s := range r.Do {
					if h := t.helper(s.Object); s.Kind == ruleset.SetHelper && h != nil && translates(h.Helper) && t.possible(r) && (h.Family == ruleset.Inet || h.Family == t.family) {
						out = append(out, h.Helper)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// related translates the rule of forward that lets pass what belongs to flows,
// where helpers may read along that are not for these; nil for all other rules.
func (t *translator) related(r *ruleset.Rule, jumped bool) []line {
	both := binary.BigEndian.AppendUint32(nil, ruleset.CtEstablished|ruleset.CtRelated)
	if t.place != (place{"filter", "FORWARD", plain}) || jumped || r.Action.Kind != ruleset.Accept || len(r.Do) > 0 || r.Counter != "" || len(r.Matches) != 1 ||
		r.Matches[0].Fields[0] != ruleset.CtStateField || r.Matches[0].Op != ruleset.AnyOf || !bytes.Equal(r.Matches[0].Value, both) {
		return nil
	}
	helpers := t.looseHelpers()
	if len(helpers) == 0 {
		return nil
	}
	accept := t.leave(jumped)
	c := &chain{name: chainName("related", plain), origin: r.Origin}
	for _, h := range helpers {
		c.lines = append(c.lines, finish("-m conntrack ! --ctstate SNAT,DNAT -m conntrack --ctstatus EXPECTED -m helper --helper "+quoted(h), r.Origin, "", "-j RETURN"))
	}
	c.lines = append(c.lines, finish("", r.Origin, "", accept))
	t.table.chains = append(t.table.chains, c)
	return []line{
		finish("-m conntrack --ctstate ESTABLISHED", r.Origin, "", accept),
		finish("-m conntrack --ctstate RELATED", r.Origin, "", "-j "+c.name),
	}
}
