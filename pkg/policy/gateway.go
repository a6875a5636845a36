package policy

import "go.yaml.in/yaml/v4"

func gatewayFields() []field[Gateway] {
	return []field[Gateway]{
		{key: "backend", about: "what installs the rules", value: backendShape, preset: "auto",
			takes: "auto, nftables or iptables", decode: (*decoder).backend},
		{key: "forwarding", about: "turn forwarding on, by family. Left out: for each family that the policy forwards", value: forwardingShape,
			takes: "a mapping with `ipv4`, `ipv6` or both", decode: func(d *decoder, n *node, g *Gateway) {
				fields(d, n, forwardingFields(), g)
			}},
		{key: "conntrack", about: "the kernel's table of flows", value: conntrackShape,
			takes: "a mapping with `max`, `accounting` and `timeouts`", decode: (*decoder).conntrack},
		{key: "offload", about: "open flows between zones pass the rules no more", value: offloadShape,
			takes: "a mapping as {zones: [lan, wan]}", decode: (*decoder).offload},
		{key: "reserved_ports", about: "outside ports that flows from inside never take; [] for none. Left out: the ports that rules of input open", value: reservedPortsShape,
			takes: portsTake, decode: (*decoder).reservedPorts},
		{key: "docker", about: "what the policy accepts, Docker's rules on this host let pass too. Left out: they are left alone", value: dockerShape,
			takes: "accept", decode: (*decoder).docker},
	}
}

func forwardingFields() []field[Gateway] {
	return []field[Gateway]{
		{key: "ipv4", about: "turn it on, or leave it alone", value: booleanShape,
			takes: "true or false", decode: func(d *decoder, n *node, g *Gateway) {
				d.once(n, "gateway.forwarding.ipv4", &g.ForwardIPv4)
			}},
		{key: "ipv6", about: "turn it on, or leave it alone", value: booleanShape,
			takes: "true or false", decode: func(d *decoder, n *node, g *Gateway) {
				d.once(n, "gateway.forwarding.ipv6", &g.ForwardIPv6)
			}},
	}
}

func (d *decoder) gatewaySection(n *node, p *Policy) {
	if p.Gateway.Place == (Place{}) {
		p.Gateway.Place = d.at(deref(n))
	}
	fields(d, n, gatewayFields(), &p.Gateway)
}

// once decodes a boolean that several files may say, but not differently.
func (d *decoder) once(n *node, setting string, value **bool) {
	v, ok := d.boolean(n)
	if !ok {
		return
	}
	have := *value != nil && **value
	if settled(d, n, setting, v, have) {
		*value = &v
	}
}

func backends() []string { return []string{"auto", "nftables", "iptables"} }

func (d *decoder) backend(n *node, g *Gateway) {
	before := len(d.errs)
	name := word(d, n, backends(), backends())
	switch {
	case len(d.errs) > before:
	case settled(d, n, "gateway.backend", name, g.Backend):
		g.Backend = name
	}
}

// docker decodes what becomes of Docker's rules: there is one word for it.
func (d *decoder) docker(n *node, g *Gateway) {
	before := len(d.errs)
	name := word(d, n, []string{dockerAccept}, []string{dockerAccept})
	if len(d.errs) == before && settled(d, n, "gateway.docker", name, dockerAccept) {
		g.Docker = true
	}
}

// dockerAccept is the only value of gateway.docker.
const dockerAccept = "accept"

// reservedPorts decodes ports. An empty list reserves none, the ports of input
// rules neither.
func (d *decoder) reservedPorts(n *node, g *Gateway) {
	if g.ReservedPorts == nil {
		g.ReservedPorts = []Ports{}
	}
	if v := deref(n); v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
		return
	}
	d.each(n, func(n *node) {
		if p, ok := d.port(n); ok {
			g.ReservedPorts = append(g.ReservedPorts, p)
		}
	})
	d.noOverlap(g.ReservedPorts)
}
