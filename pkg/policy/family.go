package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

const familyTakes = "ipv4 or ipv6"

// String gives ipv4, ipv6 or any.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return "any"
}

func familyWords() []string { return []string{"ipv4", "ipv6"} }

func (d *decoder) family(n *node) Family {
	return word(d, n, familyWords(), []Family{IPv4, IPv6})
}

// families is a set of families.
type families uint8

const (
	only4 families = 1 << iota
	only6
	both = only4 | only6
)

func (f families) String() string {
	switch f {
	case only4:
		return "IPv4"
	case only6:
		return "IPv6"
	}
	return "both families"
}

// side is one condition of an entry, with the families that it allows.
type side struct {
	what string
	families
	place Place
}

// checkFamilies finds the entries that can match nothing, because two of their
// conditions have no family in common. What zones' networks have to do with it
// is left to package compile.
func (l *loader) checkFamilies() {
	sets := l.setFamilies()
	for i := range l.policy.Masquerade {
		m := &l.policy.Masquerade[i]
		l.meet(familySide(m.Family, l.masquerades[i].family),
			addressSide("sources", m.Sources, sets),
			addressSide("destinations", m.Destinations, sets),
			protocolSide(m.Protocols))
	}
	for i := range l.policy.SNAT {
		s := &l.policy.SNAT[i]
		l.meet(familySide(s.Family, l.snats[i].family),
			addressSide("sources", s.Sources, sets),
			addressSide("destinations", s.Destinations, sets),
			protocolSide(s.Protocols),
			addressSide("addresses", s.Addresses, sets))
	}
	for i := range l.policy.OneToOne {
		o := &l.policy.OneToOne[i]
		l.meet(familySide(o.Family, l.oneToOnes[i].family),
			prefixSide("outside", o.Outside, o.OutsideAt))
	}
	for i := range l.policy.PortForward {
		f := &l.policy.PortForward[i]
		allowed := l.meet(familySide(f.Family, l.portForwards[i].family),
			addressSide("address", f.Address, sets),
			addressSide("sources", f.Sources, sets),
			targetSide(f))
		if f.Map != nil && allowed != both && allowed != 0 {
			l.checkMapFamilies(f.Map, allowed)
		}
	}
	for i := range l.policy.Redirect {
		r := &l.policy.Redirect[i]
		l.meet(familySide(r.Family, l.redirects[i].family),
			addressSide("sources", r.Sources, sets),
			addressSide("destinations", r.Destinations, sets),
			protocolSide(r.Protocols))
	}
	l.ruleFamilies(l.policy.Forward.Rules, l.rules, sets)
	if l.policy.Input != nil {
		l.ruleFamilies(l.policy.Input.Rules, l.inputRules, sets)
	}
}

func (l *loader) ruleFamilies(rules []Rule, labels []label, sets map[string]families) {
	for i := range rules {
		r := &rules[i]
		l.meet(familySide(r.Family, labels[i].family),
			addressSide("sources", r.Sources, sets),
			addressSide("destinations", r.Destinations, sets),
			protocolSide(r.Protocols),
			icmpSide(r.ICMPTypes))
	}
}

// meet gives the families that all sides allow, and reports the first side
// that contradicts an earlier one.
func (l *loader) meet(sides ...side) families {
	allowed := both
	for i, s := range sides {
		if allowed &= s.families; allowed != 0 {
			continue
		}
		j := slices.IndexFunc(sides[:i], func(o side) bool { return o.families&s.families == 0 })
		if j < 0 {
			return 0
		}
		l.fail(s.place, fmt.Sprintf("this entry can match nothing: %s is %s and %s is %s; let them agree, or make two entries",
			s.what, s.families, sides[j].what, sides[j].families), Note{sides[j].place, sides[j].what + " stands here"})
		return 0
	}
	return allowed
}

func familySide(f Family, at Place) side {
	s := side{"`family`", both, at}
	switch f {
	case IPv4:
		s.families = only4
	case IPv6:
		s.families = only6
	}
	return s
}

func addressSide(key string, list []Address, sets map[string]families) side {
	s := side{what: "`" + key + "`", families: both}
	if len(list) == 0 {
		return s
	}
	s.families, s.place = 0, list[0].Place
	for _, a := range list {
		switch {
		case a.Gateway:
			s.families = both
		case a.Set != "":
			f, ok := sets[a.Set]
			if !ok {
				f = both
			}
			s.families |= f
		default:
			s.families |= familyOf(a)
		}
	}
	return s
}

func familyOf(a Address) families {
	if a.Low.Is4() {
		return only4
	}
	return only6
}

func protocolSide(list []Protocol) side {
	s := side{what: "`protocol`", families: both}
	if len(list) == 0 {
		return s
	}
	s.families, s.place = 0, list[0].Place
	for _, p := range list {
		switch p.Number {
		case ProtocolICMP:
			s.families |= only4
		case ProtocolICMPv6:
			s.families |= only6
		default:
			s.families = both
		}
	}
	return s
}

func icmpSide(list []ICMPType) side {
	s := side{what: "`icmp_types`", families: both}
	if len(list) == 0 {
		return s
	}
	s.families, s.place = 0, list[0].Place
	for _, t := range list {
		if t.V4 >= 0 {
			s.families |= only4
		}
		if t.V6 >= 0 {
			s.families |= only6
		}
	}
	return s
}

func targetSide(f *PortForward) side {
	s := side{"`to`", both, f.To.Place}
	if f.To.Addr.IsValid() {
		s.families = familyOf(Address{Low: f.To.Addr})
	}
	for _, t := range f.Targets {
		s.families |= familyOf(Address{Low: t.Addr})
	}
	return s
}

func prefixSide(key string, p netip.Prefix, at Place) side {
	s := side{"`" + key + "`", both, at}
	if p.IsValid() {
		s.families = familyOf(Address{Low: p.Addr()})
	}
	return s
}

// setFamilies gives the families of every set that has addresses. One that has
// none says nothing about families: it may be filled tomorrow.
func (l *loader) setFamilies() map[string]families {
	sets := make(map[string]families, len(l.policy.Sets))
	for _, s := range l.policy.Sets {
		if n := len(s.Addresses); n > 0 {
			// They are in order, IPv4 first.
			sets[s.Name] = familyOf(s.Addresses[0]) | familyOf(s.Addresses[n-1])
		}
	}
	return sets
}

func (l *loader) checkMapFamilies(m *ForwardMap, allowed families) {
	for _, line := range m.Lines {
		if f := familyOf(Address{Low: line.Addr}); f&allowed == 0 {
			l.fail(l.policy.PlaceOf(line), fmt.Sprintf("this forward can match nothing: its target is %s and the entry is %s", f, allowed),
				Note{m.Place, "the map of the entry"})
		}
	}
}
