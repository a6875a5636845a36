package policy

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

func portForwardFields() []field[PortForward] {
	return []field[PortForward]{
		{key: "name", about: "what counters and messages call the entry. Left out: PROTOCOL-PORTS", value: nameShape,
			takes: "a name", decode: func(d *decoder, n *node, f *PortForward) { f.Name = d.name(n) }},
		{key: "family", about: "narrows the entry to one IP family", value: familyShape,
			takes: familyTakes, decode: func(d *decoder, n *node, f *PortForward) { f.Family = d.family(n) }},
		{key: "from", about: "the zones where it arrives; may be left out where address is a loopback address", value: zoneRefsShape,
			takes: zonesTake, decode: func(d *decoder, n *node, f *PortForward) { f.From = d.zoneRefs(n) }},
		{key: "address", about: "the destination addresses, or any. Left out: the gateway's own", value: outsideAddressShape,
			takes: "an address, a prefix, a range, \"@set\", a list of these, or `any`", decode: (*decoder).outsideAddress},
		{key: "protocol", about: "tcp, udp, sctp or udplite, or several", value: portProtocolsShape,
			takes: protocolsTake, decode: func(d *decoder, n *node, f *PortForward) { f.Protocols = d.protocols(n) }},
		{key: "ports", about: "the ports outside, or all", value: outsidePortsShape,
			takes: "a port, a range as 8000-8010, a list of these, or `all`", decode: (*decoder).outsidePorts},
		{key: "except_ports", about: "not these of the ports", value: portsShape,
			takes: portsTake, decode: func(d *decoder, n *node, f *PortForward) { f.ExceptPorts = d.ports(n) }},
		{key: "to", about: "the target, or several that get new flows in turn", value: targetsShape,
			takes: targetTakes + ", or a list of these", decode: (*decoder).targets},
		{key: "sticky", about: "of several targets, a client's address always gets the same one", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, f *PortForward) { f.Sticky, _ = d.boolean(n) }},
		{key: "map", about: "many forwards in one entry, instead of protocol, ports, except_ports, to and sticky", value: mapShape,
			takes: "a mapping as {tcp/8001: 10.0.0.1:80}, or {file: NAME}", decode: (*decoder).forwardMap},
		{key: "sources", about: "who may use it", value: addressesShape,
			takes: addressesTake, decode: func(d *decoder, n *node, f *PortForward) {
				f.Sources = d.addresses(n, setNames)
			}},
		{key: "except_sources", about: "who may not use it", value: addressesShape,
			takes: addressesTake, decode: func(d *decoder, n *node, f *PortForward) {
				f.ExceptSources = d.addresses(n, setNames)
			}},
		{key: "hairpin", about: "inside hosts reach it at the outside address too", value: hairpinShape, preset: true,
			takes: "true, false, or a mapping with `zones` and `source`", decode: (*decoder).hairpin},
		{key: "masquerade", about: "the target sees the gateway as the client", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, f *PortForward) { f.Masquerade, _ = d.boolean(n) }},
		instead[PortForward]("destinations", "the outside address of a port forward is its `address`"),
		maxConnectionsField(func(f *PortForward) *Limits { return &f.Limits }),
		timeoutsField(func(f *PortForward) **Timeouts { return &f.Timeouts }),
		helpersField(func(f *PortForward) *[]Helper { return &f.Helpers }),
		logField(func(f *PortForward) **Log { return &f.Log }),
	}
}

func (d *decoder) portForwardSection(n *node, p *Policy) {
	table := portForwardFields()
	entries(d, n, &p.PortForward, func(n *node, at Place) (PortForward, bool) {
		f := PortForward{Place: at}
		w, ok := fields(d, n, table, &f)
		if !ok {
			return f, false
		}
		if !f.OfGateway() {
			w.require("a port_forward entry", "from")
		}
		if w.has("map") {
			w.mapStandsAlone()
		} else {
			w.require("a port_forward entry", forwardNeeds()...)
			w.forwardedPorts(&f)
			w.attributesFit(f.Protocols, f.Timeouts, f.Helpers)
		}
		d.portForwards = append(d.portForwards, w.label(at, &f.Name, w.derivedForwardName(&f)))
		return f, true
	})
}

// forwardNeeds is what an entry without a map must have.
func forwardNeeds() []string { return []string{"protocol", "ports", "to"} }

// besidesMap is what a map says itself.
func besidesMap() []string { return []string{"protocol", "ports", "except_ports", "to", "sticky"} }

// mapStandsAlone refuses what a map says itself.
func (w written) mapStandsAlone() {
	for _, key := range besidesMap() {
		if w.has(key) {
			w.d.fail(w.place(key), fmt.Sprintf("`%s` and `map` exclude each other: a map names protocols, ports and targets itself; take one of them out", key),
				Note{w.place("map"), "`map` stands here"})
		}
	}
}

