package policy

import (
	"fmt"
	"strings"
)

const maxName = 63

// nameProblem says what is wrong with the name of an entry, a zone or a set,
// or gives "".
func nameProblem(name string) string {
	switch {
	case name == "":
		return "a name is missing"
	case name == "any" || name == "gateway":
		return fmt.Sprintf("%q is a word of the language; choose another name", name)
	case len(name) > maxName:
		return fmt.Sprintf("the name %s has %d characters; at most %d are allowed", quote(name), len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 {
			continue
		}
		message := fmt.Sprintf("the name %s may hold a-z, 0-9 and hyphens only, and begins with a letter or a digit", quote(name))
		if fit := fitName(name); fit != "" {
			message += fmt.Sprintf("; write %q", fit)
		}
		return message
	}
	return ""
}

// fitName makes a name of any text: lower case, and hyphens for what a name
// cannot hold. It gives "" where nothing is left.
func fitName(text string) string {
	fit := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, text)
	fit = strings.Trim(fit, "-")
	if fit == "any" || fit == "gateway" || len(fit) > maxName {
		return ""
	}
	return fit
}

// name decodes the name of an entry.
func (d *decoder) name(n *node) string {
	name, ok := d.text(n)
	if !ok {
		return ""
	}
	if problem := nameProblem(name); problem != "" {
		d.failAt(n, problem)
		return ""
	}
	return name
}

// label is where the name of an entry comes from, and what else is known of the
// entry only until the whole policy is checked.
type label struct {
	place   Place
	derived bool
	family  Place // where the value of `family` stands
}

// label settles the name of an entry: the written one, else one derived from
// its content, which is "" where the content has mistakes.
func (w written) label(entry Place, name *string, derived string) label {
	if w.has("name") {
		l := label{place: w.place("name"), family: w.place("family")}
		if entry != w.d.at(w.n) {
			l.place = entry // an alias gives the name a second time
		}
		return l
	}
	l := label{place: entry, derived: true, family: w.place("family")}
	switch problem := nameProblem(derived); {
	case problem == "":
	case len(derived) > maxName:
		w.d.fail(l.place, fmt.Sprintf("the name derived for this entry would have %d characters, and at most %d are allowed; give it a `name`", len(derived), maxName))
		derived = ""
	case derived == "any" || derived == "gateway":
		w.d.fail(l.place, fmt.Sprintf("the name derived for this entry would be %q, a word of the language; give it a `name`", derived))
		derived = ""
	default:
		// It holds the name of a zone that was reported where it is declared.
		derived = ""
	}
	*name = derived
	return l
}

func joinZones(refs []ZoneRef) string {
	if len(refs) == 0 {
		return "any"
	}
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.Name
	}
	return strings.Join(names, "-")
}

// checkNames finds the names that two entries of a section share.
func (l *loader) checkNames() {
	p := l.policy
	l.unique("masquerade", l.masquerades, func(i int) string { return p.Masquerade[i].Name })
	l.unique("snat", l.snats, func(i int) string { return p.SNAT[i].Name })
	l.unique("one_to_one", l.oneToOnes, func(i int) string { return p.OneToOne[i].Name })
	l.unique("port_forward", l.portForwards, func(i int) string { return p.PortForward[i].Name })
	l.unique("redirect", l.redirects, func(i int) string { return p.Redirect[i].Name })
	l.unique("forward.rules", l.rules, func(i int) string { return p.Forward.Rules[i].Name })
	if p.Input != nil {
		l.unique("input.rules", l.inputRules, func(i int) string { return p.Input.Rules[i].Name })
	}
}

func (l *loader) unique(section string, labels []label, name func(int) string) {
	first := make(map[string]int, len(labels))
	for i, this := range labels {
		name := name(i)
		if name == "" {
			continue
		}
		j, taken := first[name]
		if !taken {
			first[name] = i
			continue
		}
		other := labels[j]
		switch {
		case this.derived:
			l.fail(this.place, fmt.Sprintf("%q would be the name of this entry of %s, and another has it; give this one a `name`", name, section),
				Note{other.place, "the other entry"})
		case other.derived:
			l.fail(other.place, fmt.Sprintf("%q would be the name of this entry of %s, and another has it; give this one a `name`", name, section),
				Note{this.place, "the other entry"})
		default:
			l.fail(this.place, fmt.Sprintf("the name %q is taken in %s; choose another", name, section),
				Note{other.place, "first used here"})
		}
	}
}
