package compile

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// fill makes the map of a look-up. The elements go in sorted, because sorting
// them afterwards moves them one by one.
func (c *compiler) fill(f *forwards, l *lookup) *ruleset.Set {
	address := destinations()[l.family].Type()
	var key []ruleset.Type
	for _, field := range l.fields() {
		key = append(key, field.Type())
	}
	data := []ruleset.Type{address, ruleset.InetService}
	if l.keep {
		data = data[:1]
	}
	set := ruleset.NewSet(l.name, key, data)
	set.Interval, set.Counted, set.Origin = l.ranges, true, own("port_forward")
	if l.entry.alone {
		set.Origin = origin("port_forward", l.entry.Name, l.entry.Place)
	}
	if len(key) == 1 {
		c.fillByPort(f, l, set)
	} else {
		c.fillByAddress(f, l, set)
	}
	return set
}

// fillByPort fills a map whose key is the port alone.
func (c *compiler) fillByPort(f *forwards, l *lookup, set *ruleset.Set) {
	// Claims of one map do not overlap, so each has a first port of its own.
	const none = ^uint32(0)
	at := slices.Repeat([]uint32{none}, 1<<16)
	n := 0
	for _, claim := range l.claims {
		k := &f.claims[claim]
		at[k.first] = claim
		n += k.elements()
	}
	set.Grow(n)
	var value [20]byte
	for _, claim := range at {
		if claim == none {
			continue
		}
		k := &f.claims[claim]
		k.each(func(first, last, port uint16) {
			low, high := [2]byte{byte(first >> 8), byte(first)}, [2]byte{byte(last >> 8), byte(last)}
			set.Add(low[:], high[:], l.value(value[:0], k.target, port), k.origin)
		})
	}
}

// fillByAddress fills a map whose key has addresses: an element for each
// combination with a port.
func (c *compiler) fillByAddress(f *forwards, l *lookup, set *ruleset.Set) {
	var current *entry
	var from, to spans
	n := 0
	for _, claim := range l.claims {
		k := &f.claims[claim]
		if e := f.entries[k.entry]; e != current {
			current = e
			from, to = l.addressed(e)
		}
		n += len(from) * len(to) * k.elements()
	}
	// Records of both keys and the value, one behind the other.
	width := 2*set.KeyLen() + set.DataLen()
	records := make([]byte, 0, n*width)
	order, origins := make([]uint32, 0, n), make([]uint32, 0, n)
	for _, claim := range l.claims {
		k := &f.claims[claim]
		if e := f.entries[k.entry]; e != current {
			current = e
			from, to = l.addressed(e)
		}
		for _, s := range from {
			for _, d := range to {
				k.each(func(first, last, port uint16) {
					records = l.key(records, s.lo, d.lo, first)
					records = l.key(records, s.hi, d.hi, last)
					records = l.value(records, k.target, port)
					order, origins = append(order, uint32(len(order))), append(origins, k.origin)
				})
			}
		}
	}
	low := func(i uint32) []byte { return records[int(i)*width:][:set.KeyLen()] }
	byKey := func(i, j uint32) int { return bytes.Compare(low(i), low(j)) }
	if !slices.IsSortedFunc(order, byKey) {
		slices.SortFunc(order, byKey)
	}
	set.Grow(n)
	for _, i := range order {
		r := records[int(i)*width:][:width]
		set.Add(r[:set.KeyLen()], r[set.KeyLen():2*set.KeyLen()], r[2*set.KeyLen():], origins[i])
	}
}

// addressed gives the sources and the destinations of an entry that stand in
// the keys of a look-up.
func (l *lookup) addressed(e *entry) (from, to spans) {
	from, to = spans{{}}, spans{{}}
	if l.entry.sourced {
		from = l.keys(e.allowed[l.family])
	}
	if l.entry.aimed {
		to = l.keys(e.address.literal[l.family])
	}
	return from, to
}

// keys are the ranges that stand in a key: single addresses where the map
// holds no ranges.
func (l *lookup) keys(list spans) spans {
	if l.ranges || !slices.ContainsFunc(list, func(s span) bool { return s.lo != s.hi }) {
		return list
	}
	var out spans
	for _, s := range list {
		out = append(out, span{s.lo, s.lo})
		if s.lo != s.hi {
			out = append(out, span{s.hi, s.hi}) // singles allows two neighbours
		}
	}
	return out
}

func (l *lookup) key(b []byte, source, destination netip.Addr, port uint16) []byte {
	if l.entry.sourced {
		b = appendAddr(b, source)
	}
	if l.entry.aimed {
		b = appendAddr(b, destination)
	}
	return append(b, byte(port>>8), byte(port), 0, 0)
}

func (l *lookup) value(b []byte, target netip.Addr, port uint16) []byte {
	b = appendAddr(b, target)
	if l.keep {
		return b
	}
	return append(b, byte(port>>8), byte(port), 0, 0)
}

// elements is how many elements a claim needs for one address.
func (k *claim) elements() int {
	if k.shifts() {
		return int(k.last) - int(k.first) + 1
	}
	return 1
}

// each calls add with the ranges of ports that are elements, and the port that
// each leads to.
func (k *claim) each(add func(first, last, port uint16)) {
	switch {
	case k.shifts():
		for i := 0; i <= int(k.last)-int(k.first); i++ {
			port := k.first + uint16(i)
			add(port, port, k.toFirst+uint16(i))
		}
	case k.toFirst == 0:
		add(k.first, k.last, k.first)
	default:
		add(k.first, k.last, k.toFirst)
	}
}
