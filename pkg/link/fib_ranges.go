package link

import (
	"encoding/binary"
	"net/netip"
)

// key is an address as a number; IPv4 is in the highest bits, so that the
// length of a prefix counts from there in both families.
type key struct{ high, low uint64 }

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{high: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) compare(o key) int {
	switch {
	case k.high != o.high && k.high < o.high, k.high == o.high && k.low < o.low:
		return -1
	case k == o:
		return 0
	}
	return 1
}

// last is the end of the prefix that begins at k.
func (k key) last(bits uint8) key {
	return key{k.high | ^uint64(0)>>bits, k.low | ^uint64(0)>>(max(bits, 64)-64)}
}

// next is the number behind k, and false behind the highest.
func (k key) next() (key, bool) {
	k.low++
	if k.low == 0 {
		k.high++
	}
	return k, k != key{}
}

// ranges is an answer for every address: the one of the last start that is not
// above it. A start is a number, all of an IPv4 address and half of an IPv6
// one; the lower halves stand apart, and are looked at where one upper half has
// several starts. Most of the time of a look-up is spent waiting for memory, so
// what it goes through is small and close together.
type ranges[K uint32 | uint64] struct {
	// levels[0] are the starts, each once, and each level above has every fan-th
	// of the one below. Each is filled up with the highest number to a multiple
	// of fan; counts are how many there really are.
	levels [][]K
	counts []int
	// lower halves and answers of start i are those from first[i] to first[i+1];
	// without first they are those of the same index, and the halves are zero.
	first   []uint32
	lower   []uint64
	answers []uint32
	of      []answer
}

// fan is how many numbers of a level a look-up chooses from: one cache line of
// IPv4, two of IPv6.
const fan = 16

func (r *ranges[K]) find(k K, lower uint64) *answer {
	if len(r.levels) == 0 {
		return nil
	}
	at := 0
	for i := len(r.levels) - 1; i >= 0; i-- {
		// Every step is a move under a condition, as no jump could be foreseen.
		among, low := (*[fan]K)(r.levels[i][at*fan:]), 0
		if among[8] <= k {
			low = 8
		}
		if next := low + 4; among[next&(fan-1)] <= k {
			low = next
		}
		if next := low + 2; among[next&(fan-1)] <= k {
			low = next
		}
		if next := low + 1; among[next&(fan-1)] <= k {
			low = next
		}
		at = min(at*fan+low, r.counts[i]-1)
	}
	if r.first == nil {
		return &r.of[r.answers[at]]
	}
	low, high := int(r.first[at]), int(r.first[at+1])
	if r.levels[0][at] != k {
		return &r.of[r.answers[high-1]]
	}
	if r.lower[low] > lower {
		return &r.of[r.answers[low-1]] // that of the number below
	}
	for high-low > 1 {
		if middle := (low + high) / 2; r.lower[middle] <= lower {
			low = middle
		} else {
			high = middle
		}
	}
	return &r.of[r.answers[low]]
}

// size is how many starts there are.
func (r *ranges[K]) size() int { return len(r.answers) }

// each hands over the starts in order.
func (r *ranges[K]) each(f func(n K, lower uint64)) {
	if len(r.levels) == 0 {
		return
	}
	for i := range r.counts[0] {
		n := r.levels[0][i]
		if r.first == nil {
			f(n, 0)
			continue
		}
		for _, lower := range r.lower[r.first[i]:r.first[i+1]] {
			f(n, lower)
		}
	}
}

// newRanges takes starts in order, the first of which is zero, and their
// answers.
func newRanges[K uint32 | uint64](starts []key, number func(key) K, answers []uint32, of []answer) ranges[K] {
	r := ranges[K]{answers: answers, of: of}
	numbers, apart := make([]K, 0, len(starts)+fan), false
	for i, k := range starts {
		apart = apart || k.low != 0 || i > 0 && number(k) == number(starts[i-1])
	}
	for i, k := range starts {
		if n := len(numbers); n == 0 || numbers[n-1] != number(k) {
			numbers = append(numbers, number(k))
			if apart {
				r.first = append(r.first, uint32(i))
			}
		}
		if apart {
			r.lower = append(r.lower, k.low)
		}
	}
	if apart {
		r.first = append(r.first, uint32(len(starts)))
	}
	for {
		count := len(numbers)
		for len(numbers)%fan != 0 {
			numbers = append(numbers, ^K(0))
		}
		r.levels, r.counts = append(r.levels, numbers), append(r.counts, count)
		if count <= fan {
			return r
		}
		above := make([]K, 0, len(numbers)/fan+fan)
		for i := 0; i < count; i += fan {
			above = append(above, numbers[i])
		}
		numbers = above
	}
}
