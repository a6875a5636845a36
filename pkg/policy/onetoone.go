package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const prefixTakes = "an address or a prefix"

// A one_to_one entry always has a `name`: nothing in it makes one that is both
// short and the same after a renumbering.
func oneToOneFields() []field[OneToOne] {
	return []field[OneToOne]{
		{key: "name", about: "what counters and messages call the entry", value: nameShape, must: true,
			takes: "a name", decode: func(d *decoder, n *node, o *OneToOne) { o.Name = d.name(n) }},
		{key: "family", about: "ipv4 or ipv6; that of the addresses", value: familyShape,
			takes: familyTakes, decode: func(d *decoder, n *node, o *OneToOne) { o.Family = d.family(n) }},
		{key: "zone", about: "the zone of the uplink", value: oneZoneShape, must: true,
			takes: "the name of one zone", decode: (*decoder).oneToOneZone},
		{key: "outside", about: "the outside address, or a prefix", value: prefixShape, must: true,
			takes: prefixTakes, decode: func(d *decoder, n *node, o *OneToOne) { o.Outside, o.OutsideAt = d.prefix(n) }},
		{key: "inside", about: "the inside address, or a prefix of the same length", value: prefixShape, must: true,
			takes: prefixTakes, decode: func(d *decoder, n *node, o *OneToOne) { o.Inside, o.InsideAt = d.prefix(n) }},
		{key: "expose", about: "what may come in: all, or services. Left out: nothing", value: exposeShape,
			takes: "`all`, a service as tcp/25, or a list of services", decode: (*decoder).expose},
		logField(func(o *OneToOne) **Log { return &o.Log }),
	}
}

func (d *decoder) oneToOneSection(n *node, p *Policy) {
	table := oneToOneFields()
	entries(d, n, &p.OneToOne, func(n *node, at Place) (OneToOne, bool) {
		o := OneToOne{Place: at}
		w, ok := fields(d, n, table, &o)
		if !ok {
			return o, false
		}
		requireAll(w, "a one_to_one entry", table)
		d.oneToOneSides(&o)
		d.oneToOnes = append(d.oneToOnes, w.label(at, &o.Name, ""))
		return o, true
	})
}

func (d *decoder) oneToOneZone(n *node, o *OneToOne) {
	if n = deref(n); n.Kind == yaml.SequenceNode && len(n.Content) > 1 {
		d.failAt(n, "`zone` takes the name of one zone, found a list; make an entry for each zone")
		return
	}
	for _, r := range d.zoneRefs(n) {
		if r.Any {
			d.fail(r.Place, "`zone` takes the name of one zone, found \"any\"; make an entry for each zone")
			continue
		}
		o.Zone = r
	}
}

// prefix decodes one address or one prefix of hosts.
func (d *decoder) prefix(n *node) (netip.Prefix, Place) {
	text, ok := d.text(n)
	if !ok {
		return netip.Prefix{}, Place{}
	}
	at := d.at(deref(n))
	low, high, problem := parseRange(text)
	switch {
	case strings.HasPrefix(text, "@"):
		problem = fmt.Sprintf("`%s` takes an address or a prefix, and %s is a set; write an entry for each of its addresses", d.key, quote(text))
	case problem == "" && strings.Contains(text, "-"):
		problem = fmt.Sprintf("`%s` takes an address or a prefix, and %s is a range; write prefixes of one length in entries of their own", d.key, quote(text))
	case problem == "":
		problem = notHost(low, high)
	}
	if problem != "" {
		d.fail(at, problem)
		return netip.Prefix{}, at
	}
	p, _ := asPrefix(low, high)
	return p, at
}

