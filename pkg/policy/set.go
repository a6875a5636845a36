package policy

import (
	"go.yaml.in/yaml/v4"
	"maps"
)

// setFile is the mapping form of a set: {file: blocked.txt}.
type setFile struct{ source int }

func setFileFields() []field[setFile] {
	return []field[setFile]{
		{key: "file", about: "a file with one address, prefix or range a line; # begins a comment. Relative to the policy file", value: fileShape, must: true,
			takes: "the name of a file with one address a line", decode: func(d *decoder, n *node, f *setFile) {
				if index, ok := d.referred(n); ok {
					f.source = index
				}
			}},
	}
}

func (d *decoder) setsSection(n *node, p *Policy) {
	taken := func(name string) (Place, bool) {
		at, ok := d.sets[name]
		return at, ok
	}
	ok := d.named(n, "set", taken, func(name string, k, v *node) {
		s := Set{Place: d.at(k), Name: name}
		d.sets[name] = s.Place
		d.key, d.takes = name, "a list of addresses, or {file: NAME}"
		if v.Kind == yaml.MappingNode {
			s.Addresses = d.setFromFile(v)
		} else {
			s.Addresses = d.setFromList(v)
		}
		p.Sets = append(p.Sets, s)
	})
	if !ok {
		d.setsUnknown = true
	}
}

// Set finds a set by its name, or gives nil.
func (p *Policy) Set(name string) *Set {
	for i := range p.Sets {
		if p.Sets[i].Name == name {
			return &p.Sets[i]
		}
	}
	return nil
}

func (d *decoder) setFromList(n *node) []Address {
	// An empty set is allowed where an empty list elsewhere is not: it is
	// what a list of offenders looks like on a good day.
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return nil
	}
	var r ranges
	d.each(n, func(n *node) {
		if a, ok := d.address(n, 0); ok {
			r.add(a.Low, a.High, a.Line, a.Column)
		}
	})
	return r.merged(d.file)
}

func (d *decoder) setFromFile(n *node) []Address {
	f := setFile{source: -1}
	table := setFileFields()
	w, ok := fields(d, n, table, &f)
	if !ok {
		return nil
	}
	requireAll(w, "a set that is no list", table)
	if f.source < 0 {
		return nil
	}
	return d.setLines(d.policy.Sources[f.source])
}

// checkSetRefs reports the references to sets that are not there.
func (l *loader) checkSetRefs(lists ...[]Address) {
	for _, list := range lists {
		for _, a := range list {
			if a.Set == "" || l.setsUnknown {
				continue
			}
			if _, ok := l.sets[a.Set]; !ok {
				l.fail(a.Place, l.unknownName("set", a.Set, len(l.sets), maps.Keys(l.sets)))
			}
		}
	}
}
