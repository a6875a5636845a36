package top

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

const (
	maxFlowRows = 10_000
	maxAddrRows = 100_000
)

// Table remembers the flows of the last listings. It serves one goroutine at a
// time.
type Table struct {
	judge       Judge
	match       func(*conntrack.Flow) bool
	matchPolicy func(*flows.Judgement) bool
	restless    bool
	seed        maphash.Seed

	known   memory
	entries []entry
	index   map[string]uint32 // of entries

	listing     uint32
	last, now   time.Time // when the last whole listing began, and this one
	sample      *Sample
	byHost      map[netip.Addr]*Row
	byEntry     []Row // by index of entries
	byDest      map[netip.Addr]*Row
	best        best
	word        string
	maxAddress  int
	row, turned Row // of the flow that is being added: a million are not allocated
}

// entry is an entry that flows belong to.
type entry struct {
	name string
	kind kind
}

// Question is what is asked of the rows of flows, of which only the first are
// kept: how they are sorted, and what text they have to hold.
type Question struct {
	Sort     Column
	Reversed bool
	Text     string
}

// Sample is one listing, made into rows.
type Sample struct {
	At time.Time
	// Since is the time since the sample before, and 0 for the first one: it has
	// no rates.
	Since time.Duration
	// Flows were in the listing. New ones were not in the one before, and Ended
	// ones no longer in this one; the first sample knows of none.
	Flows, New, Ended int
	// Uncounted are flows that the kernel does not count for.
	Uncounted int
	Sum       Row // of all flows
	Question  Question
	rows      [views][]Row
}

// NewTable makes an empty table. Only the options' judge, Match and MatchPolicy
// are used: Filter is for the listing.
func NewTable(o *Options) *Table {
	return &Table{judge: o.Judge, match: o.Match, matchPolicy: o.MatchPolicy, restless: o.restless(), seed: maphash.MakeSeed(),
		index: map[string]uint32{}, maxAddress: maxAddrRows}
}

// Begin begins a listing.
func (t *Table) Begin(at time.Time, q Question) {
	t.listing++
	t.now = at
	t.sample = &Sample{At: at, Question: q}
	if !t.last.IsZero() {
		t.sample.Since = at.Sub(t.last)
	}
	t.byHost, t.byDest, t.byEntry = map[netip.Addr]*Row{}, map[netip.Addr]*Row{}, make([]Row, len(t.entries))
	t.word = strings.ToLower(q.Text)
	t.best = best{order: order{q.Sort, q.Reversed}, limit: maxFlowRows}
}

// Add takes in a flow of the listing. It does not keep f.
func (t *Table) Add(f *conntrack.Flow) {
	if t.match != nil && !t.match(f) {
		return
	}
	id := identity(t.seed, f)
	s := t.known.find(id)
	known := s != nil
	switch {
	case !known:
		s = t.known.add(id)
		s.entry = t.belongs(f)
	case s.listing == t.listing:
		return // a listing may hold a flow twice
	}
	before := s.listing
	now := Traffic{f.Sent.Bytes, f.Received.Bytes, f.Sent.Packets, f.Received.Packets}
	recent, anew := t.recent(f, s, known, now)
	s.note(now, t.listing)
	if s.entry == excluded {
		return
	}
	t.sample.Flows++
	if t.sample.Since > 0 && (!known || anew || before != t.listing-1) {
		t.sample.New++
	}
	if anew && before == t.listing-1 {
		t.sample.Ended++ // the one that was there before
	}
	if !f.Counted {
		t.sample.Uncounted++
	}
	t.row = Row{Flows: 1, Counted: f.Counted, Recent: recent, Bytes: now.SentBytes + now.ReceivedBytes}
	t.count(f, id, s.entry)
}

// recent is what a flow carried since the sample before.
func (t *Table) recent(f *conntrack.Flow, s *seen, known bool, now Traffic) (_ Traffic, anew bool) {
	switch {
	case known:
		recent, anew := s.since(now)
		if missed := t.listing - s.listing; missed > 1 && !anew {
			recent = recent.shared(uint64(missed))
		}
		return recent, anew
	case t.sample.Since == 0 || t.restless || !f.Start.IsZero() && f.Start.Before(t.last):
		// It may have carried this long before.
		return Traffic{}, false
	}
	return now, false
}

