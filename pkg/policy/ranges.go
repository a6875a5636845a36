package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// ranges gathers the addresses of a set and merges those that overlap. IPv4 is
// kept as numbers: sorting a million of them is then a matter of comparing
// words.
type ranges struct {
	v4 []range4
	v6 []range6
}

type range4 struct {
	low, high    uint32
	line, column uint32
}

type range6 struct {
	low, high    netip.Addr
	line, column uint32
}

func (r *ranges) add(low, high netip.Addr, line, column int) {
	if low.Is4() {
		r.v4 = append(r.v4, range4{number4(low), number4(high), uint32(line), uint32(column)})
		return
	}
	r.v6 = append(r.v6, range6{low, high, uint32(line), uint32(column)})
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// merged gives the ranges in order, IPv4 first, with those that overlap made
// one. Ranges that merely touch stay apart, so that an element of the set is
// one line of its file wherever it can be. The place is that of the range's
// lowest part.
func (r *ranges) merged(file string) []Address {
	order4 := func(a, b range4) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high), cmp.Compare(a.line, b.line))
	}
	if !slices.IsSortedFunc(r.v4, order4) {
		slices.SortFunc(r.v4, order4)
	}
	order6 := func(a, b range6) int {
		return cmp.Or(a.low.Compare(b.low), b.high.Compare(a.high), cmp.Compare(a.line, b.line))
	}
	if !slices.IsSortedFunc(r.v6, order6) {
		slices.SortFunc(r.v6, order6)
	}
	v4 := r.v4[:0]
	for _, a := range r.v4 {
		if n := len(v4); n > 0 && a.low <= v4[n-1].high {
			v4[n-1].high = max(v4[n-1].high, a.high)
			continue
		}
		v4 = append(v4, a)
	}
	v6 := r.v6[:0]
	for _, a := range r.v6 {
		if n := len(v6); n > 0 && !v6[n-1].high.Less(a.low) {
			if v6[n-1].high.Less(a.high) {
				v6[n-1].high = a.high
			}
			continue
		}
		v6 = append(v6, a)
	}
	list := make([]Address, 0, len(v4)+len(v6))
	for _, a := range v4 {
		list = append(list, Address{Place: Place{file, int(a.line), int(a.column)}, Low: addr4(a.low), High: addr4(a.high)})
	}
	for _, a := range v6 {
		list = append(list, Address{Place: Place{file, int(a.line), int(a.column)}, Low: a.low, High: a.high})
	}
	return list
}
