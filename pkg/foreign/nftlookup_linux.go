package foreign

import (
	"slices"

	"golang.org/x/sys/unix"
)

// mostWays is how many elements a look-up is followed into, each as a rule.
const mostWays = 1000

// lookup is a look into a set: one field becomes one test, several become a rule
// for each element, and so do maps of verdicts.
func (d *decoder) lookup(name string, sreg uint32, not, isMap bool, dreg uint32) {
	s := d.sets[d.table.Family+" "+d.table.Name+" "+name]
	verdicts := isMap && dreg == unix.NFT_REG_VERDICT
	fields := d.key(s, sreg)
	if isMap && !verdicts {
		d.put(dreg, load{size: 4})
	}
	switch {
	case s == nil || !s.whole || len(s.elements) > mostWays && (verdicts || len(fields) > 1):
		d.opaque("a look into the set " + name)
	case verdicts:
		d.branch(s, fields)
	case len(fields) == 1:
		if t, ok := d.among(s, fields[0]); ok {
			t.Not = not
			d.test(t)
			return
		}
		d.opaque("a look into the set " + name)
	case len(fields) > 1 && !not && d.ways == nil && !isMap:
		d.branch(s, fields)
	default:
		d.opaque("a look into the set " + name)
	}
}

// key gives the fields that make up a set's key, nil where they are not known.
func (d *decoder) key(s *set, sreg uint32) (out []load) {
	if s == nil {
		return nil
	}
	u := unit(sreg)
	for left := s.keyLen; left > 0; {
		if u < 0 || u >= len(d.regs) || !d.regs[u].loaded || d.regs[u].size == 0 {
			return nil
		}
		l := d.regs[u]
		padded := (l.size + 3) / 4
		out = append(out, l)
		u, left = u+padded, left-4*padded
	}
	return out
}

// among is the test that a field is one of a set's elements.
func (d *decoder) among(s *set, l load) (Test, bool) {
	t := Test{Field: l.field}
	if l.field == Opaque || l.mask != nil {
		return t, false
	}
	for i := range s.elements {
		e := &s.elements[i]
		if e.other {
			return t, false
		}
		if e.end {
			continue
		}
		one, ok := d.one(s, i, l)
		if !ok {
			return t, false
		}
		t.Names, t.Ranges, t.Bits = append(t.Names, one.Names...), append(t.Ranges, one.Ranges...), t.Bits|one.Bits
	}
	return t, true
}

// one is the test that a field is one element.
func (d *decoder) one(s *set, i int, l load) (Test, bool) {
	key := s.elements[i].key
	switch {
	case l.field == In || l.field == Out:
		if s.flags&unix.NFT_SET_INTERVAL != 0 { // names by their beginning
			return Test{}, false
		}
		if l.size == 16 {
			key = key[:min(len(key), 16)]
		}
		return d.link(l, key)
	case l.field == State:
		return bitTest(l, key, false)
	case l.field == Status:
		return Test{}, false
	}
	low, high, ok := d.span(l, key)
	if !ok {
		return Test{}, false
	}
	if s.flags&unix.NFT_SET_INTERVAL != 0 {
		if hostOrder(l.field) {
			return Test{}, false
		}
		high = slices.Repeat([]byte{0xff}, len(low))
		if i+1 < len(s.elements) {
			copy(high, s.elements[i+1].key)
			before(high)
		}
	}
	return Test{Field: l.field, Ranges: [][2][]byte{{low, high}}}, true
}

// before turns a key into the one before it.
func before(key []byte) {
	for i := len(key) - 1; i >= 0; i-- {
		key[i]--
		if key[i] != 0xff {
			return
		}
	}
}

// branch makes a way of each element.
func (d *decoder) branch(s *set, fields []load) {
	ways := []Rule{} // none where there is no element: the rule does nothing
	for i := range s.elements {
		e := &s.elements[i]
		if e.end {
			continue
		}
		way := Rule{Verdict: e.verdict, To: e.chain}
		switch {
		case e.other || fields == nil:
			way.Tests = []Test{{Text: "a condition that is not known here"}}
		case len(fields) == 1:
			t, ok := d.one(s, i, fields[0])
			if !ok || fields[0].field == Opaque || fields[0].mask != nil {
				t = Test{Text: "a condition that is not known here"}
			}
			way.Tests = []Test{t}
		default:
			way.Tests = d.each(s, e, fields)
		}
		ways = append(ways, way)
	}
	d.ways = ways
}

// each tests the fields of a concatenation one by one.
func (d *decoder) each(s *set, e *element, fields []load) (out []Test) {
	at := 0
	for _, l := range fields {
		padded := (l.size + 3) &^ 3
		if at+l.size > len(e.key) {
			return []Test{{Text: "a condition that is not known here"}}
		}
		one := &set{flags: s.flags &^ unix.NFT_SET_INTERVAL, elements: []element{{key: e.key[at : at+l.size]}}}
		t, ok := d.one(one, 0, l)
		if !ok || l.field == Opaque || l.mask != nil {
			t = Test{Text: "a condition that is not known here"}
		}
		out = append(out, t)
		at += padded
	}
	return out
}
