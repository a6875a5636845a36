package explain

import (
	"bytes"
	"encoding/binary"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// match is a condition with its set found. A value that is compared bit by bit
// is two words, with the bits that count: that is as quick for any field.
type match struct {
	field      ruleset.Field
	not        bool // the condition is that it is not so
	between    bool // low and high count
	want, mask [2]uint64
	low, high  []byte
	fields     []ruleset.Field // of a key that is in set
	set        *set
}

func (w *Walker) resolveMatch(m *ruleset.Match) match {
	out := match{field: m.Fields[0]}
	size := out.field.Type().Size()
	switch m.Op {
	case ruleset.In, ruleset.NotIn:
		out.fields, out.set, out.not = m.Fields, w.set(m.Set), m.Op == ruleset.NotIn
	case ruleset.Between:
		out.between, out.low, out.high = true, m.Value, m.High
	case ruleset.Equal, ruleset.NotEqual:
		bits := m.Bits
		if bits == 0 {
			bits = size * 8
		}
		var mask [slot]byte
		for i := range bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		out.want, out.mask, out.not = words(m.Value), words(mask[:]), m.Op == ruleset.NotEqual
		out.want[0] &= out.mask[0]
		out.want[1] &= out.mask[1]
	case ruleset.Masked, ruleset.NotMasked:
		out.want, out.mask, out.not = words(m.Value), words(m.High), m.Op == ruleset.NotMasked
	case ruleset.AnyOf: // not none of them
		out.mask, out.not = words(m.Value), true
	}
	return out
}

// words gives the bytes of a value as a frame's slot has them.
func words(value []byte) [2]uint64 {
	var b [slot]byte
	copy(b[:], value)
	return [2]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
}

// holds says whether the packet meets a condition. A field that it does not
// have meets none.
func (w *Walker) holds(m *match) bool {
	if m.set != nil {
		i, ok := w.find(m.set, m.fields)
		return ok && (i < 0) == m.not
	}
	if !w.has(m.field) {
		return false
	}
	v := w.frame.values[int(m.field)*slot:][:slot]
	if m.between {
		v = v[:len(m.low)]
		return bytes.Compare(m.low, v) <= 0 && bytes.Compare(v, m.high) <= 0
	}
	a, b := binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:])
	return ((a&m.mask[0]^m.want[0])|(b&m.mask[1]^m.want[1]) != 0) == m.not
}

// longestKey is room for any key: a set has at most as many bytes in its key
// (NFT_REG32_COUNT).
const longestKey = 64

// find gives the element of a set that the packet's fields are in, or -1. It is
// not ok where the packet lacks one of them.
func (w *Walker) find(s *set, fields []ruleset.Field) (i int, ok bool) {
	var key [longestKey]byte
	n := 0
	for k, f := range fields {
		size := s.sizes[k]
		v, ok := w.value(f, size)
		if !ok {
			return -1, false
		}
		copy(key[n:], v)
		if len(fields) == 1 {
			n += size
		} else {
			n += (size + 3) &^ 3
		}
	}
	return s.element(key[:n]), true
}
