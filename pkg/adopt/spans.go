package adopt

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// span is a range of addresses of one family.
type span struct{ lo, hi netip.Addr }

// spans are addresses of both families: sorted (IPv4 first) and apart.
type spans []span

func everyAddress() spans {
	return spans{
		{netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})},
		{netip.IPv6Unspecified(), policy.LastOf(netip.MustParsePrefix("::/0"))},
	}
}

func prefixSpan(p netip.Prefix) span { return span{p.Masked().Addr(), policy.LastOf(p)} }

func mergeSpans(s spans) spans {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b span) int { return a.lo.Compare(b.lo) })
	out := s[:0]
	for _, x := range s {
		if n := len(out); n > 0 && out[n-1].lo.BitLen() == x.lo.BitLen() && (!out[n-1].hi.Less(x.lo) || out[n-1].hi.Next() == x.lo) {
			if out[n-1].hi.Less(x.hi) {
				out[n-1].hi = x.hi
			}
			continue
		}
		out = append(out, x)
	}
	return out
}

func (s spans) and(t spans) spans {
	var out spans
	for i, j := 0, 0; i < len(s) && j < len(t); {
		lo, hi := s[i].lo, s[i].hi
		if lo.Less(t[j].lo) {
			lo = t[j].lo
		}
		if t[j].hi.Less(hi) {
			hi = t[j].hi
		}
		if !hi.Less(lo) && lo.BitLen() == hi.BitLen() {
			out = append(out, span{lo, hi})
		}
		if s[i].hi.Less(t[j].hi) {
			i++
		} else {
			j++
		}
	}
	return out
}

func (s spans) minus(t spans) spans {
	out := slices.Clone(s)
	for _, x := range t {
		var next spans
		for _, y := range out {
			if y.lo.BitLen() != x.lo.BitLen() || y.hi.Less(x.lo) || x.hi.Less(y.lo) {
				next = append(next, y)
				continue
			}
			if y.lo.Less(x.lo) {
				next = append(next, span{y.lo, x.lo.Prev()})
			}
			if x.hi.Less(y.hi) {
				next = append(next, span{x.hi.Next(), y.hi})
			}
		}
		out = next
	}
	return out
}

func (s spans) covers(t spans) bool { return len(t.minus(s)) == 0 }

func (s spans) has(a netip.Addr) bool {
	return slices.ContainsFunc(s, func(x span) bool { return !a.Less(x.lo) && !x.hi.Less(a) })
}

// wide says whether the better part of a family's addresses is in it: the
// world, with exceptions.
func (s spans) wide() bool {
	part := [2]float64{}
	for _, x := range s {
		lo, hi := x.lo.AsSlice(), x.hi.AsSlice()
		size := 0.0
		for i := range 4 {
			size = size*256 + float64(hi[i]) - float64(lo[i])
		}
		part[len(lo)/16] += size
	}
	return max(part[0], part[1]) > 1<<31
}

// of gives the part of a family, 4 or 6.
func (s spans) of(family int) spans {
	var out spans
	for _, x := range s {
		if x.lo.Is4() == (family == 4) {
			out = append(out, x)
		}
	}
	return out
}

// text gives a range as the policy language has it: an address, a prefix, a range.
func (x span) text() string { return policy.Address{Low: x.lo, High: x.hi}.String() }

// span16 is a range of ports.
type span16 struct{ lo, hi uint16 }

// ports are ranges of ports, sorted and apart.
type ports []span16

func everyPort() ports { return ports{{0, 65535}} }

func mergePorts(p ports) ports {
	p = slices.Clone(p)
	slices.SortFunc(p, func(a, b span16) int { return int(a.lo) - int(b.lo) })
	out := p[:0]
	for _, x := range p {
		if n := len(out); n > 0 && int(x.lo) <= int(out[n-1].hi)+1 {
			out[n-1].hi = max(out[n-1].hi, x.hi)
			continue
		}
		out = append(out, x)
	}
	return out
}

func (p ports) and(q ports) ports {
	var out ports
	for _, x := range p {
		for _, y := range q {
			if lo, hi := max(x.lo, y.lo), min(x.hi, y.hi); lo <= hi {
				out = append(out, span16{lo, hi})
			}
		}
	}
	return mergePorts(out)
}

func (p ports) minus(q ports) ports {
	out := slices.Clone(p)
	for _, x := range q {
		var next ports
		for _, y := range out {
			if y.hi < x.lo || x.hi < y.lo {
				next = append(next, y)
				continue
			}
			if y.lo < x.lo {
				next = append(next, span16{y.lo, x.lo - 1})
			}
			if x.hi < y.hi {
				next = append(next, span16{x.hi + 1, y.hi})
			}
		}
		out = next
	}
	return out
}

func (p ports) has(n uint16) bool {
	return slices.ContainsFunc(p, func(x span16) bool { return x.lo <= n && n <= x.hi })
}
