package link

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// localTable has the host's own addresses, which come before all else.
const localTable = 255

// fibRule is a rule of ip-rule(8) as far as a destination decides about it.
type fibRule struct {
	priority int
	action   ruleAction
	// tables are where it looks: one, or those of all VRFs.
	tables []int
	target int // of a jump: the priority to go on at
	// asks says that it asks for more than the destination.
	asks     bool
	to       netip.Prefix // not valid: any
	invert   bool
	suppress int // prefixes of this length and shorter do not count; -1 is none
	slots    []int
	within   int // the slot of to, or -1
}

type ruleAction uint8

// FR_ACT_* of linux/fib_rules.h.
const (
	actLookup      ruleAction = 1
	actGoto        ruleAction = 2
	actBlackhole   ruleAction = 6
	actUnreachable ruleAction = 7
	actProhibit    ruleAction = 8
)

// fibEntry is one route, or the destination of a rule.
type fibEntry struct {
	start  key
	slot   int32 // of its table
	metric uint32
	hops   uint32 // the list of its interfaces
	bits   uint8
	kind   uint8
	tos    bool // for one type of service alone
}

// fib builds the ranges of one family. It goes over all prefixes in order of
// their first address, a longer one behind the shorter, and keeps for each
// table which of its prefixes is the longest at the moment.
type fib struct {
	family  Family
	rules   []fibRule
	slots   map[int]int // of tables
	entries []fibEntry
	// merged says that the local table and the main one are one, as those of IPv4
	// are until the first change of a rule (fib_unmerge of net/ipv4).
	merged bool

	lists   [][]string
	listIDs map[string]uint32

	now    []int32 // for each slot one more than the index of the first entry
	open   []fibFrame
	starts []key
	ids    []uint32 // of the answers from the starts on
	of     []answer
	known  map[string]uint32

	best, behind []uint32
	text         []byte
	refusals     []Refusal
}

type fibFrame struct {
	end    key
	slot   int32
	before int32
}

// newFIB takes the rules in the order of their priorities. Routes of tables
// that no rule leads to are of no interest.
func newFIB(family Family, rules []fibRule) *fib {
	f := &fib{
		family: family, rules: rules, slots: map[int]int{localTable: 0},
		lists: [][]string{nil}, listIDs: map[string]uint32{"": 0}, known: map[string]uint32{},
	}
	for i := range rules {
		r := &rules[i]
		for _, table := range r.tables {
			slot, known := f.slots[table]
			if !known {
				slot = len(f.slots)
				f.slots[table] = slot
			}
			r.slots = append(r.slots, slot)
		}
	}
	next := len(f.slots)
	for i := range rules {
		rules[i].within = -1
		if rules[i].to.IsValid() {
			rules[i].within = next
			next++
		}
	}
	f.merged = family == IPv4 && len(rules) == 3 && rules[0].plain(0, localTable) && rules[1].plain(32766, MainTable)
	f.now = make([]int32, next)
	f.reset()
	return f
}

// plain says whether a rule does nothing but look in a table.
func (r *fibRule) plain(priority, table int) bool {
	return r.priority == priority && r.action == actLookup && slices.Equal(r.tables, []int{table}) &&
		!r.asks && !r.to.IsValid() && !r.invert && r.suppress < 0
}

// reset forgets the routes.
func (f *fib) reset() {
	f.entries, f.refusals = f.entries[:0], nil
	for _, r := range f.rules {
		if r.within >= 0 {
			f.entries = append(f.entries, fibEntry{start: keyOf(r.to.Masked().Addr()), bits: uint8(r.to.Bits()), slot: int32(r.within)})
		}
	}
}

// add takes a route, in the order in which the kernel lists those that have all
// else in common.
func (f *fib) add(table int, to netip.Prefix, kind uint8, metric uint32, tos bool, interfaces []string) {
	slot, known := f.slots[table]
	if !known {
		return
	}
	name := strings.Join(interfaces, "\x00")
	list, known := f.listIDs[name]
	if !known {
		list = uint32(len(f.lists))
		f.lists, f.listIDs[name] = append(f.lists, interfaces), list
	}
	f.entries = append(f.entries, fibEntry{
		start: keyOf(to.Masked().Addr()), bits: uint8(to.Bits()), slot: int32(slot),
		metric: metric, tos: tos, kind: kind, hops: list,
	})
}

