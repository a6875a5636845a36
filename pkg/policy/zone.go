package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

func zoneFields() []field[Zone] {
	return []field[Zone]{
		{key: "interfaces", about: "the zone's interfaces; a trailing * stands for every name that begins so. They need not exist yet. Left out: any interface", value: interfacesShape,
			takes: "an interface name, a prefix of names as \"br-*\", or a list of these", decode: func(d *decoder, n *node, z *Zone) {
				z.Interfaces = d.interfaces(n)
			}},
		{key: "networks", about: "addresses of the hosts on that side. Left out: any address", value: addressesShape,
			takes: addressesTake, decode: func(d *decoder, n *node, z *Zone) {
				z.Networks = d.addresses(n, setNames)
			}},
		{key: "default_route", about: "the interfaces that hold the host's default route are in the zone too", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, z *Zone) { z.DefaultRoute, _ = d.boolean(n) }},
		{key: "mss_clamp", about: "what TCP connections to and from the zone may put into a packet: what fits the route (pmtu), or a segment size", value: mssClampShape,
			takes: "pmtu, or a number from 536 to 65495", decode: (*decoder).mssClamp},
		{key: "symmetric", about: "an uplink: answers to what came in here leave here, whatever the default route", value: symmetricShape, preset: false,
			takes: "true, false, or a mapping with `gateway`, `mark` and `table`", decode: (*decoder).symmetric},
		{key: "antispoof", about: "drop what arrives on the zone's interfaces from a source that the host would not send back there. Left out: true if the zone has networks", value: booleanShape,
			takes: "true or false", decode: func(d *decoder, n *node, z *Zone) {
				z.Antispoof, _ = d.boolean(n)
				z.AntispoofAt = d.at(deref(n))
			}},
	}
}

func (d *decoder) zonesSection(n *node, p *Policy) {
	table := zoneFields()
	taken := func(name string) (Place, bool) {
		z, ok := d.zones[name]
		return z.place, ok
	}
	ok := d.named(n, "zone", taken, func(name string, k, v *node) {
		z := Zone{Place: d.at(k), Name: name}
		d.key, d.takes = name, "a mapping with `interfaces`, `networks` or `default_route`"
		w, ok := fields(d, v, table, &z)
		noInterfaces := ok && !w.has("interfaces") && !w.defaultRoute(&z)
		switch {
		case noInterfaces && !w.has("networks"):
			d.fail(z.Place, fmt.Sprintf("the zone %s matches nothing yet; give it `interfaces`, `networks` or `default_route: true`", quote(name)))
		case noInterfaces && z.Symmetric != nil:
			d.fail(z.Symmetric.Place, "`symmetric` is for an uplink, and this zone names none; give it `interfaces`, or `default_route: true`")
		}
		if !w.has("antispoof") {
			z.Antispoof = w.has("networks")
		}
		d.zones[name] = zoneInfo{place: z.Place, noInterfaces: noInterfaces}
		p.Zones = append(p.Zones, z)
	})
	if !ok {
		d.zonesUnknown = true
	}
}

// defaultRoute is true where the zone has the default route's interfaces, or
// where a mistake hides whether it has.
func (w written) defaultRoute(z *Zone) bool {
	v := w.value("default_route")
	if v == nil {
		return w.has("default_route")
	}
	return z.DefaultRoute || !strings.EqualFold(deref(v).Value, "false")
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
	case strings.HasSuffix(text, "+"):
		return fmt.Sprintf("%s: names that begin so are written with a *; write %q", quote(text), strings.TrimSuffix(text, "+")+"*")
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
		if z := l.zoneOfInterface(r.Name); z != "" {
			l.fail(r.Place, fmt.Sprintf("there is no zone %s; it is an interface of zone %s, so write %s", quote(r.Name), z, z))
			continue
		}
		l.fail(r.Place, l.unknownName("zone", r.Name, len(l.zones), maps.Keys(l.zones)))
	}
}

// zoneOfInterface gives the zone that names an interface, or "".
func (l *loader) zoneOfInterface(name string) string {
	if l.suggestions++; l.suggestions > maxSuggestions {
		return ""
	}
	for i := range l.policy.Zones {
		z := &l.policy.Zones[i]
		if slices.ContainsFunc(z.Interfaces, func(i Interface) bool { return i.Matches(name) }) {
			return z.Name
		}
	}
	return ""
}

// NetworksOf are the networks that a zone names, those of sets written out.
func (p *Policy) NetworksOf(z *Zone) []Address {
	var out []Address
	for _, a := range z.Networks {
		if a.Set == "" {
			out = append(out, a)
		} else if set := p.Set(a.Set); set != nil {
			out = append(out, set.Addresses...)
		}
	}
	return out
}
