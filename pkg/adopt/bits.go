package adopt

import "math/bits"

// set256 is a set of the numbers 0 to 255.
type set256 [4]uint64

func every() set256 { return set256{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

func setOf(list ...int) set256 {
	var s set256
	for _, i := range list {
		s.add(i)
	}
	return s
}

func (s *set256) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s set256) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set256) and(t set256) set256 {
	return set256{s[0] & t[0], s[1] & t[1], s[2] & t[2], s[3] & t[3]}
}

func (s set256) or(t set256) set256 {
	return set256{s[0] | t[0], s[1] | t[1], s[2] | t[2], s[3] | t[3]}
}

func (s set256) minus(t set256) set256 {
	return set256{s[0] &^ t[0], s[1] &^ t[1], s[2] &^ t[2], s[3] &^ t[3]}
}

func (s set256) empty() bool { return s == set256{} }

func (s set256) len() int {
	return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) + bits.OnesCount64(s[2]) + bits.OnesCount64(s[3])
}

func (s set256) list() []int {
	var out []int
	for i := range 256 {
		if s.has(i) {
			out = append(out, i)
		}
	}
	return out
}
