package compile

import (
	"cmp"
	"fmt"
	"slices"
)

// disguise refuses entries that lead from one port to one port of a target and
// show it different sources. The source is translated last, where all that is
// left of an entry is the path (see opened), so one entry's flows would get the
// source of the other's.
func (x *conflicts) disguise(contested []uint32) {
	source := func(i uint32) string { return x.entries[x.claims[i].entry].sourceSuffix() }
	if !slices.ContainsFunc(contested, func(i uint32) bool { return source(i) != source(contested[0]) }) {
		return
	}
	list := slices.DeleteFunc(slices.Clone(contested), func(i uint32) bool { return x.entries[x.claims[i].entry].loopback })
	slices.SortFunc(list, func(i, j uint32) int {
		k, l := &x.claims[i], &x.claims[j]
		return cmp.Or(cmp.Compare(k.slot(), l.slot()), k.target.Compare(l.target), cmp.Compare(k.first, l.first), cmp.Compare(i, j))
	})
	var open []uint32 // claims that reach up to the current port
	for _, j := range list {
		l := &x.claims[j]
		open = slices.DeleteFunc(open, func(i uint32) bool {
			k := &x.claims[i]
			return k.slot() != l.slot() || k.target != l.target || k.last < l.first
		})
		for _, i := range open {
			if source(i) != source(j) && sharePath(&x.claims[i], l) {
				i, j := min(i, j), max(i, j)
				a, b := x.entries[x.claims[i].entry], x.entries[x.claims[j].entry]
				x.blame(i, j, fmt.Sprintf("port_forward %s leads %s to the same port of the same target as port_forward %s, and shows it another source; "+
					"the kernel cannot tell their flows apart: give both the same `masquerade` and `hairpin` source, or lead one of them to another port",
					b.Name, portsText(overlap(&x.claims[i], &x.claims[j])), a.Name), fmt.Sprintf("port_forward %s is here", a.Name))
			}
		}
		open = append(open, j)
	}
}

// sharePath says whether two claims lead one port to the same port of their
// target.
func sharePath(k, l *claim) bool {
	both := overlap(k, l)
	if both.first > both.last {
		return false
	}
	a, aMoves := k.leads(both.first)
	b, bMoves := l.leads(both.first)
	switch length := int(both.last) - int(both.first); {
	case aMoves == bMoves:
		return a == b
	case aMoves:
		return a <= b && b <= a+length
	default:
		return b <= a && a <= b+length
	}
}

// leads gives the target's port for a port of the claim, and says whether the
// next port leads to the next one.
func (k *claim) leads(port uint16) (to int, moves bool) {
	switch {
	case k.toFirst == 0:
		return int(port), true
	case k.toFirst == k.toLast && k.first != k.last:
		return int(k.toFirst), false
	}
	return int(k.toFirst) + int(port) - int(k.first), true
}
