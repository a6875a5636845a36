//go:build linux

package nftables_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// size is how many elements the benchmarks are of.
const size = 100_000

// portForwards is a map like the one of so many port forwards.
func portForwards(counted, commented bool) *ruleset.Ruleset {
	rs := &ruleset.Ruleset{}
	s := ruleset.NewSet("port_forwards", []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService},
		[]ruleset.Type{ruleset.IPv4Addr, ruleset.InetService})
	s.Counted = counted
	s.Grow(size)
	for i := range size {
		key := []byte{10, 0, byte(i >> 16), byte(i >> 8), byte(i), 80, 0, 0}
		data := []byte{192, 168, byte(i >> 8), byte(i), 31, 144, 0, 0}
		origin := uint32(ruleset.NoOrigin)
		if commented {
			origin = uint32(len(rs.Origins))
			rs.Origins = append(rs.Origins, ruleset.Origin{Entry: fmt.Sprintf("port_forward entry-%06d", i)})
		}
		s.Add(key, nil, data, origin)
	}
	rs.Sets = []*ruleset.Set{s}
	return rs
}

// networks is a set of so many ranges.
func networks() *ruleset.Ruleset {
	s := ruleset.NewSet("networks", []ruleset.Type{ruleset.IPv4Addr}, nil)
	s.Interval = true
	for i := range size {
		n := i * 32
		low := []byte{20 + byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)}
		high := []byte{low[0], low[1], low[2], low[3] | 15}
		s.Add(low, high, nil, ruleset.NoOrigin)
	}
	return &ruleset.Ruleset{Sets: []*ruleset.Set{s}}
}

func kinds() map[string]*ruleset.Ruleset {
	return map[string]*ruleset.Ruleset{
		"plain":             portForwards(false, false),
		"counted":           portForwards(true, false),
		"commented":         portForwards(false, true),
		"counted+commented": portForwards(true, true),
		"ranges":            networks(),
	}
}

func BenchmarkWant(b *testing.B) {
	h := newHost(b)
	for name, rs := range kinds() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.want(b, rs)
			}
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	for name, rs := range kinds() {
		b.Run(name, func(b *testing.B) {
			h := newHost(b)
			want := h.want(b, rs)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				changes := plan.Diff(h.have(b), want)
				b.StartTimer()
				if err := h.Commit(context.Background(), changes, false); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				h.reach(b, &plan.Snapshot{})
				b.StartTimer()
			}
		})
	}
}

func BenchmarkHave(b *testing.B) {
	for name, rs := range kinds() {
		b.Run(name, func(b *testing.B) {
			h := newHost(b)
			h.reach(b, h.want(b, rs))
			b.ReportAllocs()
			for b.Loop() {
				h.have(b)
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	for name, rs := range kinds() {
		b.Run(name, func(b *testing.B) {
			h := newHost(b)
			want := h.want(b, rs)
			h.reach(b, want)
			have := h.have(b)
			b.ReportAllocs()
			for b.Loop() {
				if !plan.Diff(have, want).Empty() {
					b.Fatal("differs")
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	want := newHost(b).want(b, portForwards(true, true))
	b.ReportAllocs()
	for b.Loop() {
		want.Digest()
	}
}

// BenchmarkOneElement changes one element among many.
func BenchmarkOneElement(b *testing.B) {
	h := newHost(b)
	all := portForwards(true, true)
	h.reach(b, h.want(b, all))
	have := h.have(b)
	fewer := &ruleset.Ruleset{Origins: all.Origins}
	s := ruleset.NewSet("port_forwards", all.Sets[0].Key, all.Sets[0].Data)
	s.Counted = true
	for i := range size - 1 {
		s.Add(all.Sets[0].KeyAt(i), nil, all.Sets[0].DataAt(i), all.Sets[0].OriginAt(i))
	}
	fewer.Sets = []*ruleset.Set{s}
	changes := [2]*plan.Changes{plan.Diff(have, h.want(b, fewer))}
	if err := h.Commit(context.Background(), changes[0], false); err != nil {
		b.Fatal(err)
	}
	changes[1] = plan.Diff(h.have(b), h.want(b, all))
	i := 1
	for b.Loop() {
		g, err := h.Probe(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		changes[i].From.Generation = g
		if err := h.Commit(context.Background(), changes[i], false); err != nil {
			b.Fatal(err)
		}
		i = 1 - i
	}
}
