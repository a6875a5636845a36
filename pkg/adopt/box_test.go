package adopt

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// point is one packet, as boxes see it.
type point struct {
	b            [sides]int
	src, dst     netip.Addr
	sport, dport uint16
}

func (x box) holds(p point) bool {
	for i := range x.b {
		if !x.b[i].has(p.b[i]) {
			return false
		}
	}
	return x.src.has(p.src) && x.dst.has(p.dst) && ports(x.sport).has(p.sport) && ports(x.dport).has(p.dport)
}

func somePoint(r *rand.Rand) point {
	p := point{sport: uint16(r.IntN(6)), dport: uint16(r.IntN(6))}
	for i := range p.b {
		p.b[i] = r.IntN(3)
	}
	p.b[byState], p.b[byDNAT], p.b[byDstType], p.b[bySrcType] = r.IntN(5), r.IntN(2), r.IntN(4), r.IntN(4)
	p.b[byFamily] = 4 + 2*r.IntN(2)
	address := func() netip.Addr {
		if p.b[byFamily] == 4 {
			return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))})
		}
		return netip.AddrFrom16([16]byte{0xfd, 15: byte(r.IntN(8))})
	}
	p.src, p.dst = address(), address()
	return p
}

func someBox(r *rand.Rand) box {
	x := everything()
	for range 1 + r.IntN(4) {
		a, b := somePoint(r), somePoint(r)
		side := r.IntN(sides + 4)
		switch side {
		case sides, sides + 1:
			if a.src.BitLen() != b.src.BitLen() || b.src.Less(a.src) {
				continue
			}
			s := spans{{a.src, b.src}}
			if r.IntN(2) == 0 {
				s = everyAddress().minus(s)
			}
			if side == sides {
				x.src = x.src.and(s)
			} else {
				x.dst = x.dst.and(s)
			}
		case sides + 2:
			x.sport = x.sport.and(ports{{min(a.sport, b.sport), max(a.sport, b.sport)}})
		case sides + 3:
			x.dport = x.dport.minus(ports{{min(a.sport, b.sport), max(a.sport, b.sport)}})
		default:
			s := setOf(a.b[side], b.b[side])
			if r.IntN(2) == 0 {
				s = x.b[side].minus(s)
			}
			x.b[side] = x.b[side].and(s)
		}
	}
	return x.narrowed()
}

// TestBoxes holds what is reckoned with boxes to what is so packet by packet.
func TestBoxes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		x, y := someBox(r), someBox(r)
		both, rest := x.and(y), x.minus(y)
		one, joins := x.joined(y)
		if x.covers(y) != (len(y.minus(x)) == 0) {
			t.Fatal("covers is not what minus says")
		}
		for range 60 {
			p := somePoint(r)
			in, out := x.holds(p), y.holds(p)
			if both.holds(p) != (in && out) {
				t.Fatalf("and: %v is in %v and %v: %v, %v", p, x, y, in, out)
			}
			n := 0
			for _, z := range rest {
				if z.holds(p) {
					n++
				}
			}
			if want := in && !out; n > 1 || (n == 1) != want {
				t.Fatalf("minus: %v is in %d boxes of %+v minus %+v", p, n, x, y)
			}
			if joins && one.holds(p) != (in || out) {
				t.Fatalf("joined: %v\n%+v\n%+v\n%+v", p, x, y, one)
			}
		}
	}
}
