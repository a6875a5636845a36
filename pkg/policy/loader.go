package policy

import (
	"math"
	"path/filepath"
	"slices"
)

// loader gathers one policy out of several files, and every mistake in them.
type loader struct {
	policy *Policy
	errs   Errors
	open   opener

	lineFiles map[string]int // path of a set or map file: its index in Sources

	zones map[string]zoneInfo
	sets  map[string]Place

	// Where the names of the entries stand, in step with the policy's lists.
	masquerades, snats, oneToOnes, portForwards, redirects []label
	rules, inputRules                                      []label

	// Where the values stand that several files may not write differently,
	// by their keys (forward.default).
	settings map[string]Place

	bareNames []bareName

	// What could not be read is not reported as missing.
	zonesUnknown, setsUnknown bool

	suggestions int // names searched for so far, see maxSuggestions
}

// zoneInfo is what must be known of a zone after it was decoded.
type zoneInfo struct {
	place Place
	// noInterfaces: the zone has no interfaces, and not for a mistake.
	noInterfaces bool
}

func newLoader(open opener) *loader {
	return &loader{
		policy:    &Policy{},
		open:      open,
		lineFiles: map[string]int{},
		zones:     map[string]zoneInfo{},
		sets:      map[string]Place{},
		settings:  map[string]Place{},
	}
}

// source adds a file to the sources and gives its index.
func (l *loader) source(name string, text []byte) int {
	l.policy.Sources = append(l.policy.Sources, Source{Name: name, Text: text})
	return len(l.policy.Sources) - 1
}

// fail notes a mistake.
func (l *loader) fail(at Place, message string, notes ...Note) {
	l.errs = append(l.errs, &Error{Place: at, Message: message, Notes: notes})
}

// file decodes one policy file into the policy.
func (l *loader) file(name string, text []byte) {
	text = withoutBOM(text)
	d := &decoder{loader: l, file: name}
	d.lines.text = text
	d.source = l.source(name, text)
	if name != StdinName {
		d.dir = filepath.Dir(name)
	}
	d.policyFile()
}

// referred reads a file that the value n names, or gives the index of the
// source where it was read before. It reports what goes wrong at n.
func (d *decoder) referred(n *node) (index int, ok bool) {
	name, ok := d.text(n)
	if !ok {
		return 0, false
	}
	if name == "" {
		d.failAt(n, "`file` is empty; name a file, relative to this one")
		return 0, false
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.dir, path)
	}
	if index, ok := d.lineFiles[path]; ok {
		return index, true
	}
	if len(d.policy.Sources) > math.MaxUint16 {
		d.failAt(n, "more than 65535 files make up this policy; join some of them")
		return 0, false
	}
	text, err := d.open(path)
	if err != nil {
		d.policy.Missing = append(d.policy.Missing, path)
		message := "cannot read " + quote(path) + ": " + err.Error()
		if !filepath.IsAbs(name) {
			message += "; the path is relative to the policy file"
		}
		d.failAt(n, message)
		return 0, false
	}
	index = d.loader.source(path, withoutBOM(text))
	d.lineFiles[path] = index
	return index, true
}

// finish checks what needs all files, and hands the policy out.
func (l *loader) finish() (*Policy, error) {
	l.checkReferences()
	l.explainBareNames()
	l.checkFamilies()
	l.checkNames()
	if len(l.errs) == 0 {
		return l.policy, nil
	}
	l.sortErrors()
	return l.policy, l.errs
}

// sortErrors puts the mistakes in the order of the sources, brings every place
// inside its file and takes out what an alias made appear twice.
func (l *loader) sortErrors() {
	order := make(map[string]int, len(l.policy.Sources))
	texts := make(map[string]*lines, len(l.policy.Sources))
	for i, s := range l.policy.Sources {
		order[s.Name] = i
		texts[s.Name] = &lines{text: s.Text}
	}
	for _, e := range l.errs {
		texts[e.File].clamp(&e.Place)
		for i := range e.Notes {
			texts[e.Notes[i].File].clamp(&e.Notes[i].Place)
		}
	}
	slices.SortStableFunc(l.errs, func(a, b *Error) int { return order[a.File] - order[b.File] })
	l.errs.Sort()
	l.errs = slices.CompactFunc(l.errs, func(a, b *Error) bool {
		return a.Place == b.Place && a.Message == b.Message
	})
}