// ranges4 and ranges6 give what came of it, each of its family.
func (f *fib) ranges4() ranges[uint32] {
	f.sweep()
	return newRanges(f.starts, func(k key) uint32 { return uint32(k.high >> 32) }, f.ids, f.of)
}

func (f *fib) ranges6() ranges[uint64] {
	f.sweep()
	return newRanges(f.starts, func(k key) uint64 { return k.high }, f.ids, f.of)
}

func (f *fib) sweep() {
	slices.SortStableFunc(f.entries, func(a, b fibEntry) int {
		if c := a.start.compare(b.start); c != 0 {
			return c
		}
		if c := cmp.Or(cmp.Compare(a.bits, b.bits), cmp.Compare(a.slot, b.slot)); c != 0 || a.tos == b.tos {
			return cmp.Or(c, cmp.Compare(a.metric, b.metric))
		}
		if a.tos {
			return 1
		}
		return -1
	})
	f.emit(key{})
	for i := range f.entries {
		e := &f.entries[i]
		if i > 0 && e.together(&f.entries[i-1]) {
			continue
		}
		f.close(e.start)
		f.open = append(f.open, fibFrame{end: e.start.last(e.bits), slot: e.slot, before: f.now[e.slot]})
		f.now[e.slot] = int32(i + 1)
		f.emit(e.start)
	}
	if n := len(f.open); n > 0 {
		if behind, ok := f.open[0].end.next(); ok {
			f.close(behind)
		} else {
			f.close(f.open[0].end)
		}
	}
}

// together says whether two routes are in one table and have one prefix.
func (e *fibEntry) together(o *fibEntry) bool {
	return e.start == o.start && e.bits == o.bits && e.slot == o.slot
}

// close goes behind all prefixes that end before an address.
func (f *fib) close(before key) {
	for n := len(f.open) - 1; n >= 0 && f.open[n].end.compare(before) < 0; n-- {
		last := f.open[n]
		f.open = f.open[:n]
		f.now[last.slot] = last.before
		if behind, ok := last.end.next(); ok {
			f.emit(behind)
		}
	}
}

// emit begins a range, unless the answer stays the same.
func (f *fib) emit(start key) {
	id := f.answer()
	if n := len(f.starts); n > 0 && f.starts[n-1] == start {
		f.starts, f.ids = f.starts[:n-1], f.ids[:n-1]
	}
	if n := len(f.ids); n > 0 && f.ids[n-1] == id {
		return
	}
	f.starts, f.ids = append(f.starts, start), append(f.ids, id)
}

// answer is what holds where the sweep is, each answer once.
func (f *fib) answer() uint32 {
	f.best, f.behind = f.best[:0], f.behind[:0]
	kind, device := f.walk(), uint32(0)
	if f.family == IPv4 {
		kind, device = f.localKind()
	}
	f.text = append(f.text[:0], kind)
	f.text = binary.NativeEndian.AppendUint32(f.text, device)
	certain := len(f.best) > 0
	if certain {
		f.text = append(f.text, 1)
	}
	f.best = append(f.best, f.behind...)
	for _, list := range f.best {
		f.text = binary.NativeEndian.AppendUint32(f.text, list)
	}
	id, known := f.known[string(f.text)]
	if known {
		return id
	}
	out := answer{kind: uint32(kind)}
	if list := f.lists[device]; len(list) > 0 {
		out.device = list[0]
	}
	for i, list := range f.best {
		for _, name := range f.lists[list] {
			if !slices.Contains(out.leaves, name) {
				out.leaves = append(out.leaves, name)
			}
		}
		if i == 0 && certain {
			out.way = len(out.leaves)
		}
	}
	out.leaves = slices.Clip(out.leaves)
	id = uint32(len(f.of))
	f.of, f.known[string(f.text)] = append(f.of, out), id
	return id
}
