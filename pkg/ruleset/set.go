package ruleset

import (
	"bytes"
	"sort"
)

// Set is a set, or a map where Data is set. A map whose Data is Verdict has
// its values in Verdicts, in the order of its elements.
type Set struct {
	Name   string
	Key    []Type
	Data   []Type
	Origin Origin
	// Interval sets hold ranges; others hold single values and are hashed.
	Interval bool
	// Counted elements count the packets that hit them.
	Counted  bool
	Verdicts []Action // VerdictMap values: Accept, Drop, Jump or Goto

	klen, dlen int
	keys       []byte // n keys of klen bytes
	highs      []byte // the same for Interval: the last key of the range
	data       []byte // n values of dlen bytes
	origins    []uint32
}

// NoOrigin says that an element has no origin of its own, but its set's.
const NoOrigin = ^uint32(0)

// NewSet gives an empty set. Elements are kept packed, without a pointer each,
// because there may be a million.
func NewSet(name string, key, data []Type) *Set {
	return &Set{Name: name, Key: key, Data: data, klen: width(key), dlen: width(data)}
}

// width is the length of a value with these fields. A single field stands as
// it is; the fields of a concatenation are padded.
func width(types []Type) int {
	if len(types) == 1 {
		return types[0].Size()
	}
	n := 0
	for _, t := range types {
		n += t.Padded()
	}
	return n
}

// Grow makes room for n more elements.
func (s *Set) Grow(n int) {
	grow := func(b []byte, n int) []byte {
		if cap(b)-len(b) >= n {
			return b
		}
		return append(make([]byte, 0, len(b)+n), b...)
	}
	s.keys = grow(s.keys, n*s.klen)
	if s.Interval {
		s.highs = grow(s.highs, n*s.klen)
	}
	s.data = grow(s.data, n*s.dlen)
	s.origins = append(make([]uint32, 0, len(s.origins)+n), s.origins...)
}

// Add puts in an element. High is the last key of a range, for an interval
// set; data is nil for a plain set. Lengths are those that KeyLen and DataLen
// tell.
func (s *Set) Add(key, high, data []byte, origin uint32) {
	if len(key) != s.klen || len(data) != s.dlen || (s.Interval && len(high) != s.klen) {
		panic("ruleset: element of a wrong length for set " + s.Name)
	}
	s.keys = append(s.keys, key...)
	if s.Interval {
		s.highs = append(s.highs, high...)
	}
	s.data = append(s.data, data...)
	s.origins = append(s.origins, origin)
}

// AddVerdict puts an element into a verdict map.
func (s *Set) AddVerdict(key, high []byte, verdict Action, origin uint32) {
	s.Add(key, high, nil, origin)
	s.Verdicts = append(s.Verdicts, verdict)
}

// IsVerdictMap says whether the values are verdicts.
func (s *Set) IsVerdictMap() bool { return len(s.Data) == 1 && s.Data[0] == Verdict }

// Len is the number of elements.
func (s *Set) Len() int { return len(s.origins) }

// KeyLen is the length of a key in bytes.
func (s *Set) KeyLen() int { return s.klen }

// DataLen is the length of a value in bytes; 0 for sets and verdict maps.
func (s *Set) DataLen() int { return s.dlen }

// KeyAt is the key of element i, or the first key of its range.
func (s *Set) KeyAt(i int) []byte { return s.keys[i*s.klen : (i+1)*s.klen] }

// HighAt is the last key of the range of element i; of an interval set only.
func (s *Set) HighAt(i int) []byte { return s.highs[i*s.klen : (i+1)*s.klen] }

// DataAt is the value of element i.
func (s *Set) DataAt(i int) []byte { return s.data[i*s.dlen : (i+1)*s.dlen] }

// OriginAt is the index in Ruleset.Origins of element i, or NoOrigin.
func (s *Set) OriginAt(i int) uint32 { return s.origins[i] }

// Sort puts the elements in the order of their keys.
func (s *Set) Sort() {
	if sort.IsSorted(byKey{s}) {
		return
	}
	sort.Stable(byKey{s})
}

type byKey struct{ *Set }

func (b byKey) Less(i, j int) bool {
	if c := bytes.Compare(b.KeyAt(i), b.KeyAt(j)); c != 0 || !b.Interval {
		return c < 0
	}
	return bytes.Compare(b.HighAt(i), b.HighAt(j)) < 0
}

func (b byKey) Swap(i, j int) {
	swap := func(x, y []byte) {
		for k := range x {
			x[k], y[k] = y[k], x[k]
		}
	}
	swap(b.KeyAt(i), b.KeyAt(j))
	if b.Interval {
		swap(b.HighAt(i), b.HighAt(j))
	}
	swap(b.DataAt(i), b.DataAt(j))
	b.origins[i], b.origins[j] = b.origins[j], b.origins[i]
	if b.Verdicts != nil {
		b.Verdicts[i], b.Verdicts[j] = b.Verdicts[j], b.Verdicts[i]
	}
}
