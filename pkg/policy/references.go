package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// checkReferences finds what entries name and no file declares.
func (l *loader) checkReferences() {
	for _, z := range l.policy.Zones {
		l.checkSetRefs(z.Networks)
	}
	for i := range l.policy.Masquerade {
		l.checkTranslation("a masquerade", &l.policy.Masquerade[i])
	}
	for i := range l.policy.SNAT {
		l.checkTranslation("snat", &l.policy.SNAT[i].Masquerade)
	}
	for i := range l.policy.OneToOne {
		if z := l.policy.OneToOne[i].Zone; z.Name != "" {
			l.checkZoneRefs([]ZoneRef{z})
		}
	}
	for i := range l.policy.PortForward {
		f := &l.policy.PortForward[i]
		l.checkZoneRefs(f.From)
		l.checkZoneRefs(f.Hairpin.Zones)
		l.checkSetRefs(f.Address, f.Sources, f.ExceptSources)
	}
	for i := range l.policy.Redirect {
		r := &l.policy.Redirect[i]
		l.checkZoneRefs(r.From)
		l.checkSetRefs(r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations)
	}
	l.checkRules(l.policy.Forward.Rules)
	if l.policy.Input != nil {
		l.checkRules(l.policy.Input.Rules)
	}
	if o := l.policy.Gateway.Offload; o != nil {
		l.checkZoneRefs(o.Zones)
		l.needInterfaces("an offload of", o.Zones)
	}
}

func (l *loader) checkRules(rules []Rule) {
	for i := range rules {
		r := &rules[i]
		l.checkZoneRefs(r.From)
		l.checkZoneRefs(r.To)
		l.checkSetRefs(r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations)
	}
}

// checkTranslation holds a masquerade or snat to zones that name interfaces:
// without one it would translate what passes between inside zones as well.
func (l *loader) checkTranslation(what string, m *Masquerade) {
	l.checkZoneRefs(m.From)
	l.checkZoneRefs(m.To)
	for _, r := range m.To {
		if r.Any {
			l.fail(r.Place, fmt.Sprintf("%s cannot go `to` any; name the zones of the uplinks", what))
		}
	}
	l.needInterfaces(what+" to", m.To)
	l.checkSetRefs(m.Sources, m.ExceptSources, m.Destinations, m.ExceptDestinations)
}

// needInterfaces reports the zones that name no interface.
func (l *loader) needInterfaces(what string, refs []ZoneRef) {
	for _, r := range refs {
		if z, ok := l.zones[r.Name]; ok && z.noInterfaces {
			l.fail(r.Place, fmt.Sprintf("%s %s needs the interfaces of that zone; give it `interfaces`, or `default_route: true`", what, quote(r.Name)),
				Note{z.place, "the zone is declared here"})
		}
	}
}

// bareName is a mistake that may be a set or a zone where an address is
// expected, which shows when all files are read.
type bareName struct {
	err  *Error
	name string
}

// explainBareNames words the mistakes of those that are declared.
func (l *loader) explainBareNames() {
	for _, b := range l.bareNames {
		if _, ok := l.sets[b.name]; ok {
			b.err.Message = fmt.Sprintf("%s is not an address; for the set of that name write %q, in quotes", quote(b.name), "@"+b.name)
		} else if _, ok := l.zones[b.name]; ok {
			b.err.Message = fmt.Sprintf("%s is a zone, not an address; zones are named in `from` and `to`", quote(b.name))
		}
	}
}

// maxSuggestions bounds the search for the name that was meant: a policy that
// was generated wrongly may have a hundred thousand references to nothing.
const maxSuggestions = 200

// unknownName words a reference to a zone or a set that is not there.
func (l *loader) unknownName(what, name string, count int, all iter.Seq[string]) string {
	message := fmt.Sprintf("there is no %s %s", what, quote(name))
	l.suggestions++
	if count == 0 || l.suggestions > maxSuggestions {
		return fmt.Sprintf("%s; declare it under `%ss`", message, what)
	}
	known := slices.Sorted(all)
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near)
	}
	const most = 12
	if count > most {
		return fmt.Sprintf("%s; declare it under `%ss`, beside %s and %d more", message, what, strings.Join(known[:most], ", "), count-most)
	}
	return fmt.Sprintf("%s; declare it under `%ss`, beside %s", message, what, strings.Join(known, ", "))
}
