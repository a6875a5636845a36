package policy

import "slices"

func masqueradeFields() []field[Masquerade] {
	return append(translationFields(),
		instead[Masquerade]("addresses", "a masquerade takes the address that the uplink has; a pool of addresses is for `snat`"),
		instead[Masquerade]("distribution", "it belongs to `snat`"),
		instead[Masquerade]("ports_per_host", "it belongs to `snat`"))
}

// translationFields are the keys that masquerade and snat share.
func translationFields() []field[Masquerade] {
	return slices.Concat([]field[Masquerade]{
		{key: "name", about: "what counters and messages call the entry. Left out: FROM-TO", value: nameShape,
			takes: "a name", decode: func(d *decoder, n *node, m *Masquerade) { m.Name = d.name(n) }},
		{key: "family", about: "narrows the entry to one IP family", value: familyShape,
			takes: familyTakes, decode: func(d *decoder, n *node, m *Masquerade) { m.Family = d.family(n) }},
		{key: "from", about: "the zones whose hosts are translated", value: zoneRefsShape, must: true,
			takes: zonesTake, decode: func(d *decoder, n *node, m *Masquerade) { m.From = d.zoneRefs(n) }},
		{key: "to", about: "the zones that they are translated for; these have interfaces or default_route", value: uplinkRefsShape, must: true,
			takes: zonesTake, decode: func(d *decoder, n *node, m *Masquerade) { m.To = d.zoneRefs(n) }},
	}, narrowFields(func(m *Masquerade) narrowing {
		return narrowing{&m.Sources, &m.ExceptSources, &m.Destinations, &m.ExceptDestinations}
	}), []field[Masquerade]{
		{key: "protocol", about: "only these protocols", value: protocolsShape,
			takes: protocolsTake, decode: func(d *decoder, n *node, m *Masquerade) { m.Protocols = d.protocols(n) }},
		{key: "ports", about: "only these destination ports", value: portsShape, needs: "protocol",
			takes: portsTake, decode: func(d *decoder, n *node, m *Masquerade) { m.Ports = d.ports(n) }},
		{key: "outside_ports", about: "the range of ports to use outside", value: portShape,
			takes: "one range of ports, as 32768-65535", decode: func(d *decoder, n *node, m *Masquerade) {
				if p, ok := d.port(n); ok {
					m.OutsidePorts = &p
				}
			}},
		{key: "port_selection", about: "how the outside port is chosen: preserve keeps the inside port where it is free", value: portSelectionShape, preset: "preserve",
			takes: "preserve, random or fully-random", decode: func(d *decoder, n *node, m *Masquerade) {
				m.PortSelection = word(d, n, portSelections(), []PortSelection{Preserve, Random, FullyRandom})
			}},
		{key: "forward", about: "false: translate, but do not open the way; rules decide", value: booleanShape, preset: true,
			takes: "true or false", decode: func(d *decoder, n *node, m *Masquerade) {
				open, ok := d.boolean(n)
				m.NoForward = ok && !open
			}},
		maxConnectionsField(func(m *Masquerade) *Limits { return &m.Limits }),
		timeoutsField(func(m *Masquerade) **Timeouts { return &m.Timeouts }),
		helpersField(func(m *Masquerade) *[]Helper { return &m.Helpers }),
		logField(func(m *Masquerade) **Log { return &m.Log }),
	})
}

func portSelections() []string { return []string{"preserve", "random", "fully-random"} }

func (d *decoder) masqueradeSection(n *node, p *Policy) {
	table := masqueradeFields()
	entries(d, n, &p.Masquerade, func(n *node, at Place) (Masquerade, bool) {
		m := Masquerade{Place: at}
		w, ok := fields(d, n, table, &m)
		if !ok {
			return m, false
		}
		requireAll(w, "a masquerade entry", table)
		d.masquerades = append(d.masquerades, w.translation(&m))
		return m, true
	})
}

// translation checks what masquerade and snat share, and settles the name.
func (w written) translation(m *Masquerade) label {
	w.portsNeedProtocol("ports", m.Protocols)
	w.attributesFit(m.Protocols, m.Timeouts, m.Helpers)
	derived := ""
	if len(m.From) > 0 && len(m.To) > 0 {
		derived = joinZones(m.From) + "-" + joinZones(m.To)
	}
	return w.label(m.Place, &m.Name, derived)
}
