package compile

import (
	"encoding/binary"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// alternative is a conjunction of matches. A condition that no single
// conjunction can say is several alternatives, a rule each.
type alternative struct {
	family  narrowed
	matches []ruleset.Match
}

// anything is the condition that every packet meets.
func anything() []alternative { return []alternative{{}} }

// and joins two conditions. Alternatives of different families never meet.
func and(a, b []alternative) []alternative {
	var out []alternative
	for _, x := range a {
		for _, y := range b {
			f := x.family
			switch {
			case f == 0:
				f = y.family
			case y.family != 0 && y.family != f:
				continue
			}
			out = append(out, alternative{f, append(slices.Clone(x.matches), y.matches...)})
		}
	}
	return out
}

func isFamily(f int) ruleset.Match {
	return ruleset.Match{Fields: []ruleset.Field{ruleset.NFProtoField}, Value: []byte{byte(familyOf(f))}}
}

func equal(f ruleset.Field, v ...byte) ruleset.Match {
	return ruleset.Match{Fields: []ruleset.Field{f}, Value: v}
}

func in(set string, fields ...ruleset.Field) ruleset.Match {
	return ruleset.Match{Fields: fields, Op: ruleset.In, Set: set}
}

func anyBit(f ruleset.Field, bits uint32) ruleset.Match {
	return ruleset.Match{Fields: []ruleset.Field{f}, Op: ruleset.AnyOf, Value: binary.BigEndian.AppendUint32(nil, bits)}
}

// isLocal matches destinations that the host holds now.
func isLocal() ruleset.Match { return equal(ruleset.FibDaddrType, 0, 0, 0, ruleset.RTNLocal) }

// isArriving matches destinations that the host holds on the interface that
// the packet came in by.
func isArriving() ruleset.Match { return equal(ruleset.FibDaddrIifType, 0, 0, 0, ruleset.RTNLocal) }

// negated is the opposite of a match that has one.
func negated(m ruleset.Match) ruleset.Match {
	switch m.Op {
	case ruleset.Equal:
		m.Op = ruleset.NotEqual
	case ruleset.In:
		m.Op = ruleset.NotIn
	default:
		panic("compile: a match without an opposite")
	}
	return m
}

// side is the address fields of a packet's source or destination, by family.
type side [2]ruleset.Field

func sources() side      { return side{ruleset.IPSaddr, ruleset.IP6Saddr} }
func destinations() side { return side{ruleset.IPDaddr, ruleset.IP6Daddr} }
