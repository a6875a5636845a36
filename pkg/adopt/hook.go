package adopt

import "slices"

// hookRules gives what decides of packets at a filter hook, for both families,
// with the policies of the chains as last rules.
func (m *importer) hookRules(hook string) []*rule {
	lists := [2][]*rule{m.familyRules(hook, 4), m.familyRules(hook, 6)}
	return interleave(lists[0], lists[1])
}

// familyRules puts the chains of a hook one behind another. What one accepts
// the next is asked about, so that of all but the last only what they drop
// counts.
func (m *importer) familyRules(hook string, family int) []*rule {
	of := everything()
	of.b[byFamily] = setOf(family)
	of.b[byIn], of.b[byOut] = m.atoms.all(), m.atoms.all()
	of = of.narrowed()
	var out []*rule
	var chains []*chain
	for _, c := range m.base(false, hook) {
		if c.families.has(family) {
			chains = append(chains, c)
		}
	}
	for i, c := range chains {
		policy := action{kind: doAccept}
		if c.base.drop {
			policy.kind = doDrop
		}
		list := append(m.flatOnce(c), &rule{box: of, do: policy, at: c.at})
		if i < len(chains)-1 {
			list = m.dropsAlone(c, list)
		}
		for _, r := range list {
			r := *r
			if r.box = r.and(of); !r.empty() {
				out = append(out, &r)
			}
		}
	}
	if len(chains) == 0 {
		out = append(out, &rule{box: of, do: action{kind: doAccept}})
	}
	return out
}

// flatOnce keeps what a chain came to, so that findings about it are listed
// once for both families.
func (m *importer) flatOnce(c *chain) []*rule {
	if m.flattened == nil {
		m.flattened = map[string][]*rule{}
	}
	list, ok := m.flattened[c.key]
	if !ok {
		list = m.flat(c)
		m.flattened[c.key] = list
	}
	return slices.Clone(list)
}

// dropsAlone gives what a chain drops, past what it accepts before.
func (m *importer) dropsAlone(c *chain, list []*rule) []*rule {
	var out []*rule
	var accepted []box
	for _, r := range list {
		switch r.do.kind {
		case doAccept:
			if !r.vague() {
				accepted = append(accepted, r.box)
			}
		case doDrop, doReject:
			left := []box{r.box}
			for _, a := range accepted {
				less, ok := minusAll(left, a)
				if !ok {
					m.listed(Error, r.at, left, "it stands in a chain before another one, behind rules that accept; what it drops is dropped without looking at them")
					break
				}
				left = less
			}
			for _, x := range left {
				out = append(out, &rule{box: x, do: r.do, at: r.at})
			}
		case doLog, doOdd:
			out = append(out, r)
		}
	}
	return out
}

// interleave joins the rules of the two families: those that say the same in
// both become one. The order within each stays.
func interleave(four, six []*rule) []*rule {
	const ahead = 256
	var out []*rule
	j := 0
	for _, r := range four {
		found := -1
		var both box
		for k := j; k < len(six) && k < j+ahead; k++ {
			if x, ok := sameRule(r, six[k]); ok {
				found, both = k, x
				break
			}
		}
		if found < 0 {
			out = append(out, r)
			continue
		}
		out = append(out, six[j:found]...)
		merged := *r
		merged.box = both
		if six[found].at != r.at {
			merged.also = append(slices.Clone(r.also), six[found].at)
		}
		out = append(out, &merged)
		j = found + 1
	}
	return append(out, six[j:]...)
}

// sameRule gives one box for a rule of each family, if they say the same.
func sameRule(a, b *rule) (box, bool) {
	if a.do.kind != b.do.kind || a.do.log != b.do.log || a.do.mark != b.do.mark || a.do.mss != b.do.mss || len(a.do.to) > 0 || a.do.text != b.do.text {
		return box{}, false
	}
	x, y := a.box, b.box
	// ICMP and ICMPv6 are one where the types go by the same name.
	if x.b[byProtocol] == setOf(1) && y.b[byProtocol] == setOf(58) {
		if x.b[byICMP] != every() || y.b[byICMP] != every() {
			names, ok := icmpNames(x.b[byICMP], 4)
			names6, ok2 := icmpNames(y.b[byICMP], 6)
			if !ok || !ok2 || !slices.Equal(names, names6) || x.b[byICMP].and(y.b[byICMP]) != (set256{}) {
				return box{}, false
			}
		}
		z := x
		z.b[byProtocol], z.b[byICMP] = setOf(1, 58), x.b[byICMP].or(y.b[byICMP])
		x, y = z, z
		x.b[byFamily], y.b[byFamily] = setOf(4), setOf(6)
		y.src, y.dst = b.src, b.dst
	}
	return x.joined(y)
}
