package iptables

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// runs joins neighbours that are the same but for ports, which follow each other
// in all of them. An element of several ports is then as wide as it is high: it
// holds combinations that the elements do not.
func (t *translator) runs(set *ruleset.Set, groups []group, shifts bool) []group {
	if !slices.Contains(set.Key, ruleset.InetService) {
		return groups
	}
	out := groups[:0:0]
	var steps []uint16 // of the ports of the last run
	for _, g := range groups {
		if n := len(out); n > 0 && g.addresses == nil && out[n-1].addresses == nil && g.first == out[n-1].first+out[n-1].size {
			if next, ok := t.follows(set, g.first, shifts); ok && (!out[n-1].run || slices.Equal(steps, next)) {
				steps = next
				out[n-1].size++
				out[n-1].run = true
				continue
			}
		}
		out = append(out, g)
	}
	return out
}

// follows says whether an element is the one before it but for ports that are the
// next ones, and which are.
func (t *translator) follows(set *ruleset.Set, i int, shifts bool) (steps []uint16, ok bool) {
	a, b := set.KeyAt(i-1), set.KeyAt(i)
	if !bytes.Equal(a, highAt(set, i-1)) || !bytes.Equal(b, highAt(set, i)) || t.entryAt(set, i-1) != t.entryAt(set, i) {
		return nil, false
	}
	steps, ok = advance(set.Key, a, b, nil)
	if !ok || !slices.Contains(steps, 1) {
		return nil, false
	}
	switch {
	case set.IsVerdictMap():
		return steps, set.Verdicts[i-1].Kind == set.Verdicts[i].Kind && set.Verdicts[i-1].Chain == set.Verdicts[i].Chain
	case len(set.Data) == 0 || set.DataInterval:
		return steps, bytes.Equal(set.DataAt(i-1), set.DataAt(i))
	}
	steps, ok = advance(set.Data, set.DataAt(i-1), set.DataAt(i), steps)
	return steps, ok && (shifts || bytes.Equal(set.DataAt(i-1), set.DataAt(i)))
}

// advance compares two values: ports may be the next ones.
func advance(types []ruleset.Type, a, b []byte, steps []uint16) ([]uint16, bool) {
	for _, typ := range types {
		size, width := typ.Size(), typ.Padded()
		if len(types) == 1 {
			width = size
		}
		if typ == ruleset.InetService {
			d := binary.BigEndian.Uint16(b) - binary.BigEndian.Uint16(a)
			if d > 1 {
				return nil, false
			}
			steps = append(steps, d)
		} else if !bytes.Equal(a[:size], b[:size]) {
			return nil, false
		}
		a, b = a[width:], b[width:]
	}
	return steps, true
}

// entryAt is the entry of an element, if it has one of its own.
func (t *translator) entryAt(set *ruleset.Set, i int) string {
	if o := set.OriginAt(i); o != ruleset.NoOrigin {
		return t.rules.Origins[o].Entry
	}
	return ""
}
