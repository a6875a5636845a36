package ruleset

import (
	"bytes"
	"cmp"
	"slices"
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
	Counted bool
	// DataInterval maps give ranges: a value is the low ends of its fields, one
	// behind the other and each padded, then the high ends. NewRangeMap makes them.
	DataInterval bool
	// Dynamic sets are filled by rules. Their elements are the kernel's, and not
	// compared; at most Size of them, which must be told: a key that finds no
	// room is a match that does not hold. Timeout is the seconds after which the
	// kernel forgets a key that nothing came for: what rates are kept in has one,
	// for nothing else would end there; 0 is never.
	Dynamic  bool
	Size     uint32
	Timeout  uint32
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

// NewRangeMap gives an empty map whose values are ranges.
func NewRangeMap(name string, key, data []Type) *Set {
	s := NewSet(name, key, data)
	s.DataInterval, s.dlen = true, 0
	for _, t := range data {
		s.dlen += 2 * t.Padded()
	}
	return s
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
	s.keys = slices.Grow(s.keys, n*s.klen)
	if s.Interval {
		s.highs = slices.Grow(s.highs, n*s.klen)
	}
	s.data = slices.Grow(s.data, n*s.dlen)
	s.origins = slices.Grow(s.origins, n)
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
	sorted := true
	for i := 1; i < s.Len() && sorted; i++ {
		sorted = s.compare(i-1, i) <= 0
	}
	if sorted {
		return
	}
	order := make([]int32, s.Len())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(s.compare(int(a), int(b)), cmp.Compare(a, b)) })
	out := Set{klen: s.klen, dlen: s.dlen, Interval: s.Interval}
	out.Grow(s.Len())
	for _, i := range order {
		var high []byte
		if s.Interval {
			high = s.HighAt(int(i))
		}
		out.Add(s.KeyAt(int(i)), high, s.DataAt(int(i)), s.origins[i])
		if s.Verdicts != nil {
			out.Verdicts = append(out.Verdicts, s.Verdicts[i])
		}
	}
	s.keys, s.highs, s.data, s.origins, s.Verdicts = out.keys, out.highs, out.data, out.origins, out.Verdicts
}

// compare orders two elements by key; of two ranges with one start the shorter
// comes first.
func (s *Set) compare(i, j int) int {
	if c := bytes.Compare(s.KeyAt(i), s.KeyAt(j)); c != 0 || !s.Interval {
		return c
	}
	return bytes.Compare(s.HighAt(i), s.HighAt(j))
}
