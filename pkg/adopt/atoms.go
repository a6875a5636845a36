package adopt

import (
	"slices"
	"strings"
)

// atoms are the interfaces that rules tell apart: each name and prefix that
// they use, without what narrower ones take from it, and all others.
type atoms struct {
	patterns []pattern
	foreign  []string // the program that an interface belongs to, or ""
}

// rest is the number of all interfaces that no rule names.
func (a *atoms) rest() int { return len(a.patterns) }

// of gives the number of an interface by its name.
func (a *atoms) of(name string) int {
	best := a.rest()
	for i, p := range a.patterns {
		if p.covers(pattern{name: name}) && (best == a.rest() || a.patterns[best].covers(p)) {
			best = i
		}
	}
	return best
}

func (a *atoms) all() set256 {
	var s set256
	for i := range len(a.patterns) + 1 {
		s.add(i)
	}
	return s
}

// ours are the interfaces that no other program looks after, the loopback
// interface aside.
func (a *atoms) ours() set256 {
	s := a.all()
	for i, p := range a.patterns {
		if a.foreign[i] != "" || p.name == "lo" {
			s = s.minus(setOf(i))
		}
	}
	return s
}

// lo gives the loopback interface alone; nothing where no rule names it.
func (a *atoms) lo() set256 {
	if i := slices.Index(a.patterns, pattern{name: "lo"}); i >= 0 {
		return setOf(i)
	}
	return set256{}
}

func (a *atoms) pass(tests []interfaces) set256 {
	s := a.all()
	for _, t := range tests {
		var named set256
		for _, n := range t.names {
			if n == (pattern{wildcard: true}) {
				named = a.all()
				break
			}
			for i, p := range a.patterns {
				if n.covers(p) {
					named.add(i)
				}
			}
		}
		if t.not {
			s = s.minus(named)
		} else {
			s = s.and(named)
		}
	}
	return s
}

// gather finds the interfaces, and settles each rule's box.
func (m *importer) gather() error {
	for _, c := range m.rules.order {
		for _, r := range c.rules {
			for _, t := range append(slices.Clone(r.in), r.out...) {
				for _, n := range t.names {
					if n != (pattern{wildcard: true}) && !slices.Contains(m.atoms.patterns, n) {
						m.atoms.patterns = append(m.atoms.patterns, n)
						m.atoms.foreign = append(m.atoms.foreign, m.foreignInterface(n.name))
					}
				}
			}
		}
	}
	if len(m.atoms.patterns) > 250 {
		return &Mistake{m.inputs[0].Name, 0, "the rules name more than 250 interfaces; import cannot tell so many apart"}
	}
	for _, c := range m.rules.order {
		for _, r := range c.rules {
			r.b[byIn], r.b[byOut] = m.atoms.pass(r.in), m.atoms.pass(r.out)
		}
	}
	return nil
}

// foreignInterface gives the program that makes an interface, if that program's
// rules are in the input too.
func (m *importer) foreignInterface(name string) string {
	for _, p := range programs() {
		if m.present[p.name] && slices.ContainsFunc(p.interfaces, func(prefix string) bool {
			exact := strings.TrimSuffix(prefix, "*")
			return name == exact || exact != prefix && strings.HasPrefix(name, exact)
		}) {
			return p.name
		}
	}
	return ""
}
