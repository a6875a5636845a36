package compile

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// span is a range of addresses, both ends included, of one family.
type span struct{ lo, hi netip.Addr }

// String gives the range as a policy writes it.
func (s span) String() string { return policy.Address{Low: s.lo, High: s.hi}.String() }

// spans are ranges of one family, ascending, neither overlapping nor touching.
type spans []span

// whole is every address of a family.
func whole(family int) spans {
	if family == 0 {
		return spans{{netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})}}
	}
	all := [16]byte{}
	for i := range all {
		all[i] = 0xff
	}
	return spans{{netip.IPv6Unspecified(), netip.AddrFrom16(all)}}
}

// merge puts ranges in order and joins those that overlap or touch.
func merge(in spans) spans {
	if slices.IsSortedFunc(in, func(a, b span) int { return a.lo.Compare(b.lo) }) {
		disjoint := true
		for i := 1; i < len(in) && disjoint; i++ {
			next := in[i-1].hi.Next()
			disjoint = next.IsValid() && next.Less(in[i].lo)
		}
		if disjoint {
			return in
		}
	}
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b span) int { return a.lo.Compare(b.lo) })
	var out spans
	for _, s := range in {
		if n := len(out); n > 0 {
			next := out[n-1].hi.Next()
			if !next.IsValid() || !next.Less(s.lo) {
				if out[n-1].hi.Less(s.hi) {
					out[n-1].hi = s.hi
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// minus is what of a is not in b.
func (a spans) minus(b spans) spans {
	var out spans
	j := 0
	for _, s := range a {
		for j < len(b) && b[j].hi.Less(s.lo) {
			j++
		}
		lo, open := s.lo, true
		for k := j; k < len(b) && !s.hi.Less(b[k].lo); k++ {
			if lo.Less(b[k].lo) {
				out = append(out, span{lo, b[k].lo.Prev()})
			}
			lo = b[k].hi.Next()
			if !lo.IsValid() || s.hi.Less(lo) {
				open = false
				break
			}
		}
		if open {
			out = append(out, span{lo, s.hi})
		}
	}
	return out
}

// intersects says whether any address is in both.
func (a spans) intersects(b spans) bool {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i].hi.Less(b[j].lo):
			i++
		case b[j].hi.Less(a[i].lo):
			j++
		default:
			return true
		}
	}
	return false
}

// and is what is in both.
func (a spans) and(b spans) spans { return a.minus(a.minus(b)) }

// covers says whether all of b is in a.
func (a spans) covers(b spans) bool { return len(b.minus(a)) == 0 }

// equal says whether both are the same addresses.
func (a spans) equal(b spans) bool { return slices.Equal(a, b) }

// content tells ranges apart from others.
func (a spans) content() string {
	b := make([]byte, 0, len(a)*32)
	for _, s := range a {
		b = appendAddr(appendAddr(b, s.lo), s.hi)
	}
	return string(b)
}

// appendAddr appends an address in network byte order. It is not AsSlice,
// which allocates: there may be a million.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

// prefix says whether the range is one prefix, and of how many bits.
func (s span) prefix() (bits int, ok bool) {
	var room [2][16]byte
	lo, hi := appendAddr(room[0][:0], s.lo), appendAddr(room[1][:0], s.hi)
	for bits < len(lo)*8 && bit(lo, bits) == bit(hi, bits) {
		bits++
	}
	for i := bits; i < len(lo)*8; i++ {
		if bit(lo, i) != 0 || bit(hi, i) != 1 {
			return 0, false
		}
	}
	return bits, true
}

func bit(b []byte, i int) byte { return b[i/8] >> (7 - i%8) & 1 }

// prefixes divides a range into networks, the fewest that there can be.
func (s span) prefixes() (out []netip.Prefix) {
	for at := s.lo; at.IsValid() && at.Compare(s.hi) <= 0; {
		widest := netip.PrefixFrom(at, at.BitLen())
		for bits := at.BitLen() - 1; bits >= 0; bits-- {
			p := netip.PrefixFrom(at, bits)
			if p.Masked().Addr() != at || policy.LastOf(p).Compare(s.hi) > 0 {
				break
			}
			widest = p
		}
		out = append(out, widest)
		at = policy.LastOf(widest).Next()
	}
	return out
}
