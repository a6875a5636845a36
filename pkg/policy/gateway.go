package policy

import "fmt"

func gatewayFields() []field[Gateway] {
	return append([]field[Gateway]{
		{key: "forwarding", takes: "a mapping with `ipv4`, `ipv6` or both", decode: func(d *decoder, n *node, g *Gateway) {
			fields(d, n, forwardingFields(), g)
		}},
	}, later[Gateway]("backend", "conntrack", "offload", "reserved_ports", "docker")...)
}

func forwardingFields() []field[Gateway] {
	return []field[Gateway]{
		{key: "ipv4", takes: "true or false", decode: func(d *decoder, n *node, g *Gateway) {
			d.once(n, &g.ForwardIPv4, &d.forwardIPv4)
		}},
		{key: "ipv6", takes: "true or false", decode: func(d *decoder, n *node, g *Gateway) {
			d.once(n, &g.ForwardIPv6, &d.forwardIPv6)
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
func (d *decoder) once(n *node, value **bool, first *Place) {
	at := d.at(deref(n))
	v, ok := d.boolean(n)
	switch {
	case !ok:
	case *value == nil:
		*value, *first = &v, at
	case **value != v:
		d.fail(at, fmt.Sprintf("`%s` is %t here and %t elsewhere; write it in one file", d.key, v, **value),
			Note{*first, "the other one"})
	}
}
