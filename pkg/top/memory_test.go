package top

import (
	"math/rand/v2"
	"testing"
)

// It knows what a map would, whatever comes and goes.
func TestMemoryIsAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m memory
	want := map[uint64]uint32{}
	for round := range uint32(40) {
		for range random.IntN(20_000) {
			// Many share their low bits, and with them their slot.
			id := uint64(random.IntN(50_000)) << random.IntN(4)
			s := m.find(id)
			if _, known := want[id]; known != (s != nil) {
				t.Fatalf("%d is known: %v, want %v", id, s != nil, known)
			}
			if s == nil {
				s = m.add(id)
			}
			s.listing, want[id] = round, round
		}
		old := uint32(random.IntN(4)) + round - 3
		m.sweep(func(s *seen) bool { return s.listing < old || round%10 == 9 })
		for id, listing := range want {
			if listing < old || round%10 == 9 {
				delete(want, id)
			}
		}
		if m.n != len(want) {
			t.Fatalf("%d are known, want %d", m.n, len(want))
		}
		for id, listing := range want {
			if s := m.find(id); s == nil || s.id != id || s.listing != listing {
				t.Fatalf("%d: %+v, want listing %d", id, s, listing)
			}
		}
	}
}
