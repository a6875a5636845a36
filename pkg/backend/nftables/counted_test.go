//go:build linux

package nftables_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// loopback is a ruleset whose set counts packets to each address; 127.0.0.1 is
// the first of n.
func loopback(n int, comment string, interval bool) *ruleset.Ruleset {
	s := ruleset.NewSet("destinations", []ruleset.Type{ruleset.IPv4Addr}, nil)
	s.Counted, s.Interval, s.Origin.Entry = true, interval, comment
	for i := range n {
		key := []byte{127, byte(i >> 16), byte(i >> 8), byte(i) + 1}
		s.Add(key, key, nil, 0)
	}
	out := &ruleset.Chain{Name: "output", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Output}}
	out.Rules = []*ruleset.Rule{{
		Matches: []ruleset.Match{
			{Fields: []ruleset.Field{ruleset.NFProtoField}, Value: []byte{byte(ruleset.IPv4)}},
			{Fields: []ruleset.Field{ruleset.IPDaddr}, Op: ruleset.In, Set: s.Name},
		},
		Action: ruleset.Action{Kind: ruleset.Accept},
	}}
	return &ruleset.Ruleset{
		Sets: []*ruleset.Set{s}, Chains: []*ruleset.Chain{out}, Origins: []ruleset.Origin{{Entry: "forward counted"}},
	}
}

// TestElementCounters keeps what elements have counted, through changes by
// element and of the set as a whole.
func TestElementCounters(t *testing.T) {
	t.Parallel()
	for _, interval := range []bool{false, true} {
		h := newHost(t)
		h.reach(t, h.want(t, loopback(10, "", interval)))
		first := func() plan.Count { return h.have(t).Sets[0].Elements.CountAt(0) }
		for range 3 {
			h.Send(t)
		}
		last := first()
		if last.Packets != 3 || last.Bytes == 0 {
			t.Fatalf("3 packets count as %+v", last)
		}
		for _, next := range []struct {
			name string
			rs   *ruleset.Ruleset
			kind plan.Kind
		}{
			{"more elements", loopback(20, "", interval), plan.Keep},
			{"fewer elements", loopback(5, "", interval), plan.Keep},
			{"another comment", loopback(5, "x", interval), plan.Replace},
			{"many elements", loopback(250, "x", interval), plan.Keep},
			{"and back", loopback(10, "", interval), plan.Replace},
		} {
			c := h.reach(t, h.want(t, next.rs))
			if len(c.Sets) != 1 || c.Sets[0].Kind != next.kind {
				t.Errorf("%s: %d sets change", next.name, len(c.Sets))
			}
			if got := first(); got != last {
				t.Errorf("%s (ranges: %v): %+v became %+v", next.name, interval, last, got)
			}
		}
		h.Send(t)
		if got := first(); got.Packets != last.Packets+1 {
			t.Errorf("one packet more than %d is %d", last.Packets, got.Packets)
		}
	}
}

// TestSizes grows a hash past the size that it was made for, and shrinks it.
func TestSizes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, n := range []int{10, 200, 1000, 1023, 1024, 1025, 1820, 1821, 5000, 7281, 7282, 7283, 20_000, 30} {
		rs := portForwards(true, false)
		s := ruleset.NewSet("port_forwards", rs.Sets[0].Key, rs.Sets[0].Data)
		for i := range n {
			s.Add(rs.Sets[0].KeyAt(i), nil, rs.Sets[0].DataAt(i), ruleset.NoOrigin)
		}
		rs.Sets[0] = s
		h.reach(t, h.want(t, rs))
	}
}

// TestTextOfMany has nft(8) load sets that are made for a number of elements.
func TestTextOfMany(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lab.Require(t, lab.Binary("nft"))
	rs := loopback(200, "", false)
	many := ruleset.NewSet("many", []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService}, []ruleset.Type{ruleset.IPv4Addr})
	for i := range 2000 {
		many.Add([]byte{10, 0, byte(i >> 8), byte(i), 0, 80, 0, 0}, nil, []byte{10, 1, 0, 1}, 0)
	}
	rs.Sets = append(rs.Sets, many)
	var text strings.Builder
	if err := nftables.Text(&text, rs); err != nil {
		t.Fatal(err)
	}
	h.load(t, text.String())
	if c := plan.Diff(h.have(t), h.want(t, rs)); !c.Empty() {
		t.Errorf("nft(8) makes another table: %s", c.Summary())
	}
	listed := h.nft(t, "list", "table", "inet", "ipmasq")
	h.load(t, "delete table inet ipmasq\n"+listed)
	if c := plan.Diff(h.have(t), h.want(t, rs)); !c.Empty() {
		t.Errorf("what nft lists makes another table: %s", c.Summary())
	}
}

// TestHaveMeanwhile reads while somebody else commits: what it gives is of one
// generation.
func TestHaveMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sides := []*plan.Snapshot{h.want(t, loopback(100, "", false)), h.want(t, loopback(200, "x", false))}
	h.reach(t, sides[0])
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range 40 {
			changes := plan.Diff(h.have(t), sides[(i+1)%2])
			if err := h.Commit(context.Background(), changes, false); err != nil {
				t.Errorf("commit %d: %v", i, err)
				return
			}
		}
	})
	defer wg.Wait()
	for n := 0; ; n++ {
		select {
		case <-done:
			if n == 0 {
				t.Error("nothing was read meanwhile")
			}
			return
		default:
		}
		have := h.have(t)
		if !plan.Diff(have, sides[0]).Empty() && !plan.Diff(have, sides[1]).Empty() {
			t.Fatal("what was read is neither of the two")
		}
	}
}

// TestCancelled stops before it reads.
func TestCancelled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Have(ctx); err == nil {
		t.Error("read after the end")
	}
}
