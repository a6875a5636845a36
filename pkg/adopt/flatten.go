package adopt

import (
	"cmp"
	"slices"
	"strings"
)

// Bounds of what rules may become when chains are followed.
const (
	tooManyRules = 20000
	tooDeep      = 32
)

// base gives the chains of a hook in the order in which packets meet them.
func (m *importer) base(nat bool, hook string) []*chain {
	var out []*chain
	for _, c := range m.rules.order {
		if c.base != nil && c.base.nat == nat && c.base.hook == hook && c.foreign == "" {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *chain) int { return cmp.Compare(a.base.priority, b.base.priority) })
	return out
}

// flat gives the rules that packets meet in a base chain, with the chains that
// it leads to put in their place. The chain's policy is not among them.
func (m *importer) flat(c *chain) []*rule {
	f := flattening{importer: m}
	start := everything()
	start.b[byFamily] = c.families
	start.b[byIn], start.b[byOut] = m.atoms.all(), m.atoms.all()
	f.walk(c, []box{start.narrowed()}, nil)
	if f.over {
		m.listed(Error, c.at, nil, "the chain becomes more than %d rules when those it leads to are put in their place; the rest is left out, and nothing behind it is accepted", tooManyRules)
		f.out = append(f.out, &rule{box: start, do: action{kind: doDrop}, at: c.at})
	}
	return f.out
}

type flattening struct {
	*importer
	out  []*rule
	over bool
}

// walk follows a chain for the packets that are within boxes.
func (f *flattening) walk(c *chain, within []box, path []string) {
	if slices.Contains(path, c.key) || len(path) > tooDeep {
		f.listed(Error, c.at, nil, "the chain leads to itself")
		return
	}
	path = append(slices.Clone(path), c.key)
	for i, r := range c.rules {
		var hit []box
		for _, w := range within {
			if h := w.and(r.box); !h.empty() {
				hit = append(hit, h)
			}
		}
		if len(hit) == 0 {
			continue
		}
		switch r.do.kind {
		case doReturn:
			if r.vague() {
				f.vagueReturn(c, i, hit)
				continue
			}
			within = f.without(within, r)
		case doJump, doGoto:
			to := f.rules.chains[r.do.chain]
			if to == nil {
				f.listed(Error, r.at, hit, "the chain that it leads to is not in the file; what it would decide is dropped")
				f.emit(hit, &rule{do: action{kind: doDrop}, at: r.at})
				continue
			}
			f.walk(to, hit, path)
			if r.do.kind == doGoto && !r.vague() {
				within = f.without(within, r)
			}
		default:
			f.emit(hit, r)
			if r.do.terminal() && !r.vague() {
				within = slices.DeleteFunc(slices.Clone(within), func(w box) bool { return !w.vague() && r.covers(w) })
			}
		}
		if len(within) == 0 || f.over {
			return
		}
	}
}

// without takes what a rule decides from what goes on.
func (f *flattening) without(within []box, r *rule) []box {
	left, ok := minusAll(within, r.box)
	if !ok {
		f.listed(Error, r.at, []box{r.box}, "what does not match it is too much to be written down; what follows in its chain is taken to be asked of all")
		return within
	}
	return left
}

// vagueReturn is a return that import cannot follow. What returns by a rate is
// what a drop behind it would have limited.
func (f *flattening) vagueReturn(c *chain, i int, hit []box) {
	r := c.rules[i]
	if !slices.ContainsFunc(c.rules[i+1:], func(x *rule) bool { return x.do.kind != doLog && x.do.kind != doNothing }) {
		return // only logs would follow
	}
	if r.rate != nil && len(r.odd) == 0 {
		rest := slices.DeleteFunc(slices.Clone(c.rules[i+1:]), func(x *rule) bool { return x.do.kind == doLog || x.do.kind == doNothing })
		if len(rest) == 1 && (rest[0].do.kind == doDrop || rest[0].do.kind == doReject) {
			f.listed(Error, r.at, hit, "what comes faster than this was dropped; the policy has no rate above which a rule drops, so that it is not limited (a rule that accepts can have a `rate`)")
			f.limited = append(f.limited, rest[0])
			return
		}
	}
	for j := range hit {
		hit[j].odd, hit[j].rate = nil, nil
	}
	f.listed(Error, r.at, hit, "import does not know %s; what might match it is dropped", oddText(r.box))
	f.emit(hit, &rule{do: action{kind: doDrop}, at: r.at})
}

func (f *flattening) emit(hit []box, r *rule) {
	if slices.Contains(f.limited, r) {
		return
	}
	for _, h := range hit {
		if len(f.out) >= tooManyRules {
			f.over = true
			return
		}
		f.out = append(f.out, &rule{box: h, do: r.do, at: r.at})
	}
}

// oddText says which tests of a box import does not know.
func oddText(x box) string {
	text := strings.Join(x.odd, ", ")
	if x.rate != nil {
		if text != "" {
			text += ", "
		}
		text += "its rate"
	}
	return "`" + text + "`"
}
