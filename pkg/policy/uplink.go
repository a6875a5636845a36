package policy

import (
	"fmt"
	"math"

	"go.yaml.in/yaml/v4"
)

// The bounds of a segment size: every host takes 536 (RFC 9293, 3.7.1), and the
// largest IPv4 packet has room for 65535 less 40 of headers.
const (
	leastMSS = 536
	mostMSS  = 65495
)

// mssClamp decodes pmtu or a size.
func (d *decoder) mssClamp(n *node, z *Zone) {
	n = deref(n)
	z.MSSClamp.Place = d.at(n)
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		number, isNumber := parseUint32(n.Value, 10)
		switch {
		case !isNumber && nearest(n.Value, []string{"pmtu"}) != "" && n.Value != "pmtu":
			d.failAt(n, fmt.Sprintf("`mss_clamp` takes pmtu or a number, found %s; did you mean \"pmtu\"?", quote(n.Value)))
			return
		case n.Value == "pmtu" && d.plainTag(n):
			z.MSSClamp.PathMTU = true
			return
		case isNumber && number < leastMSS:
			d.failAt(n, fmt.Sprintf("a segment size of %d is too small, as every host takes %d; write a number from %d to %d, or pmtu", number, leastMSS, leastMSS, mostMSS))
			return
		case isNumber && number > mostMSS:
			d.failAt(n, fmt.Sprintf("a segment size of %d is more than a packet holds; write a number from %d to %d, or pmtu", number, leastMSS, mostMSS))
			return
		}
	}
	if v, ok := d.number(n, leastMSS, mostMSS); ok {
		z.MSSClamp.Size = uint16(v)
	}
}

func symmetricFields() []field[Symmetric] {
	return []field[Symmetric]{
		{key: "gateway", about: "the next hop, or a list of one for each family. Left out: found in the host's routes", value: nextHopsShape,
			takes: "the address of the next hop, or one of each family", decode: (*decoder).nextHops},
		{key: "mark", about: "the mark of packets and flows of this uplink. Left out: chosen", value: markNotZeroShape,
			takes: markTakes, decode: func(d *decoder, n *node, s *Symmetric) {
				m, ok := d.packetMark(n)
				if ok && m.Value == 0 {
					d.fail(m.Place, "a mark of 0 is what unmarked packets have; write another value")
					return
				}
				s.Mark = m
			}},
		{key: "table", about: "the number of the routing table. Left out: chosen", value: tableShape,
			takes: "the number of a routing table, from 1 to 4294967295", decode: func(d *decoder, n *node, s *Symmetric) {
				v, ok := d.number(n, 1, math.MaxUint32)
				// RT_TABLE_DEFAULT, RT_TABLE_MAIN and RT_TABLE_LOCAL.
				if ok && v >= 253 && v <= 255 {
					d.failAt(deref(n), fmt.Sprintf("the routing table %d is one that every host has (253 default, 254 main, 255 local); choose another number", v))
					return
				}
				s.Table = v
			}},
	}
}

// symmetric decodes true, false or the mapping.
func (d *decoder) symmetric(n *node, z *Zone) {
	n = deref(n)
	s := &Symmetric{Place: d.at(n)}
	if n.Kind != yaml.MappingNode {
		if on, _ := d.boolean(n); on {
			z.Symmetric = s
		}
		return
	}
	z.Symmetric = s
	if d.filled(n, "`symmetric: true`") {
		fields(d, n, symmetricFields(), s)
	}
}

// nextHops decodes an address, or one of each family.
func (d *decoder) nextHops(n *node, s *Symmetric) {
	d.each(n, func(n *node) {
		text, ok := d.text(n)
		if !ok {
			return
		}
		a, problem := parseAddr(text)
		hop := &s.Gateway4
		if a.Is6() {
			hop = &s.Gateway6
		}
		switch {
		case problem != "" && (a.IsValid() || dottedQuad(text)):
		case problem != "":
			problem = fmt.Sprintf("%s is not the address of a next hop; write one address, as 192.0.2.1", quote(text))
		case notHost(a, a) != "":
			problem = notHost(a, a)
		case hop.IsValid():
			problem = fmt.Sprintf("%s and %s are of one family; write one next hop for each family", *hop, a)
		default:
			*hop = a
			return
		}
		d.failAt(n, problem)
	})
}
