package policy

import "slices"

func redirectFields() []field[Redirect] {
	return slices.Concat([]field[Redirect]{
		{key: "name", about: "what counters and messages call the entry. Left out: PROTOCOL-PORTS", value: nameShape,
			takes: "a name", decode: func(d *decoder, n *node, r *Redirect) { r.Name = d.name(n) }},
		{key: "family", about: "narrows the entry to one IP family", value: familyShape,
			takes: familyTakes, decode: func(d *decoder, n *node, r *Redirect) { r.Family = d.family(n) }},
		{key: "from", about: "the zones where it arrives", value: zoneRefsShape, must: true,
			takes: zonesTake, decode: func(d *decoder, n *node, r *Redirect) { r.From = d.zoneRefs(n) }},
	}, narrowFields(func(r *Redirect) narrowing {
		return narrowing{&r.Sources, &r.ExceptSources, &r.Destinations, &r.ExceptDestinations}
	}), []field[Redirect]{
		{key: "protocol", about: "protocols, also those without ports", value: protocolsShape, must: true,
			takes: protocolsTake, decode: func(d *decoder, n *node, r *Redirect) { r.Protocols = d.protocols(n) }},
		{key: "ports", about: "only these destination ports", value: portsShape,
			takes: portsTake, decode: func(d *decoder, n *node, r *Redirect) { r.Ports = d.ports(n) }},
		{key: "to_port", about: "the gateway's port. Left out: the same port", value: toPortShape,
			takes: "one port, 1 to 65535", decode: func(d *decoder, n *node, r *Redirect) {
				if v, ok := d.number(n, 1, 65535); ok {
					r.ToPort = uint16(v)
				}
			}},
		{key: "local", about: "the gateway's own connections as well", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, r *Redirect) { r.Local, _ = d.boolean(n) }},
		logField(func(r *Redirect) **Log { return &r.Log }),
		instead[Redirect]("to", "a redirect goes to the gateway itself, at `to_port`; a flow goes to another host by `port_forward`"),
	})
}

func (d *decoder) redirectSection(n *node, p *Policy) {
	table := redirectFields()
	entries(d, n, &p.Redirect, func(n *node, at Place) (Redirect, bool) {
		r := Redirect{Place: at}
		w, ok := fields(d, n, table, &r)
		if !ok {
			return r, false
		}
		requireAll(w, "a redirect entry", table)
		if w.has("protocol") {
			w.portsNeedProtocol("ports", r.Protocols)
			w.portsNeedProtocol("to_port", r.Protocols)
		}
		derived := ""
		if len(r.Protocols) > 0 && (len(r.Ports) > 0 || !w.has("ports")) {
			derived = protocolPorts(r.Protocols, r.Ports)
		}
		d.redirects = append(d.redirects, w.label(at, &r.Name, derived))
		return r, true
	})
}