// oneToOneSides checks that every address outside has one inside.
func (d *decoder) oneToOneSides(o *OneToOne) {
	if !o.Outside.IsValid() || !o.Inside.IsValid() {
		return
	}
	note := Note{o.OutsideAt, "`outside` stands here"}
	family := familyOf(Address{Low: o.Inside.Addr()})
	switch outside := familyOf(Address{Low: o.Outside.Addr()}); {
	case outside != family:
		d.fail(o.InsideAt, fmt.Sprintf("`outside` is %s and `inside` is %s; one_to_one translates within a family, so make an entry of each", outside, family), note)
		return
	case o.Outside.Bits() != o.Inside.Bits():
		d.fail(o.InsideAt, fmt.Sprintf("`outside` is %s and `inside` is %s; each address has one of its own only where both prefixes have one length",
			lengthOf(o.Outside), lengthOf(o.Inside)), note)
	case o.Outside == o.Inside:
		d.fail(o.InsideAt, "`inside` is the same as `outside`, so nothing is translated; write the inside address", note)
	}
	for _, s := range o.Expose {
		if s.Protocol == ProtocolICMP && family == only6 || s.Protocol == ProtocolICMPv6 && family == only4 {
			other := ProtocolICMP
			if family == only6 {
				other = ProtocolICMPv6
			}
			d.fail(s.Place, fmt.Sprintf("%s is never seen here, since the entry is %s; write %s", ProtocolName(s.Protocol), family, ProtocolName(uint8(other))))
		}
	}
}

func lengthOf(p netip.Prefix) string {
	if p.IsSingleIP() {
		return "one address"
	}
	return fmt.Sprintf("a /%d", p.Bits())
}

// expose decodes `all`, or services that do not overlap.
func (d *decoder) expose(n *node, o *OneToOne) {
	d.each(n, func(item *node) {
		text, ok := d.text(item)
		if !ok {
			return
		}
		if text == "all" {
			if o.ExposeAll = true; deref(n).Kind == yaml.SequenceNode && len(deref(n).Content) > 1 {
				d.failAt(item, "`all` stands alone in `expose`; take it out, or take the services out")
			}
			return
		}
		if text == "none" {
			d.failAt(item, "`none` is what `expose` has where it is left out; take it out")
			return
		}
		s, problem := parseService(text)
		s.Place = d.at(item)
		if problem != "" {
			d.fail(s.Place, problem)
			return
		}
		o.Expose = append(o.Expose, s)
	})
	sorted := slices.Clone(o.Expose)
	slices.SortStableFunc(sorted, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.ports().First, b.ports().First))
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.Protocol != b.Protocol || a.ports().Last < b.ports().First {
			continue
		}
		if before(b.Place, a.Place) {
			a, b = b, a
		}
		d.fail(b.Place, fmt.Sprintf("%s and %s overlap in `expose`; name each service once", a, b), Note{a.Place, "the other one"})
	}
}

// parseService reads tcp, tcp/25 and tcp/1000-2000.
func parseService(text string) (s Service, problem string) {
	name, ports, hasPorts := strings.Cut(text, "/")
	number, known := protocolNumber(name)
	if n, isNumber := parseNumber(name, 255); isNumber {
		number, known = uint8(n), true
	}
	switch _, _, notPort := parsePorts(name); {
	case !known && notPort == "":
		return s, fmt.Sprintf("%s has no protocol; write tcp/%s or udp/%s", quote(text), name, name)
	case !known:
		if proto, port, _ := strings.Cut(name, ":"); port != "" && allProtocols([]string{proto}) {
			return s, fmt.Sprintf("%s is not a service; write %s/%s", quote(text), proto, strings.Replace(port, ":", "-", 1))
		}
		return s, unknownProtocol(name)
	}
	s.Protocol = number
	if !hasPorts {
		return s, ""
	}
	if !HasPorts(number) {
		return s, fmt.Sprintf("the protocol %s has no ports; write %s alone", name, name)
	}
	p := Ports{}
	p.First, p.Last, problem = parsePorts(ports)
	s.Ports = []Ports{p}
	return s, problem
}

// ports are those of a service, every one where it names none.
func (s Service) ports() Ports {
	if len(s.Ports) == 0 {
		return Ports{Last: 65535}
	}
	return s.Ports[0]
}

// String gives the service as a policy writes it.
func (s Service) String() string {
	if len(s.Ports) == 0 {
		return ProtocolName(s.Protocol)
	}
	return ProtocolName(s.Protocol) + "/" + s.Ports[0].String()
}
