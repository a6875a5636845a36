package compile

import (
	"cmp"
	"net/netip"
	"slices"
)

// slots are the protocols and families that claims are kept apart by.
const slots = 8

func (k *claim) slot() int {
	return slices.Index(portProtocols(), k.proto)*2 + familyIndex(k.target)
}

// portBits is a set of ports.
type portBits [1024]uint64

// words calls each with the words that a range of ports is in, and its bits in
// them, until it gives false.
func words(first, last uint16, each func(word int, mask uint64) bool) {
	for w := int(first) / 64; w <= int(last)/64; w++ {
		mask := ^uint64(0)
		if low := int(first) - w*64; low > 0 {
			mask &= ^uint64(0) << low
		}
		if high := int(last) - w*64; high < 63 {
			mask &= ^uint64(0) >> (63 - high)
		}
		if !each(w, mask) {
			return
		}
	}
}

// contested gives the claims that share a port with one of another entry, or
// of the same map. Mostly there are none, and nothing has to be sorted. The
// targets of an entry have the same ports, so its first one stands for all.
func (f *forwards) contested() []uint32 {
	seen, twice := new([slots]portBits), new([slots]portBits)
	any := uint64(0)
	for i := range f.claims {
		k := &f.claims[i]
		if k.way > 0 {
			continue
		}
		slot := k.slot()
		words(k.first, k.last, func(w int, mask uint64) bool {
			again := seen[slot][w] & mask
			twice[slot][w] |= again
			any |= again
			seen[slot][w] |= mask
			return true
		})
	}
	if any == 0 {
		return nil
	}
	var out []uint32
	for i := range f.claims {
		k := &f.claims[i]
		slot := k.slot()
		words(k.first, k.last, func(w int, mask uint64) bool {
			if twice[slot][w]&mask == 0 {
				return true
			}
			out = append(out, uint32(i))
			return false
		})
	}
	return out
}

// sweep finds pairs of claims that overlap. A claim is a box: a range of ports,
// of destinations, of sources. It goes along the one side on which the fewest
// of them overlap, so that thousands of entries for one port, told apart by
// their addresses, are as quick as thousands of ports.
type sweep struct {
	*forwards
	ends [][2][2]ends // by entry, family and side
}

// ends are the ends of a range.
type ends struct{ low, high uint32 }

const (
	byPort = iota
	byDestination
	bySource
	sides
)

func newSweep(f *forwards) *sweep {
	s := &sweep{f, make([][2][2]ends, len(f.entries))}
	for family := range 2 {
		hulls := make([][2]span, len(f.entries))
		var points []netip.Addr
		for i, e := range f.entries {
			hulls[i] = [2]span{hull(e.address.given && len(e.address.sets) == 0, e.address.literal[family], family), hull(e.literal, e.allowed[family], family)}
			for _, h := range hulls[i] {
				points = append(points, h.lo, h.hi)
			}
		}
		slices.SortFunc(points, netip.Addr.Compare)
		points = slices.Compact(points)
		rank := func(a netip.Addr) uint32 {
			i, _ := slices.BinarySearchFunc(points, a, netip.Addr.Compare)
			return uint32(i)
		}
		for i := range hulls {
			for side, h := range hulls[i] {
				s.ends[i][family][side] = ends{rank(h.lo), rank(h.hi)}
			}
		}
	}
	return s
}

// hull is the range from the first to the last address, where these are known.
func hull(known bool, list spans, family int) span {
	if !known || len(list) == 0 {
		return whole(family)[0]
	}
	return span{list[0].lo, list[len(list)-1].hi}
}

// box is a claim as it lies along a side.
type box struct {
	ends
	claim uint32
}

func (s *sweep) box(i uint32, side int) box {
	k := &s.claims[i]
	if side == byPort {
		return box{ends{uint32(k.first), uint32(k.last)}, i}
	}
	return box{s.ends[k.entry][familyIndex(k.target)][side-byDestination], i}
}

// each calls pair with all pairs that may overlap, the earlier claim first: of
// entries with several targets, those of the first.
func (s *sweep) each(list []uint32, pair func(i, j uint32)) {
	var groups [slots][]uint32
	for _, i := range list {
		if k := &s.claims[i]; k.way == 0 {
			groups[k.slot()] = append(groups[k.slot()], i)
		}
	}
	for _, group := range groups {
		if len(group) > 0 {
			s.along(group, pair)
		}
	}
}

func (s *sweep) along(group []uint32, pair func(i, j uint32)) {
	var boxes []box
	fewest := 0
	for side := range sides {
		try := make([]box, len(group))
		for n, i := range group {
			try[n] = s.box(i, side)
		}
		slices.SortFunc(try, func(a, b box) int {
			if a.low != b.low {
				return cmp.Compare(a.low, b.low)
			}
			return cmp.Compare(a.claim, b.claim)
		})
		if n := overlaps(try); boxes == nil || n < fewest {
			boxes, fewest = try, n
		}
		if fewest < 16*len(group) {
			break
		}
	}
	var open []box // those that reach up to where we are
	for _, b := range boxes {
		kept := open[:0]
		for _, o := range open {
			if o.high < b.low {
				continue
			}
			kept = append(kept, o)
			pair(min(o.claim, b.claim), max(o.claim, b.claim))
		}
		open = append(kept, b)
	}
}

// overlaps counts the pairs of boxes that overlap, sorted by their low ends.
func overlaps(boxes []box) int {
	highs := make([]uint32, len(boxes))
	for i, b := range boxes {
		highs[i] = b.high
	}
	slices.Sort(highs)
	n, ended := 0, 0
	for i, b := range boxes {
		for ended < len(highs) && highs[ended] < b.low {
			ended++
		}
		n += i - ended
	}
	return n
}