// count adds the flow in t.row to its rows.
func (t *Table) count(f *conntrack.Flow, id uint64, index uint32) {
	r, e := &t.row, t.entries[index]
	t.sample.Sum.add(r)
	for int(index) >= len(t.byEntry) {
		t.byEntry = append(t.byEntry, Row{})
	}
	t.byEntry[index].add(r)
	t.byAddress(t.byDest, ByDestination, destinationOf(f, e.kind)).add(r)
	host, opened := hostOf(f, e.kind)
	t.turned = *r
	if !opened {
		t.turned.Recent = r.Recent.swapped()
	}
	t.byAddress(t.byHost, ByHost, host).add(&t.turned)
	r.Key, r.Flow = Key{View: ByFlow, Entry: e.name, flow: id}, f
	if r.contains(t.word) {
		t.best.offer(r)
	}
}

// byAddress is the row of an address, or that of all for which there is no room.
func (t *Table) byAddress(rows map[netip.Addr]*Row, v View, a netip.Addr) *Row {
	r := rows[a]
	if r == nil && len(rows) >= t.maxAddress {
		a = netip.Addr{}
		r = rows[a]
	}
	if r == nil {
		r = &Row{Key: Key{View: v, Addr: a}}
		rows[a] = r
	}
	return r
}

// belongs asks the judge for a new flow's entry.
func (t *Table) belongs(f *conntrack.Flow) uint32 {
	var j flows.Judgement
	if t.judge != nil {
		j = t.judge.Judge(f)
	}
	if t.matchPolicy != nil && !t.matchPolicy(&j) {
		return excluded
	}
	name := j.Origin.Entry
	if name == "" {
		name = "-"
	}
	i, ok := t.index[name]
	if !ok {
		i = uint32(len(t.entries))
		t.entries = append(t.entries, entry{name, kindOf(name)})
		t.index[name] = i
	}
	return i
}

// End ends a whole listing. A flow that is missing is remembered for one more:
// the kernel may pass over one while its table changes its size.
func (t *Table) End() *Sample {
	t.known.sweep(func(s *seen) bool {
		if s.listing == t.listing-1 && s.entry != excluded {
			t.sample.Ended++
		}
		return s.listing < t.listing-1
	})
	for i, r := range t.byEntry {
		if r.Key = (Key{View: ByEntry, Entry: t.entries[i].name}); r.Flows > 0 {
			t.sample.rows[ByEntry] = append(t.sample.rows[ByEntry], r)
		}
	}
	t.sample.rows[ByHost], t.sample.rows[ByDestination] = values(t.byHost), values(t.byDest)
	t.byHost, t.byDest, t.byEntry = nil, nil, nil
	t.sample.rows[ByFlow] = t.best.rows
	t.best.rows = nil
	t.last = t.now
	return t.sample
}

func values(rows map[netip.Addr]*Row) []Row {
	list := make([]Row, 0, len(rows))
	for _, r := range rows {
		list = append(list, *r)
	}
	return list
}

// Abandon ends a listing that broke off. What it held of the flows is half old
// and half new, so the next one begins as the first.
func (t *Table) Abandon() {
	t.known = memory{}
	t.last = time.Time{}
	t.byHost, t.byDest, t.byEntry, t.best.rows = nil, nil, nil, nil
}

// Has says whether a flow is one of those that a row stands for. One that was
// in no listing yet is not.
func (t *Table) Has(k Key, f *conntrack.Flow) bool {
	id := identity(t.seed, f)
	s := t.known.find(id)
	if s == nil || s.entry == excluded || t.match != nil && !t.match(f) {
		return false
	}
	e := t.entries[s.entry]
	switch k.View {
	case ByHost:
		host, _ := hostOf(f, e.kind)
		return host == k.Addr
	case ByEntry:
		return e.name == k.Entry
	case ByDestination:
		return destinationOf(f, e.kind) == k.Addr
	}
	return id == k.flow
}
