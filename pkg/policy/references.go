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
	for _, m := range l.policy.Masquerade {
		l.checkZoneRefs(m.From)
		l.checkZoneRefs(m.To)
		l.checkMasqueradeTo(m.To)
		for _, list := range [][]Address{m.Sources, m.ExceptSources, m.Destinations, m.ExceptDestinations} {
			l.checkSetRefs(list)
		}
	}
	for i := range l.policy.PortForward {
		f := &l.policy.PortForward[i]
		l.checkZoneRefs(f.From)
		l.checkZoneRefs(f.Hairpin.Zones)
		for _, list := range [][]Address{f.Address, f.Sources, f.ExceptSources} {
			l.checkSetRefs(list)
		}
	}
	for _, r := range l.policy.Forward.Rules {
		l.checkZoneRefs(r.From)
		l.checkZoneRefs(r.To)
		for _, list := range [][]Address{r.Sources, r.ExceptSources, r.Destinations, r.ExceptDestinations} {
			l.checkSetRefs(list)
		}
	}
}

// checkMasqueradeTo holds a masquerade to zones that name interfaces: it takes
// the address of the interface that a packet leaves by, and without one it
// would translate what passes between inside zones as well.
func (l *loader) checkMasqueradeTo(refs []ZoneRef) {
	for _, r := range refs {
		if r.Any {
			l.fail(r.Place, "a masquerade cannot go `to` any; name the zones of the uplinks")
			continue
		}
		if z, ok := l.zones[r.Name]; ok && z.noInterfaces {
			l.fail(r.Place, fmt.Sprintf("a masquerade to %s needs the interfaces of that zone; give it `interfaces`", quote(r.Name)),
				Note{z.place, "the zone is declared here"})
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