// forwardedPorts checks the ports of an entry against its protocols and its
// target.
func (w written) forwardedPorts(f *PortForward) {
	if w.has("protocol") {
		w.portsNeedProtocol("ports", f.Protocols)
	}
	w.d.exceptPorts(f.AllPorts, f.Ports, f.ExceptPorts)
	if f.Sticky && w.value("to") != nil && f.To.Addr.IsValid() && len(f.Targets) == 0 {
		w.d.fail(w.place("sticky"), "`sticky` is for several targets, and `to` has one; add more, or take `sticky` out", Note{f.To.Place, "the target stands here"})
	}
	for _, t := range f.AllTargets() {
		w.targetPorts(f, t)
	}
}

// targetPorts checks the ports of an entry against those of a target.
func (w written) targetPorts(f *PortForward, t Target) {
	if t.First == t.Last {
		return // no port, or one: it takes any number of ports
	}
	note := Note{t.Place, "the target stands here"}
	switch {
	case f.AllPorts:
		w.d.fail(w.place("ports"), "`all` ports cannot go to a range; write the target without ports, or with one", note)
	case len(f.Ports) > 1:
		w.d.fail(f.Ports[1].Place, "several ports cannot go to a range, since it would not be clear which goes where; make an entry of each", note)
	case len(f.Ports) == 1:
		if problem := rangeProblem(f.Ports[0], t); problem != "" {
			w.d.fail(t.Place, problem, Note{f.Ports[0].Place, "`ports` stands here"})
		}
	}
}

// derivedForwardName is PROTOCOL-PORTS, as in tcp-udp-80-8000-8010 or tcp-all.
// A map has too many of these: one from a file is called as the file is, made
// fit to be a name (VMs_east.txt: vms-east), and one that is written inline
// map-FROM (map-local for the gateway itself). The name is "" where the parts have mistakes.
func (w written) derivedForwardName(f *PortForward) string {
	if v := w.value("map"); v != nil {
		if f.Map == nil {
			return ""
		}
		if source := w.d.mapFile(deref(v)); source != "" {
			base := filepath.Base(source)
			name := fitName(strings.TrimSuffix(base, filepath.Ext(base)))
			if name == "" && !w.has("name") {
				w.d.failAt(w.n, fmt.Sprintf("no name can be derived from the file name %s; give the entry a `name`", quote(base)))
			}
			return name
		}
		switch {
		case len(f.From) > 0:
			return "map-" + joinZones(f.From)
		case f.OfGateway():
			return "map-gateway"
		}
		return ""
	}
	if len(f.Protocols) == 0 || len(f.Ports) == 0 && !f.AllPorts {
		return ""
	}
	name := protocolPorts(f.Protocols, f.Ports)
	if f.AllPorts {
		name += "-all"
	}
	return name
}

// protocolPorts is the name PROTOCOL-PORTS.
func protocolPorts(protocols []Protocol, ports []Ports) string {
	var parts []string
	for _, p := range protocols {
		parts = append(parts, ProtocolName(p.Number))
	}
	for _, p := range ports {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "-")
}

// outsideAddress decodes `address`.
func (d *decoder) outsideAddress(n *node, f *PortForward) {
	d.each(n, func(item *node) {
		if item.Kind == yaml.ScalarNode && item.Value == "any" {
			f.AnyAddress = true
			if len(deref(n).Content) > 1 {
				d.failAt(item, "`any` stands alone in `address`; take it out, or take the addresses out")
			}
			return
		}
		a, ok := d.address(item, setNames)
		if !ok {
			return
		}
		if a.Set == "" && a.Low.IsLoopback() != a.High.IsLoopback() {
			d.fail(a.Place, fmt.Sprintf("%s goes beyond the loopback addresses, which lead only the gateway's own connections; write what is within and what is beyond apart", a))
			return
		}
		f.Address = append(f.Address, a)
	})
}

// outsidePorts decodes `ports`.
func (d *decoder) outsidePorts(n *node, f *PortForward) {
	if v := deref(n); v.Kind == yaml.ScalarNode && v.Value == "all" {
		f.AllPorts = true
		return
	}
	f.Ports = d.ports(n)
}

// targets decodes `to`.
func (d *decoder) targets(n *node, f *PortForward) {
	var list []Target
	var seen firsts[Target]
	d.each(n, func(n *node) {
		t := d.target(n)
		if t.Place == (Place{}) {
			return
		}
		if i := seen.add(Target{Addr: t.Addr, First: t.First, Last: t.Last}); i >= 0 {
			d.fail(t.Place, fmt.Sprintf("the target %s is named twice; take one out", t), Note{list[i].Place, "first named here"})
			return
		}
		list = append(list, t)
	})
	if len(list) > 0 {
		f.To = list[0]
	}
	if len(list) > 1 {
		f.Targets = list
	}
}

// target decodes one target; one that has a mistake has no place.
func (d *decoder) target(n *node) Target {
	text, ok := d.text(n)
	if !ok {
		return Target{}
	}
	t, problem := parseTarget(text)
	if problem != "" {
		d.failAt(deref(n), problem)
		return Target{}
	}
	t.Place = d.at(deref(n))
	return t
}
