package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

func zoneFields() []field[Zone] {
	return append([]field[Zone]{
		{key: "interfaces", takes: "an interface name, a prefix of names as \"br-*\", or a list of these", decode: func(d *decoder, n *node, z *Zone) {
			z.Interfaces = d.interfaces(n)
		}},
		{key: "networks", takes: addressesTake, decode: func(d *decoder, n *node, z *Zone) {
			z.Networks = d.addresses(n, setNames)
		}},
	}, later[Zone]("default_route", "mss_clamp", "symmetric", "antispoof")...)
}

func (d *decoder) zonesSection(n *node, p *Policy) {
	table := zoneFields()
	taken := func(name string) (Place, bool) {
		z, ok := d.zones[name]
		return z.place, ok
	}
	ok := d.named(n, "zone", taken, func(name string, k, v *node) {
		z := Zone{Place: d.at(k), Name: name}
		d.key, d.takes = name, "a mapping with `interfaces`, `networks` or both"
		w, ok := fields(d, v, table, &z)
		if ok && !w.has("interfaces") && !w.has("networks") && !w.has("default_route") {
			d.fail(z.Place, fmt.Sprintf("the zone %s matches nothing yet; give it `interfaces`, `networks` or both", quote(name)))
		}
		d.zones[name] = zoneInfo{
			place:        z.Place,
			noInterfaces: ok && !w.has("interfaces") && !w.has("default_route"),
		}
		p.Zones = append(p.Zones, z)
	})
	if !ok {
		d.zonesUnknown = true
	}
}

// Zone finds a zone by its name, or gives nil.
func (p *Policy) Zone(name string) *Zone {
	for i := range p.Zones {
		if p.Zones[i].Name == name {
			return &p.Zones[i]
		}
	}
	return nil
}

// String gives the interface as a policy writes it.
func (i Interface) String() string {
	if i.Wildcard {
		return i.Name + "*"
	}
	return i.Name
}

// Matches is true where the interface of that name is meant.
func (i Interface) Matches(name string) bool {
	if i.Wildcard {
		return strings.HasPrefix(name, i.Name)
	}
	return name == i.Name
}

func (d *decoder) interfaces(n *node) []Interface {
	var list []Interface
	var names firsts[string]
	d.each(n, func(n *node) {
		text, ok := d.text(n)
		if !ok {
			return
		}
		i := Interface{Place: d.at(n)}
		i.Name, i.Wildcard = strings.CutSuffix(text, "*")
		if problem := interfaceProblem(text, i); problem != "" {
			d.fail(i.Place, problem)
			return
		}
		if j := names.add(text); j >= 0 {
			d.fail(i.Place, fmt.Sprintf("the interface %s is named twice; take one out", quote(text)),
				Note{list[j].Place, "first named here"})
			return
		}
		list = append(list, i)
	})
	return list
}

// interfaceProblem holds a name to what the kernel allows (dev_valid_name):
// at most 15 bytes, no slash, no colon, no white space, not "." or "..".
func interfaceProblem(text string, i Interface) string {
	switch {
	case text == "*":
		return "a bare * is every interface; leave `interfaces` out to match them all"
	case text == "":
		return "the name of an interface is empty"
	case len(i.Name) > 15:
		return fmt.Sprintf("%s is too long for an interface; the kernel allows 15 bytes", quote(text))
	case strings.Contains(i.Name, "*"):
		return fmt.Sprintf("%s has a * before its end; only a trailing * stands for more", quote(text))
	case strings.ContainsFunc(text, notInInterface), i.Name == ".", i.Name == "..":
		return fmt.Sprintf("%s is no interface name; one has no slash, colon or white space", quote(text))
	}
	return ""
}

func notInInterface(r rune) bool {
	return r == '/' || r == ':' || r == 0x7f || unicode.IsSpace(r) || unicode.IsControl(r)
}

const zonesTake = "a zone, a list of zones or `any`"

// zoneRefs decodes a list of zone names. That the zones exist is checked when
// all files are read.
func (d *decoder) zoneRefs(n *node) []ZoneRef {
	var list []ZoneRef
	var names firsts[string]
	d.each(n, func(n *node) {
		text, ok := d.text(n)
		if !ok {
			return
		}
		r := ZoneRef{Place: d.at(n), Name: text, Any: text == "any"}
		if i := names.add(text); i >= 0 {
			d.fail(r.Place, fmt.Sprintf("%s is named twice in `%s`; take one out", quote(text), d.key),
				Note{list[i].Place, "first named here"})
			return
		}
		list = append(list, r)
	})
	if i := slices.IndexFunc(list, func(r ZoneRef) bool { return r.Any }); i >= 0 && len(list) > 1 {
		d.fail(list[i].Place, fmt.Sprintf("`any` stands alone in `%s`; take it out, or take the zones out", d.key),
			Note{list[(i+1)%len(list)].Place, "named beside it"})
	}
	return list
}

// checkZoneRefs reports the names that no zone has.
func (l *loader) checkZoneRefs(refs []ZoneRef) {
	for _, r := range refs {
		if _, ok := l.zones[r.Name]; ok || r.Any || l.zonesUnknown {
			continue
		}
		l.fail(r.Place, l.unknownName("zone", r.Name, len(l.zones), maps.Keys(l.zones)))
	}
}
