package iptables_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// million is a snapshot of a set of a million addresses, but for the first few.
func million(but int) *plan.Snapshot {
	set := &plan.Set{Name: "ipmasq-million", Attributes: "hash:net inet", Elements: plan.Elements{KeyLen: 5}}
	set.Elements.Grow(1_000_000, 5)
	for i := but; i < 1_000_000; i++ {
		set.Elements.Append(plan.NoOrigin, binary.BigEndian.AppendUint32(nil, 0x0b000000+uint32(2*i)), []byte{32})
	}
	return &plan.Snapshot{Sets: []*plan.Set{set}}
}

// What a set of a million addresses costs: to make it, to look whether anybody
// has changed it, to read it, and to change some of it, one by one or as a whole.
func BenchmarkMillion(b *testing.B) {
	h, ctx := newHost(b, "iptables-legacy"), context.Background()
	read := func() *plan.Snapshot {
		s, err := h.Have(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	commit := func(from, to *plan.Snapshot) {
		if err := h.Commit(ctx, plan.Diff(from, to), false); err != nil {
			b.Fatal(err)
		}
	}
	to := func(s *plan.Snapshot, generation uint32) *plan.Snapshot {
		s.Generation = generation
		return s
	}
	all, some, half := million(0), million(1000), million(2100)
	generation := func() uint32 {
		n, err := h.Probe(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			commit(read(), &plan.Snapshot{})
			from := read()
			b.StartTimer()
			commit(from, all)
		}
	})
	commit(read(), all)
	b.Run("probe", func(b *testing.B) {
		for b.Loop() {
			generation()
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			read()
		}
	})
	b.Run("read back", func(b *testing.B) {
		for b.Loop() {
			if _, err := h.HaveAfter(ctx, &plan.Changes{From: all, To: all}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, other := range map[string]*plan.Snapshot{"change 1000": some, "change 2100": half} {
		b.Run(name, func(b *testing.B) {
			now, next := all, other
			for b.Loop() {
				b.StopTimer()
				to(now, generation())
				b.StartTimer()
				commit(now, next)
				now, next = next, now
			}
			commit(to(now, generation()), all)
		})
	}
}
