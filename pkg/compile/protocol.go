package compile

import (
	"encoding/binary"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// upper is what an entry says about the transport layer.
type upper struct {
	protocols           []policy.Protocol
	sourcePorts, toPort []policy.Ports
	icmpTypes           []policy.ICMPType
}

// protocols matches transport protocols, ports and ICMP types.
func (c *compiler) protocols(u upper, what string, o ruleset.Origin) []alternative {
	if len(u.protocols) == 0 {
		return anything()
	}
	var plain []byte
	var out []alternative
	for _, p := range u.protocols {
		f, icmp := icmpFamily(p.Number)
		switch {
		case icmp && len(u.icmpTypes) > 0:
			out = append(out, c.icmp(f, u.icmpTypes, what, o)...)
		case icmp && len(u.protocols) == 1:
			return []alternative{{only(f), []ruleset.Match{equal(ruleset.L4Proto, p.Number)}}}
		default:
			plain = append(plain, p.Number)
		}
	}
	if len(plain) == 0 {
		return out
	}
	var m []ruleset.Match
	if len(plain) == 1 {
		m = append(m, equal(ruleset.L4Proto, plain[0]))
	} else {
		m = append(m, in(c.set(what+"_protocols", o, false, []ruleset.Type{ruleset.InetProto}, func(s *ruleset.Set) {
			for _, p := range plain {
				s.Add([]byte{p}, nil, nil, ruleset.NoOrigin)
			}
		}), ruleset.L4Proto))
	}
	if len(u.sourcePorts) > 0 {
		m = append(m, c.ports(ruleset.SrcPort, u.sourcePorts, what+"_source_ports", o))
	}
	if len(u.toPort) > 0 {
		m = append(m, c.ports(ruleset.DstPort, u.toPort, what+"_ports", o))
	}
	return append(out, alternative{0, m})
}

// icmpFamily gives the family that a protocol belongs to, if it is an ICMP.
func icmpFamily(number uint8) (f int, icmp bool) {
	switch number {
	case policy.ProtocolICMP:
		return 0, true
	case policy.ProtocolICMPv6:
		return 1, true
	}
	return 0, false
}

func (c *compiler) icmp(f int, types []policy.ICMPType, what string, o ruleset.Origin) []alternative {
	var numbers []byte
	for _, t := range types {
		if n := [2]int{t.V4, t.V6}[f]; n >= 0 && !slices.Contains(numbers, byte(n)) {
			numbers = append(numbers, byte(n))
		}
	}
	field := [2]ruleset.Field{ruleset.ICMPTypeField, ruleset.ICMPv6TypeField}[f]
	m := []ruleset.Match{equal(ruleset.L4Proto, [2]byte{policy.ProtocolICMP, policy.ProtocolICMPv6}[f])}
	switch len(numbers) {
	case 0:
		return nil
	case 1:
		m = append(m, equal(field, numbers[0]))
	default:
		m = append(m, in(c.set(what+"_icmp_types"+familySuffix(f), o, false, []ruleset.Type{field.Type()}, func(s *ruleset.Set) {
			for _, n := range numbers {
				s.Add([]byte{n}, nil, nil, ruleset.NoOrigin)
			}
		}), field))
	}
	return []alternative{{only(f), m}}
}

func (c *compiler) ports(field ruleset.Field, list []policy.Ports, what string, o ruleset.Origin) ruleset.Match {
	merged := mergePorts(list)
	// nft(8) makes one comparison of a source port and a port, and so another
	// rule: a source port stands in a set.
	if p := merged[0]; len(merged) == 1 && (p.First < p.Last || field != ruleset.SrcPort) {
		if p.First == p.Last {
			return equal(field, portBytes(p.First)...)
		}
		return ruleset.Match{Fields: []ruleset.Field{field}, Op: ruleset.Between, Value: portBytes(p.First), High: portBytes(p.Last)}
	}
	return in(c.set(what, o, true, []ruleset.Type{ruleset.InetService}, func(s *ruleset.Set) {
		for _, p := range merged {
			s.Add(portBytes(p.First), portBytes(p.Last), nil, ruleset.NoOrigin)
		}
	}), field)
}

func portBytes(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// mergePorts puts ranges in order and joins those that overlap or touch.
func mergePorts(list []policy.Ports) []policy.Ports {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b policy.Ports) int { return int(a.First) - int(b.First) })
	var out []policy.Ports
	for _, p := range sorted {
		if n := len(out); n > 0 && int(p.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

// withoutPorts takes exceptions out of ranges.
func withoutPorts(ports, except []policy.Ports) []policy.Ports {
	out := ports
	for _, x := range except {
		var next []policy.Ports
		for _, p := range out {
			if x.Last < p.First || p.Last < x.First {
				next = append(next, p)
				continue
			}
			if p.First < x.First {
				next = append(next, policy.Ports{Place: p.Place, First: p.First, Last: x.First - 1})
			}
			if x.Last < p.Last {
				next = append(next, policy.Ports{Place: p.Place, First: x.Last + 1, Last: p.Last})
			}
		}
		out = next
	}
	return out
}
