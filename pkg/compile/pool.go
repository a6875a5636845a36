package compile

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// pool is the public addresses of an entry by family, in the order in which
// they are written. None is there twice.
type pool [2][]span

func poolOf(list []policy.Address) pool {
	var p pool
	for _, a := range list {
		f := familyIndex(a.Low)
		if n := len(p[f]); n > 0 && p[f][n-1].hi.Next() == a.Low {
			p[f][n-1].hi = a.High // one range is what the kernel knows
			continue
		}
		p[f] = append(p[f], span{a.Low, a.High})
	}
	return p
}

// families says of which families the pool has addresses.
func (p *pool) families() [2]bool { return [2]bool{len(p[0]) > 0, len(p[1]) > 0} }

// spans are the addresses in ascending order.
func (p *pool) spans(f int) spans { return merge(slices.Clone(p[f])) }

// size is how many addresses the pool has, or the most that can be counted.
func (p *pool) size(f int) uint64 { return count(p[f]) }

// eachAddr calls do with the addresses of ranges in order, until it returns false.
func eachAddr(list []span, do func(netip.Addr) bool) {
	for _, s := range list {
		for a := s.lo; ; a = a.Next() {
			if !do(a) {
				return
			}
			if a == s.hi {
				break
			}
		}
	}
}

// count is how many addresses ranges have, or the most that can be counted.
func count(list []span) uint64 {
	const most = 1 << 62
	n := uint64(0)
	for _, s := range list {
		lowHigh, lowLow := numbers(s.lo)
		highHigh, highLow := numbers(s.hi)
		size := highLow - lowLow // as if the upper halves were the same
		if highHigh != lowHigh && !(highHigh == lowHigh+1 && highLow < lowLow) || size >= most {
			return most
		}
		if n += size + 1; n >= most {
			return most
		}
	}
	return n
}

// number is a value of the type Number.
func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// mapOf adds a map unless there is one of its name, and gives the name.
func (c *compiler) mapOf(m *ruleset.Set, o ruleset.Origin, fill func()) string {
	m.Name, m.Origin = fit(m.Name), o
	if !c.taken[m.Name] {
		c.taken[m.Name] = true
		fill()
		c.out.Sets = append(c.out.Sets, m)
	}
	return m.Name
}
