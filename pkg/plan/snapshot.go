// Package plan compares what a policy wants with what the kernel has: two
// snapshots to a list of changes, and the text that a person reads.
//
// A backend reduces both sides to the same form. What a rule, a set or a chain
// looks like inside is the backend's business: here they are bytes, equal or
// not. Nothing is decompiled, so a snapshot that was read can be put back.
package plan

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Snapshot is one side: what is wanted, or what is there.
type Snapshot struct {
	// Generation is the kernel's number for what was read; 0 for a wanted
	// snapshot.
	Generation uint32
	Chains     []Chain // by name
	Sets       []*Set  // by name
	Counters   []Counter
	Objects    []Object // by kind and name
	// Origins are the entries that elements refer to by index. On the side
	// that was read they have no place.
	Origins []ruleset.Origin
}

// Empty says whether there is nothing of ours at all.
func (s *Snapshot) Empty() bool {
	return len(s.Chains) == 0 && len(s.Sets) == 0 && len(s.Counters) == 0 && len(s.Objects) == 0
}

// Chain is a chain with its rules in order. Attributes tell everything but
// the name (hook, priority, type); a chain without attributes is not attached.
type Chain struct {
	Name       string
	Attributes string
	Rules      []Rule
	Origin     ruleset.Origin
}

// Rule is a rule as the backend encodes it.
type Rule struct {
	Body   []byte
	Origin ruleset.Origin
}

// Set is a set or a map. Attributes tell everything but the name and the
// elements (types, flags).
type Set struct {
	Name       string
	Attributes string
	Origin     ruleset.Origin
	Elements   Elements
}

// Counter is a named counter. Its values are not compared.
type Counter struct {
	Name           string
	Origin         ruleset.Origin
	Packets, Bytes uint64
}

// NoOrigin says that an element has no origin of its own, but its set's.
const NoOrigin = ruleset.NoOrigin

// Elements are the elements of a set, packed: a record is the key followed by
// whatever else there is to an element, as the backend encodes it.
type Elements struct {
	KeyLen  int
	records []byte
	ends    []uint32
	origins []uint32
	// counts are what each element counted, where the set counts. They are not
	// compared.
	counts []Count
}

// Count is what a counter has counted.
type Count struct{ Packets, Bytes uint64 }

// Grow makes room for n more elements of size bytes.
func (e *Elements) Grow(n, size int) {
	e.records = slices.Grow(e.records, n*size)
	e.ends = slices.Grow(e.ends, n)
	e.origins = slices.Grow(e.origins, n)
}

// Append adds an element whose record is the parts put together.
func (e *Elements) Append(origin uint32, parts ...[]byte) {
	for _, p := range parts {
		e.records = append(e.records, p...)
	}
	e.ends = append(e.ends, uint32(len(e.records)))
	e.origins = append(e.origins, origin)
}

// Count notes what the last element counted.
func (e *Elements) Count(c Count) {
	for len(e.counts) < len(e.ends)-1 {
		e.counts = append(e.counts, Count{})
	}
	e.counts = append(e.counts, c)
}

// Len is the number of elements.
func (e *Elements) Len() int { return len(e.ends) }

// At is the record of element i.
func (e *Elements) At(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = e.ends[i-1]
	}
	return e.records[start:e.ends[i]:e.ends[i]]
}

// KeyAt is the key of element i.
func (e *Elements) KeyAt(i int) []byte { return e.At(i)[:e.KeyLen] }

// OriginAt is the index in Snapshot.Origins of element i, or NoOrigin.
func (e *Elements) OriginAt(i int) uint32 { return e.origins[i] }

// CountAt is what element i has counted.
func (e *Elements) CountAt(i int) Count {
	if i >= len(e.counts) {
		return Count{}
	}
	return e.counts[i]
}

// Find gives the index of the element with a key, in sorted elements; -1 where
// there is none.
func (e *Elements) Find(key []byte) int {
	i := sort.Search(e.Len(), func(i int) bool { return bytes.Compare(e.KeyAt(i), key) >= 0 })
	if i < e.Len() && bytes.Equal(e.KeyAt(i), key) {
		return i
	}
	return -1
}

// is says whether these are the very same elements, not only equal ones.
func (e *Elements) is(x *Elements) bool {
	return e.Len() > 0 && e.Len() == x.Len() && &e.ends[0] == &x.ends[0] && &e.origins[0] == &x.origins[0]
}

// Rebase makes origins that count from 0 count from base.
func (e *Elements) Rebase(base uint32) {
	for i, o := range e.origins {
		if o != NoOrigin {
			e.origins[i] = o + base
		}
	}
}

// Sort puts the elements in the order of their records.
func (e *Elements) Sort() {
	sorted := true
	for i := 1; i < e.Len() && sorted; i++ {
		sorted = bytes.Compare(e.At(i-1), e.At(i)) <= 0
	}
	if sorted {
		return
	}
	// The first eight bytes decide nearly always.
	type item struct {
		head  uint64
		index uint32
	}
	items := make([]item, e.Len())
	for i := range items {
		var head [8]byte
		copy(head[:], e.At(i))
		items[i] = item{binary.BigEndian.Uint64(head[:]), uint32(i)}
	}
	slices.SortFunc(items, func(a, b item) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		return cmp.Or(bytes.Compare(e.At(int(a.index)), e.At(int(b.index))), cmp.Compare(a.index, b.index))
	})
	out := Elements{KeyLen: e.KeyLen}
	out.records = make([]byte, 0, len(e.records))
	out.ends = make([]uint32, 0, len(items))
	out.origins = make([]uint32, 0, len(items))
	for _, it := range items {
		out.Append(e.origins[it.index], e.At(int(it.index)))
		if e.counts != nil {
			out.counts = append(out.counts, e.CountAt(int(it.index)))
		}
	}
	*e = out
}

// Normalize puts everything but the rules of a chain in its one order.
func (s *Snapshot) Normalize() {
	sort.Slice(s.Chains, func(i, j int) bool { return s.Chains[i].Name < s.Chains[j].Name })
	sort.Slice(s.Sets, func(i, j int) bool { return s.Sets[i].Name < s.Sets[j].Name })
	sort.Slice(s.Counters, func(i, j int) bool { return s.Counters[i].Name < s.Counters[j].Name })
	sortObjects(s.Objects)
	for _, set := range s.Sets {
		set.Elements.Sort()
	}
}

// ElementOrigin is the origin of element i of a set: its own, else its set's.
func (s *Snapshot) ElementOrigin(set *Set, i int) ruleset.Origin {
	if o := set.Elements.OriginAt(i); o != NoOrigin && s.Origins[o].Entry != "" {
		return s.Origins[o]
	}
	return set.Origin
}
