package explain

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// slow finds the first element that has a key, by looking at all of them.
func slow(s *ruleset.Set, sizes []int, key []byte) int {
	for i := range s.Len() {
		low := s.KeyAt(i)
		high := low
		if s.Interval {
			high = s.HighAt(i)
		}
		at, inside := 0, true
		for _, size := range sizes {
			v := key[at : at+size]
			inside = inside && bytes.Compare(low[at:at+size], v) <= 0 && bytes.Compare(v, high[at:at+size]) <= 0
			at += (size + 3) &^ 3
		}
		if inside {
			return i
		}
	}
	return -1
}

// TestElements holds look-ups against those that look at everything, in sets of
// all kinds and sizes. Elements may overlap, as ranges that lie across each
// other do: any that has the key is right.
func TestElements(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 9))
	found := 0
	for round := range 400 {
		types := [][]ruleset.Type{
			{ruleset.IPv4Addr}, {ruleset.InetService}, {ruleset.IPv4Addr, ruleset.InetService}, {ruleset.IPv4Addr, ruleset.InetService, ruleset.InetService},
			{ruleset.InetProto, ruleset.IPv6Addr, ruleset.InetService},
		}[round%5]
		src := ruleset.NewSet("x", types, nil)
		src.Interval = round%3 > 0
		// Of few values, so that elements and keys meet.
		key := func(base []byte, span int) []byte {
			var out []byte
			for k, typ := range types {
				v := make([]byte, typ.Padded())
				n := typ.Size()
				if len(types) == 1 {
					v = v[:n]
				}
				was := uint64(0)
				if base != nil {
					was = uint64(base[len(out)+n-1])
					if n > 1 {
						was |= uint64(base[len(out)+n-2]) << 8
					}
				}
				most := []uint64{60, 300, 300}[k]
				x := was + r.Uint64N(uint64(span)+1)
				if base == nil {
					x = r.Uint64N(most)
				}
				if n == 1 {
					x = min(x, 255)
				}
				if n > 1 {
					binary.BigEndian.PutUint16(v[n-2:], uint16(x))
				} else {
					v[0] = byte(x)
				}
				out = append(out, v...)
			}
			return out
		}
		seen := map[string]bool{}
		for range r.IntN(600) {
			low := key(nil, 0)
			high := low
			if src.Interval {
				high = key(low, r.IntN(12))
			}
			if len(types) == 1 && src.Interval {
				high = low // ranges of one field lie apart
			}
			if !seen[string(low)] {
				seen[string(low)] = true
				src.Add(low, high, nil, ruleset.NoOrigin)
			}
		}
		src.Sort()
		s := &set{Set: src}
		s.resolve()
		for range 200 {
			k := key(nil, 0)
			if src.Len() > 0 && r.IntN(2) == 0 {
				k = bytes.Clone(src.KeyAt(r.IntN(src.Len())))
			}
			got, want := s.element(k), slow(src, s.sizes, k)
			if (got < 0) != (want < 0) || got >= 0 && !s.within(src.KeyAt(got), highOf(src, got), k) {
				t.Fatalf("round %d: key %x in %v of %d: %d, want %d", round, k, types, src.Len(), got, want)
			}
			if got >= 0 {
				found++
			}
		}
	}
	if found < 10000 {
		t.Errorf("%d keys were found", found)
	}
}

func highOf(s *ruleset.Set, i int) []byte {
	if s.Interval {
		return s.HighAt(i)
	}
	return s.KeyAt(i)
}

// TestRanges looks at the ends of ranges of one field.
func TestRanges(t *testing.T) {
	t.Parallel()
	src := ruleset.NewSet("x", []ruleset.Type{ruleset.InetService}, nil)
	src.Interval = true
	port := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	for _, r := range [][2]int{{0, 9}, {20, 20}, {21, 30}, {65535, 65535}} {
		src.Add(port(r[0]), port(r[1]), nil, ruleset.NoOrigin)
	}
	s := &set{Set: src}
	s.resolve()
	for n, want := range map[int]int{0: 0, 9: 0, 10: -1, 19: -1, 20: 1, 21: 2, 30: 2, 31: -1, 65534: -1, 65535: 3} {
		if got := s.element(port(n)); got != want {
			t.Errorf("port %d: %d, want %d", n, got, want)
		}
	}
}

// TestChosen finds elements by what they lead to.
func TestChosen(t *testing.T) {
	t.Parallel()
	src := ruleset.NewSet("x", []ruleset.Type{ruleset.Number}, []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService})
	for i := range 300 {
		src.Add(binary.BigEndian.AppendUint32(nil, uint32(i)), nil, []byte{10, 0, byte(i * 7), byte(i), 0, byte(i), 0, 0}, ruleset.NoOrigin)
	}
	s := &set{Set: src}
	s.resolve()
	for i := range 300 {
		if got := s.chosen(netip.AddrFrom4([4]byte{10, 0, byte(i * 7), byte(i)}), uint16(byte(i))); got != i%256 {
			t.Errorf("element %d: %d", i, got)
		}
	}
	if got := s.chosen(netip.MustParseAddr("10.0.0.0"), 1); got != -1 {
		t.Errorf("a port that none leads to: %d", got)
	}
	if got := s.chosen(netip.MustParseAddr("fd00::1"), 1); got != -1 {
		t.Errorf("an address of the other family: %d", got)
	}
}

// BenchmarkRanges looks up ranges of three fields among 100,000.
func BenchmarkRanges(b *testing.B) {
	src := ruleset.NewSet("x", []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService, ruleset.InetService}, nil)
	src.Interval = true
	key := func(i, port int) []byte {
		k := []byte{10, byte(i >> 16), byte(i >> 8), byte(i), 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(k[4:], uint16(port))
		binary.BigEndian.PutUint16(k[8:], uint16(port))
		return k
	}
	const n = 100_000
	for i := range n {
		src.Add(key(i/50, i%50*10), key(i/50, i%50*10+5), nil, ruleset.NoOrigin)
	}
	s := &set{Set: src}
	s.resolve()
	i := 0
	for b.Loop() {
		i = (i*7919 + 1) % n
		if s.element(key(i/50, i%50*10+3)) != i {
			b.Fatal(i)
		}
	}
}
