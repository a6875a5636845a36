package policy

import "go.yaml.in/yaml/v4"

// mapFile gives the file that a map is read from, or "" for an inline one.
func (d *decoder) mapFile(n *node) string {
	if v := (written{d: d, n: n}).value("file"); v != nil && n.Kind == yaml.MappingNode {
		return deref(v).Value
	}
	return ""
}

// forwardMap decodes `map`, inline or from a file.
func (d *decoder) forwardMap(n *node, f *PortForward) {
	n = deref(n)
	m := &ForwardMap{Place: d.at(n)}
	if (written{d: d, n: n}).has("file") {
		source := -1
		if _, ok := fields(d, n, mapFileFields(), &source); ok && source >= 0 {
			m.Lines = d.mapLines(source)
		}
		f.Map = m
		return
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		d.failAt(n, "the map is empty; put forwards in it as {tcp/8001: 10.0.0.1:80}, or name a file as {file: NAME}")
		return
	}
	if n.Kind == yaml.MappingNode {
		m.Lines = make([]MapLine, 0, len(n.Content)/2)
	}
	ok := d.pairs(n, func(from string, k, v *node) {
		l, problem := parseMapKey(from)
		if problem != "" {
			d.failAt(k, problem)
		}
		d.key, d.takes = from, targetTakes
		t := d.target(v)
		if problem != "" || t.Place == (Place{}) {
			return // both are reported by now
		}
		if problem := l.lead(t); problem != "" {
			d.fail(t.Place, problem)
			return
		}
		at := d.at(k)
		l.File, l.Line, l.Column = uint16(d.source), uint32(at.Line), uint32(at.Column)
		m.Lines = append(m.Lines, l)
	})
	if ok {
		f.Map = m
	}
}

// mapFileFields is the mapping form {file: vms.txt}; what is decoded is the
// index of the source.
func mapFileFields() []field[int] {
	return []field[int]{
		{key: "file", about: "a file with a forward a line, as \"tcp/8001 10.0.0.1:80\"; # begins a comment. Relative to the policy file", value: fileShape, must: true,
			takes: "the name of a file with a line as `tcp/8001 10.0.0.1:80` for each forward", decode: func(d *decoder, n *node, source *int) {
				if index, ok := d.referred(n); ok {
					*source = index
				}
			}},
	}
}
