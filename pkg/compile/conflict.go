package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// order finds entries that claim the same packets. Those that cannot both be
// meant are errors; for the others it sees to it that the earlier entry is
// looked up first.
func (c *compiler) order(f *forwards) {
	contested := f.contested()
	if len(contested) == 0 {
		return
	}
	s := newSweep(f)
	x := &conflicts{c: c, forwards: f, relations: newRelations(f), blamed: map[blame]bool{}, counts: map[[2]uint32]int{}}
	s.each(contested, x.pair)
	x.disguise(contested)
	x.tooMany()
	x.levels()
}

// conflicts looks at pairs of claims that may be for the same packets.
type conflicts struct {
	c *compiler
	*forwards
	relations *relations
	blamed    map[blame]bool
	counts    map[[2]uint32]int   // errors by pair of entries
	before    map[uint32][]*entry // what has to be looked up before an entry
}

// blame is the ports of an entry, or of a line of its map, that have an error:
// once, whatever families its targets are of.
type blame struct {
	origin      uint32
	first, last uint16
	proto       uint8
}

// mostErrors is how many ports of two entries are reported one by one.
const mostErrors = 10

// pair judges two claims of one protocol and family, i before j.
func (x *conflicts) pair(i, j uint32) {
	k, l := &x.claims[i], &x.claims[j]
	if k.first > l.last || l.first > k.last {
		return
	}
	a, b := x.entries[k.entry], x.entries[l.entry]
	if a == b {
		if a.Map != nil {
			x.blame(i, j, fmt.Sprintf("%s stands twice in the map of port_forward %s; take one of the two out", portsText(overlap(k, l)), a.Name), "the other one")
		}
		return
	}
	switch x.relations.of(a, b, familyIndex(k.target)) {
	case apart, ordered:
		return
	case overlapping:
		x.follow(a, b, k)
		return
	}
	inside := k.first <= l.first && l.last <= k.last
	if b.AllPorts && !inside {
		x.follow(a, b, k) // a catch-all takes the rest
		return
	}
	x.blame(i, j, x.message(a, b, k, l, inside), fmt.Sprintf("port_forward %s takes %s here", a.Name, portsText(k)))
}

// message words the error of entry b, of which a takes the packets.
func (x *conflicts) message(a, b *entry, k, l *claim, inside bool) string {
	text := portsText(overlap(k, l))
	never := fmt.Sprintf("port_forward %s never gets %s: port_forward %s, which stands before it, takes ", b.Name, text, a.Name)
	const apart = "tell the two apart by `sources` or `address`"
	switch {
	case inside && !b.covers(a, familyIndex(k.target)):
		return never + fmt.Sprintf("that and more; put %s first, or take it out", b.Name)
	case inside && a.AllPorts && !b.AllPorts:
		return never + fmt.Sprintf("all ports; put %s last, or %s", a.Name, apart)
	case inside && k.first == l.first && k.last == l.last:
		return never + "the same; take one of the two out, or " + apart
	case l.first == 1 && l.last == 65535:
		return never + "it; write `ports: all` to take the rest"
	}
	return never + "it; take it out of the ports of one of the two, or " + apart
}

// blame reports the ports of claim j once.
func (x *conflicts) blame(i, j uint32, message, note string) {
	k, l := &x.claims[i], &x.claims[j]
	key := blame{l.origin, l.first, l.last, l.proto}
	if x.blamed[key] {
		return
	}
	x.blamed[key] = true
	pair := [2]uint32{k.entry, l.entry}
	if x.counts[pair]++; x.counts[pair] <= mostErrors {
		x.c.fail(x.written(l), message, policy.Note{Place: x.written(k), Message: note})
	}
}

// written is where the ports of a claim stand.
func (x *conflicts) written(k *claim) policy.Place {
	for _, p := range x.entries[k.entry].Ports {
		if p.First <= k.first && k.first <= p.Last {
			return p.Place
		}
	}
	return x.c.placeOf(k)
}

// tooMany says of how many more ports the same is true.
func (x *conflicts) tooMany() {
	pairs := make([][2]uint32, 0, len(x.counts))
	for p, n := range x.counts {
		if n > mostErrors {
			pairs = append(pairs, p)
		}
	}
	slices.SortFunc(pairs, func(p, q [2]uint32) int { return cmp.Or(cmp.Compare(p[0], q[0]), cmp.Compare(p[1], q[1])) })
	for _, p := range pairs {
		a, b, more := x.entries[p[0]], x.entries[p[1]], x.counts[p]-mostErrors
		if a == b {
			x.c.fail(b.Place, fmt.Sprintf("the map of port_forward %s names %d more ports twice", b.Name, more))
			continue
		}
		x.c.fail(b.Place, fmt.Sprintf("port_forward %s claims %d more ports that port_forward %s takes first", b.Name, more, a.Name),
			policy.Note{Place: a.Place, Message: fmt.Sprintf("port_forward %s is here", a.Name)})
	}
}

// follow notes that a has to be looked up before b.
func (x *conflicts) follow(a, b *entry, k *claim) {
	if x.before == nil {
		x.before = map[uint32][]*entry{}
	}
	list := x.before[uint32(b.index)]
	if len(list) == 0 || list[len(list)-1] != a {
		x.before[uint32(b.index)] = append(list, a)
	}
	x.relations.ordered(a, b, familyIndex(k.target))
}

// levels gives each entry the level of its look-ups: those of one level are
// made in order of rank, whichever entry stands first.
func (x *conflicts) levels() {
	for _, b := range x.entries {
		for _, a := range x.before[uint32(b.index)] {
			level := a.level
			if a.rank() >= b.rank() {
				level++
			}
			b.level = max(b.level, level)
		}
	}
}

// rank is the order in which look-ups of one level are made: what names more
// of a packet goes first, as an entry mostly stands before its exceptions'
// rest.
func (e *entry) rank() int {
	rank := 0
	switch {
	case !e.restricted():
		rank += 8
	case !e.sourced:
		rank += 4
	}
	switch {
	case e.AnyAddress:
		rank += 3
	case !e.address.given:
		rank += 2
	case !e.aimed:
		rank++
	}
	return rank
}

func overlap(k, l *claim) *claim {
	return &claim{proto: k.proto, first: max(k.first, l.first), last: min(k.last, l.last)}
}

func portsText(k *claim) string {
	return policy.ProtocolName(k.proto) + "/" + policy.Ports{First: k.first, Last: k.last}.String()
}
