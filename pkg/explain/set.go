package explain

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// set is a set of the ruleset with what makes looking into it quick. Its
// elements are in the order of their keys, as the compiler leaves them.
type set struct {
	*ruleset.Set
	sizes []int // of the key's fields
	// boxes are, for ranges of several fields, what groups of elements lie
	// within: first groups of elements, then groups of these, and so on.
	boxes [][]byte
	// chains are those that the verdicts lead to, as far as they were needed.
	chains []*chain
	// byData are the elements in the order of their data.
	byData []int32
}

func (s *set) resolve() {
	s.sizes = make([]int, len(s.Key))
	for i, t := range s.Key {
		s.sizes[i] = t.Size()
	}
}

// element gives the element that a key is in, or -1.
func (s *set) element(key []byte) int {
	if len(key) != s.KeyLen() {
		return -1
	}
	if s.Interval && len(s.sizes) > 1 {
		return s.elementOfBoxes(key)
	}
	// The last element that begins at the key or before it.
	low, high := 0, s.Len()
	for low < high {
		mid := int(uint(low+high) >> 1)
		if bytes.Compare(s.KeyAt(mid), key) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	switch i := low - 1; {
	case i < 0:
	case s.Interval:
		if bytes.Compare(key, s.HighAt(i)) <= 0 {
			return i
		}
	case bytes.Equal(s.KeyAt(i), key):
		return i
	}
	return -1
}

// group is how many elements, or boxes, share a box.
const group = 16

// elementOfBoxes finds a key among ranges of several fields. Such ranges have no
// order in which one neighbour would be the answer; but sorted by their low ends
// those that stand together lie together, and most boxes are ruled out.
func (s *set) elementOfBoxes(key []byte) int {
	if s.boxes == nil && s.Len() > group {
		s.makeBoxes()
	}
	return s.search(len(s.boxes)-1, 0, key)
}

// search looks at the boxes of a level in one box of the level above, or at the
// elements, which are level -1. At the top all stand in one.
func (s *set) search(level, parent int, key []byte) int {
	first := s.sizes[0]
	if level < 0 {
		end := min((parent+1)*group, s.Len())
		for i := parent * group; i < end; i++ {
			low := s.KeyAt(i)
			if string(low[:first]) > string(key[:first]) {
				break // all that follow begin behind the key
			}
			if s.within(low, s.HighAt(i), key) {
				return i
			}
		}
		return -1
	}
	boxes, n := s.boxes[level], 2*s.KeyLen()
	end := min((parent+1)*group, len(boxes)/n)
	for i := parent * group; i < end; i++ {
		b := boxes[i*n : (i+1)*n]
		if string(b[:first]) > string(key[:first]) {
			break
		}
		if !s.within(b[:n/2], b[n/2:], key) {
			continue
		}
		if found := s.search(level-1, i, key); found >= 0 {
			return found
		}
	}
	return -1
}

// within says whether each field of a key lies between those of low and high.
func (s *set) within(low, high, key []byte) bool {
	at := 0
	for _, size := range s.sizes {
		end := at + size
		if string(key[at:end]) < string(low[at:end]) || string(key[at:end]) > string(high[at:end]) {
			return false
		}
		at = (end + 3) &^ 3
	}
	return true
}

func (s *set) makeBoxes() {
	n := s.Len()
	low, high := s.KeyAt, s.HighAt
	for n > group {
		k := s.KeyLen()
		count := (n + group - 1) / group
		level := make([]byte, 0, count*2*k)
		for b := range count {
			first := b * group
			at := len(level)
			level = append(append(level, low(first)...), high(first)...)
			for i := first + 1; i < min(first+group, n); i++ {
				s.widen(level[at:at+k], level[at+k:], low(i), high(i))
			}
		}
		s.boxes = append(s.boxes, level)
		low = func(i int) []byte { return level[2*k*i : 2*k*i+k] }
		high = func(i int) []byte { return level[2*k*i+k : 2*k*(i+1)] }
		n = count
	}
}

// widen lets a box have another one inside.
func (s *set) widen(low, high, otherLow, otherHigh []byte) {
	at := 0
	for _, size := range s.sizes {
		end := at + size
		if string(otherLow[at:end]) < string(low[at:end]) {
			copy(low[at:end], otherLow[at:end])
		}
		if string(otherHigh[at:end]) > string(high[at:end]) {
			copy(high[at:end], otherHigh[at:end])
		}
		at = (end + 3) &^ 3
	}
}

// chosen gives the element whose data is an address and, where the map gives
// ports too, a port; or -1. It is for maps from which one is picked.
func (s *set) chosen(a netip.Addr, port uint16) int {
	if s.byData == nil {
		s.byData = make([]int32, s.Len())
		for i := range s.byData {
			s.byData[i] = int32(i)
		}
		slices.SortFunc(s.byData, func(a, b int32) int {
			return cmp.Or(bytes.Compare(s.DataAt(int(a)), s.DataAt(int(b))), cmp.Compare(a, b))
		})
	}
	var want [20]byte
	n := 0
	if a.Is4() {
		b := a.As4()
		n = copy(want[:], b[:])
	} else {
		b := a.As16()
		n = copy(want[:], b[:])
	}
	if len(s.Data) == 2 {
		binary.BigEndian.PutUint16(want[n:], port)
		n += 4
	}
	if n != s.DataLen() {
		return -1
	}
	i := sort.Search(len(s.byData), func(i int) bool { return bytes.Compare(s.DataAt(int(s.byData[i])), want[:n]) >= 0 })
	if i < len(s.byData) && bytes.Equal(s.DataAt(int(s.byData[i])), want[:n]) {
		return int(s.byData[i])
	}
	return -1
}
