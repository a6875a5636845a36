package policy

import (
	"fmt"
	"slices"
)

// icmpTypes are the names of ICMP types, nft's, with the number of each in
// ICMP (RFC 792) and ICMPv6 (RFC 4443, 4861, 2710); -1 where there is none. A
// name that means the same in both families has both numbers, so that
// `redirect` cannot be read to cover a family that it leaves out.
func icmpTypes() []ICMPType {
	return []ICMPType{
		{Name: "destination-unreachable", V4: 3, V6: 1},
		{Name: "time-exceeded", V4: 11, V6: 3},
		{Name: "parameter-problem", V4: 12, V6: 4},
		{Name: "echo-request", V4: 8, V6: 128},
		{Name: "echo-reply", V4: 0, V6: 129},
		{Name: "redirect", V4: 5, V6: 137},
		{Name: "router-advertisement", V4: 9, V6: 134},
		{Name: "router-solicitation", V4: 10, V6: 133},
		{Name: "source-quench", V4: 4, V6: -1},
		{Name: "timestamp-request", V4: 13, V6: -1},
		{Name: "timestamp-reply", V4: 14, V6: -1},
		{Name: "info-request", V4: 15, V6: -1},
		{Name: "info-reply", V4: 16, V6: -1},
		{Name: "address-mask-request", V4: 17, V6: -1},
		{Name: "address-mask-reply", V4: 18, V6: -1},
		{Name: "packet-too-big", V4: -1, V6: 2},
		{Name: "mld-listener-query", V4: -1, V6: 130},
		{Name: "mld-listener-report", V4: -1, V6: 131},
		{Name: "mld-listener-done", V4: -1, V6: 132},
		{Name: "mld-listener-reduction", V4: -1, V6: 132},
		{Name: "nd-router-solicit", V4: -1, V6: 133},
		{Name: "nd-router-advert", V4: -1, V6: 134},
		{Name: "nd-neighbor-solicit", V4: -1, V6: 135},
		{Name: "nd-neighbor-advert", V4: -1, V6: 136},
		{Name: "nd-redirect", V4: -1, V6: 137},
		{Name: "router-renumbering", V4: -1, V6: 138},
		{Name: "ind-neighbor-solicit", V4: -1, V6: 141},
		{Name: "ind-neighbor-advert", V4: -1, V6: 142},
		{Name: "mld2-listener-report", V4: -1, V6: 143},
	}
}

// ICMPTypes are the ICMP types that have names.
func ICMPTypes() []ICMPType { return icmpTypes() }

// icmpTypes decodes a list of ICMP types.
func (d *decoder) icmpTypes(n *node) []ICMPType {
	known := icmpTypes()
	var list []ICMPType
	d.each(n, func(n *node) {
		text, ok := d.text(n)
		if !ok {
			return
		}
		i := slices.IndexFunc(known, func(t ICMPType) bool { return t.Name == text })
		if i < 0 {
			d.failAt(n, unknownICMPType(text, known))
			return
		}
		t := known[i]
		t.Place = d.at(n)
		if j := slices.IndexFunc(list, t.shares); j >= 0 {
			d.fail(t.Place, fmt.Sprintf("%s and %s share a type number; take one out", list[j].Name, t.Name),
				Note{list[j].Place, "the other one"})
			return
		}
		list = append(list, t)
	})
	return list
}

// shares is true for two names of one type in some family.
func (t ICMPType) shares(u ICMPType) bool {
	return t.V4 >= 0 && t.V4 == u.V4 || t.V6 >= 0 && t.V6 == u.V6
}

func unknownICMPType(text string, known []ICMPType) string {
	names := make([]string, len(known))
	for i, t := range known {
		names[i] = t.Name
	}
	message := "unknown ICMP type " + quote(text)
	if _, ok := parseNumber(text, 255); ok {
		return fmt.Sprintf("%s; write its name, since the two families number types differently", message)
	}
	switch text {
	case "ping", "echo":
		return message + "; did you mean \"echo-request\"?"
	case "unreachable", "host-unreachable", "port-unreachable", "fragmentation-needed":
		return message + "; did you mean \"destination-unreachable\"?"
	}
	if near := nearest(text, names); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near)
	}
	return message + "; some that are known: echo-request, echo-reply, destination-unreachable, time-exceeded, packet-too-big"
}

// icmpProtocols checks icmp_types against the protocols of an entry, and gives
// the protocols that it then has: those that the types belong to where none is
// written, and none where they contradict the types.
func (w written) icmpProtocols(protocols []Protocol, types []ICMPType) []Protocol {
	if len(types) == 0 {
		return protocols
	}
	v4 := slices.ContainsFunc(types, func(t ICMPType) bool { return t.V4 >= 0 })
	v6 := slices.ContainsFunc(types, func(t ICMPType) bool { return t.V6 >= 0 })
	if !w.has("protocol") {
		if v4 {
			protocols = append(protocols, Protocol{types[0].Place, ProtocolICMP})
		}
		if v6 {
			protocols = append(protocols, Protocol{types[0].Place, ProtocolICMPv6})
		}
		return protocols
	}
	note := Note{types[0].Place, "`icmp_types` stands here"}
	var has4, has6 bool
	for _, p := range protocols {
		switch {
		case p.Number == ProtocolICMP && v4:
			has4 = true
		case p.Number == ProtocolICMPv6 && v6:
			has6 = true
		case p.Number == ProtocolICMP || p.Number == ProtocolICMPv6:
			w.d.fail(p.Place, fmt.Sprintf("none of `icmp_types` belongs to %s; take the protocol out, or leave `protocol` out altogether", ProtocolName(p.Number)), note)
			return nil
		default:
			w.d.fail(p.Place, fmt.Sprintf("`icmp_types` goes with the protocols icmp and icmpv6 only; take %s out, or leave `protocol` out altogether", ProtocolName(p.Number)), note)
			return nil
		}
	}
	for _, t := range types {
		if len(protocols) > 0 && !(has4 && t.V4 >= 0) && !(has6 && t.V6 >= 0) {
			w.d.fail(t.Place, fmt.Sprintf("%s is no type of %s; add the other ICMP to `protocol`, or leave `protocol` out", t.Name, ProtocolName(protocols[0].Number)),
				Note{protocols[0].Place, "`protocol` stands here"})
		}
	}
	return protocols
}
