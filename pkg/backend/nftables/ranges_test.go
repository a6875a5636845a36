//go:build linux

package nftables_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// span is a range of IPv4 addresses; data and entry are 0 for most.
type span struct {
	low, high   uint32
	data, entry byte
}

// spans are n ranges: single addresses, networks, two side by side, and the
// last address of all.
func spans(n int) []span {
	var list []span
	for i := range uint32(n - 1) {
		at := 0x0b000000 + 64*i
		switch i % 4 {
		case 0:
			list = append(list, span{at, at, 1, 1})
		case 1:
			list = append(list, span{at, at + 63, 2, 0})
		case 2:
			list = append(list, span{at, at, 3, 2}) // right behind the network
		case 3:
			list = append(list, span{at - 63, at + 9, 4, 0}) // right behind the single one
		}
	}
	return append(list, span{0xffffff00, 0xffffffff, 5, 0})
}

// spanned is a ruleset with an interval map of such ranges. Its origins have
// places, which nothing that was read has.
func spanned(list []span) *ruleset.Ruleset {
	rs := &ruleset.Ruleset{}
	for i := range 3 {
		rs.Origins = append(rs.Origins, ruleset.Origin{Entry: fmt.Sprint("entry ", i), Place: ruleset.Place{File: "f", Line: i + 1}})
	}
	s := ruleset.NewSet("spans", []ruleset.Type{ruleset.IPv4Addr}, []ruleset.Type{ruleset.IPv4Addr})
	s.Interval = true
	for _, x := range list {
		low, high := binary.BigEndian.AppendUint32(nil, x.low), binary.BigEndian.AppendUint32(nil, x.high)
		s.Add(low, high, []byte{10, 0, 0, x.data}, uint32(x.entry))
	}
	rs.Sets = []*ruleset.Set{s}
	return rs
}

// saidToLead reads back what a commit is said to have led from and to, and says
// whether that was asked for without reading all. Whatever is said, what is read
// is what is there.
func (h *host) saidToLead(t *testing.T, there *plan.Snapshot, from, to []span) (asked bool) {
	t.Helper()
	f := &plan.Snapshot{}
	if from != nil {
		f = h.want(t, spanned(from))
	}
	f.Generation = there.Generation - 1
	s, err := h.HaveAfter(context.Background(), plan.Diff(f, h.want(t, spanned(to))))
	if err != nil {
		t.Fatal(err)
	}
	if c := plan.Diff(s, there); !c.Empty() || s.Digest() != there.Digest() || s.Generation != there.Generation {
		t.Errorf("what is read back differs from what is there: %s", c.Summary())
	}
	return s.Sets[0].Elements.OriginAt(0) != plan.NoOrigin && s.ElementOrigin(s.Sets[0], 0).Place.File != ""
}

// leads commits, and checks that what is read back was asked for.
func (h *host) leads(t *testing.T, from, to []span) *plan.Snapshot {
	t.Helper()
	h.reach(t, h.want(t, spanned(to)))
	there := h.have(t)
	if !h.saidToLead(t, there, from, to) {
		t.Error("all is dumped")
	}
	return there
}

// TestRangesAskedFor asks after a commit of many ranges, or of a few among many,
// for what is wanted, and finds each way in which the kernel may hold something
// else.
func TestRangesAskedFor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const n = 20_004 // more than are dumped
	before := spans(n)
	h.leads(t, nil, before)
	// A network that shrinks, an address that becomes a network, other data,
	// others that come and go.
	after := slices.Clone(before)
	after[1].high -= 10
	after[8].high += 20
	after[12].data = 9
	after = slices.Delete(after, 20, 24)
	after = slices.Insert(after, 0, span{1, 9, 1, 1}, span{10, 10, 2, 2})
	h.leads(t, before, after)
	there := h.leads(t, after, before)

	change := func(at int, f func(*span)) []span {
		list := slices.Clone(before)
		f(&list[at])
		return list
	}
	far := span{0xe0000000, 0xe00000ff, 1, 0}
	with := func(list []span, more ...span) []span { return append(slices.Clone(list), more...) }
	without := slices.Delete(slices.Clone(before), 1, 2)
	for _, x := range []struct {
		name     string
		from, to []span // what the commit is said to have led from and to
	}{
		{"starts later", before, change(1, func(s *span) { s.low++ })},
		{"starts earlier", before, change(0, func(s *span) { s.low-- })},
		{"ends earlier", before, change(1, func(s *span) { s.high-- })},
		{"ends later", before, change(0, func(s *span) { s.high++ })},
		{"other data", before, change(n/2, func(s *span) { s.data = 99 })},
		{"another entry", before, change(n/2, func(s *span) { s.entry ^= 3 })},
		{"one that is not there", before, with(before, far)},
		{"another one", before, with(without, far)},
		{"the last one ends", before, change(n-1, func(s *span) { s.high-- })},
		{"two that are one", before, with(without, span{0x0b000040, 0x0b00005f, 2, 0}, span{0x0b000060, 0x0b00007f, 2, 0})},
		// The number is right in these, and nothing came.
		{"not gone", with(before, far), with(without, far)},
		{"its start not gone", with(without, far, span{0x0b000030, 0x0b000050, 1, 0}), with(without, far)},
		{"its end not gone", with(without, far, span{0x0b000050, 0x0b000060, 1, 0}), with(without, far)},
	} {
		if h.saidToLead(t, there, x.from, x.to) {
			t.Errorf("%s: a few: not found", x.name)
		}
		if h.saidToLead(t, there, nil, x.to) {
			t.Errorf("%s: all: not found", x.name)
		}
	}
	if kernelCounts(t) && h.saidToLead(t, there, nil, without) {
		t.Error("one too many: not found")
	}
}

// kernelCounts says whether the kernel tells how many elements a set has.
func kernelCounts(t *testing.T) bool {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 16
}
