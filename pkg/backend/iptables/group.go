package iptables

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// few is how many addresses are a rule each rather than a set of the kernel.
const few = 8

// group is what becomes one alternative: an element as it is, or many that
// differ in an address alone, or neighbours whose ports follow each other.
type group struct {
	first int // an element of it
	size  int
	// run says that its elements are first and those behind it.
	run bool
	// addresses hold what field may be; nil where the group is one element.
	addresses *addressSet
	field     int
}

// groups splits the elements of a set by what they are besides an address, and
// by what they lead to, which value tells of each; nil is nothing. A group of
// more than a few becomes a set of the kernel. Where ports of values may follow
// those of keys, one group leads to many.
func (t *translator) groups(set *ruleset.Set, fields []ruleset.Field, value func(i int) []byte, shifts bool) []group {
	pulled := slices.DeleteFunc(indices(len(fields)), func(k int) bool { return !matchable(fields[k]) })
	key := fmt.Sprint(set.Name, pulled, value != nil, shifts)
	known, ok := t.grouped[key]
	if !ok {
		known = t.runs(set, t.shared(set, fields, pulled, value), shifts)
		t.grouped[key] = known
	}
	return known
}

// shared splits a set of more than a few elements by all but an address.
func (t *translator) shared(set *ruleset.Set, fields []ruleset.Field, pulled []int, value func(i int) []byte) []group {
	best := single(set.Len())
	if !t.kernel.sets || set.Len() <= few {
		return best
	}
	for _, k := range pulled {
		if split := t.split(set, fields, k, value); len(split) < len(best) {
			best = split
		}
	}
	for i := range best {
		if g := &best[i]; g.addresses != nil && !t.fill(set, g, fields) {
			return single(set.Len())
		}
	}
	return best
}

// last is the last element of a run, or the one that there is.
func (g *group) last() int {
	if g.run {
		return g.first + g.size - 1
	}
	return g.first
}

func single(n int) []group {
	out := make([]group, n)
	for i := range out {
		out[i] = group{first: i, size: 1}
	}
	return out
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// matchable says whether the set match can look at a field.
func matchable(f ruleset.Field) bool {
	switch f {
	case ruleset.IPSaddr, ruleset.IP6Saddr, ruleset.IPDaddr, ruleset.IP6Daddr:
		return true
	}
	return false
}

// split groups elements that are the same but for field k. Groups of a few are
// elements again. What is in a set is not written yet.
func (t *translator) split(set *ruleset.Set, fields []ruleset.Field, k int, value func(i int) []byte) []group {
	from, to := fieldBounds(fields, k)
	numbers := map[string]int{}
	members := make([]uint32, set.Len()) // of each element the number of its group
	var sizes []int
	entries, last := map[string]uint32{}, uint32(0)
	lastOrigin, noted := ruleset.NoOrigin, false
	var scratch []byte
	for i := range members {
		lo, hi := set.KeyAt(i), highAt(set, i)
		scratch = append(append(scratch[:0], lo[:from]...), lo[to:]...)
		scratch = append(append(scratch, hi[:from]...), hi[to:]...)
		if o := set.OriginAt(i); !noted || o != lastOrigin {
			// The lines of a file have an origin each, all of one entry.
			entry := ""
			if o != ruleset.NoOrigin {
				entry = t.rules.Origins[o].Entry
			}
			if _, known := entries[entry]; !known {
				entries[entry] = uint32(len(entries))
			}
			last, lastOrigin, noted = entries[entry], o, true
		}
		scratch = append(scratch, byte(last), byte(last>>8), byte(last>>16), byte(last>>24))
		if value != nil {
			scratch = append(scratch, value(i)...)
		}
		n, known := numbers[string(scratch)]
		if !known {
			n = len(sizes)
			numbers[string(scratch)] = n
			sizes = append(sizes, 0)
		}
		members[i] = uint32(n)
		sizes[n]++
	}
	var out []group
	at := make([]int, len(sizes)) // where in out a group is, from 1
	for i, n := range members {
		switch {
		case sizes[n] <= few:
			out = append(out, group{first: i, size: 1})
		case at[n] == 0:
			a := &addressSet{members: make([]uint32, 0, sizes[n])}
			out = append(out, group{first: i, size: sizes[n], addresses: a, field: k})
			at[n] = len(out)
			fallthrough
		default:
			a := out[at[n]-1].addresses
			a.members = append(a.members, uint32(i))
		}
	}
	return out
}

// fieldBounds says where in a key field k stands.
func fieldBounds(fields []ruleset.Field, k int) (from, to int) {
	if len(fields) == 1 {
		return 0, fields[0].Type().Size()
	}
	for i, f := range fields {
		if i == k {
			return from, from + f.Type().Padded()
		}
		from += f.Type().Padded()
	}
	return from, from
}
