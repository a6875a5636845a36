package ruleset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestWidths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		types []Type
		want  int
	}{
		{[]Type{InetService}, 2}, {[]Type{InetProto}, 1}, {[]Type{IPv6Addr}, 16}, {[]Type{Verdict}, 0},
		{[]Type{IPv4Addr, InetService}, 8}, {[]Type{InetProto, IfName, ICMPType}, 24}, {nil, 0},
	} {
		if s := NewSet("x", c.types, c.types); s.KeyLen() != c.want || s.DataLen() != c.want {
			t.Errorf("%v: %d, want %d", c.types, s.KeyLen(), c.want)
		}
	}
}

// TestFields guards against a field whose type has no size.
func TestFields(t *testing.T) {
	t.Parallel()
	for f := Field(0); f.Type() != TypeNone; f++ {
		if n := f.Type().Size(); n == 0 || f.Type().Padded()%4 != 0 || f.Type().Padded() < n {
			t.Errorf("field %d has %d bytes, padded %d", f, n, f.Type().Padded())
		}
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 100 {
		s := NewSet("x", []Type{InetProto}, []Type{InetProto})
		verdicts := round%2 == 0
		if verdicts {
			s = NewSet("x", []Type{InetProto}, []Type{Verdict})
		}
		s.Interval = round%4 < 2
		type one struct {
			key, high, data byte
			chain           string
			origin          uint32
		}
		var want []one
		for i := range r.IntN(40) {
			x := one{key: byte(r.IntN(8)), origin: uint32(i)}
			if s.Interval {
				x.high = x.key + byte(r.IntN(3))
			}
			if verdicts {
				x.chain = fmt.Sprint(i)
				s.AddVerdict([]byte{x.key}, []byte{x.high}, Action{Kind: Jump, Chain: x.chain}, x.origin)
			} else {
				x.data = byte(r.Uint32())
				s.Add([]byte{x.key}, []byte{x.high}, []byte{x.data}, x.origin)
			}
			want = append(want, x)
		}
		slices.SortStableFunc(want, func(a, b one) int { return int(a.key)<<8 + int(a.high) - int(b.key)<<8 - int(b.high) })
		s.Sort()
		s.Grow(5)
		for i, w := range want {
			got := one{key: s.KeyAt(i)[0], origin: s.OriginAt(i)}
			if s.Interval {
				got.high = s.HighAt(i)[0]
			}
			if verdicts {
				got.chain = s.Verdicts[i].Chain
			} else {
				got.data = s.DataAt(i)[0]
			}
			if got != w {
				t.Fatalf("round %d, element %d: %+v, want %+v", round, i, got, w)
			}
		}
	}
}

func TestWrongLength(t *testing.T) {
	t.Parallel()
	s := NewSet("x", []Type{IPv4Addr}, nil)
	defer func() {
		if recover() == nil {
			t.Error("an element of a wrong length was taken")
		}
	}()
	s.Add([]byte{1, 2}, nil, nil, NoOrigin)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	if got := (Place{File: "policy.yaml", Line: 14, Column: 5}).String(); got != "policy.yaml:14:5" {
		t.Error(got)
	}
	if got := (Place{}).String(); got != "" {
		t.Error(got)
	}
}

func BenchmarkSort(b *testing.B) {
	const n = 100_000
	r := rand.New(rand.NewPCG(3, 4))
	for b.Loop() {
		b.StopTimer()
		s := NewSet("x", []Type{IPv4Addr, InetService}, []Type{IPv4Addr})
		for range n {
			s.Add([]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0, 80, 0, 0}, nil, make([]byte, 4), 0)
		}
		b.StartTimer()
		s.Sort()
	}
}
