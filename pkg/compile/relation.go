package compile

import "slices"

// relation is how the conditions of two entries lie to each other, ports
// aside, the first standing before the second.
type relation uint8

const (
	unknown     relation = iota
	apart                // no packet meets both
	overlapping          // some packets meet both
	covering             // all packets that meet the second meet the first
	ordered              // overlapping, and their order is noted
)

// relations remembers what was found out, since entries with large maps meet
// at many ports. Of very many entries each has few ports, and nothing is
// remembered.
type relations struct {
	n     int
	known [2][]relation
}

const mostRemembered = 2048

func newRelations(f *forwards) *relations {
	r := &relations{n: len(f.entries)}
	if r.n <= mostRemembered {
		r.known = [2][]relation{make([]relation, r.n*r.n), make([]relation, r.n*r.n)}
	}
	return r
}

func (r *relations) of(a, b *entry, f int) relation {
	if r.known[f] == nil {
		return relate(a, b, f)
	}
	known := &r.known[f][a.index*r.n+b.index]
	if *known == unknown {
		*known = relate(a, b, f)
	}
	return *known
}

// ordered notes that the order of two overlapping entries is taken care of.
func (r *relations) ordered(a, b *entry, f int) {
	if known := r.known[f]; known != nil && known[a.index*r.n+b.index] == overlapping {
		known[a.index*r.n+b.index] = ordered
	}
}

func relate(a, b *entry, f int) relation {
	switch {
	case a.lacks[f] || b.lacks[f] || !a.meets(b, f):
		return apart
	case a.covers(b, f):
		return covering
	}
	return overlapping
}

// meets says whether a packet could be for both entries. It may say so of two
// that sets keep apart: what is in a set is not for the policy's order to
// depend on.
func (e *entry) meets(o *entry, f int) bool {
	if e.loopback != o.loopback || !e.loopback && !e.enters.intersects(o.enters) {
		return false // those that the gateway uses too have every zone
	}
	if e.literal && o.literal && !e.allowed[f].intersects(o.allowed[f]) {
		return false
	}
	if e.address.given && o.address.given && len(e.address.sets)+len(o.address.sets) == 0 {
		return e.address.literal[f].intersects(o.address.literal[f])
	}
	return true
}

// covers says whether every packet from a zone of o that o looks at, e looks
// at too.
func (e *entry) covers(o *entry, f int) bool {
	return e.arrives.covers(o.arrives) && e.coversSources(o, f) && e.coversAddress(o, f)
}

func (e *entry) coversSources(o *entry, f int) bool {
	switch {
	case !e.restricted():
		return true
	case e.literal && o.literal:
		return e.allowed[f].covers(o.allowed[f])
	case e.sources.given && !o.sources.given, !subset(o.sources.sets, e.sources.sets), !subset(e.except.sets, o.except.sets):
		return false
	case e.sources.given && !e.sources.literal[f].covers(o.sources.literal[f]):
		return false
	}
	return len(e.except.literal[f]) == 0 || o.except.literal[f].covers(e.except.literal[f])
}

func (e *entry) coversAddress(o *entry, f int) bool {
	switch {
	case e.AnyAddress:
		return true
	case o.AnyAddress || e.address.given != o.address.given:
		return false
	case !e.address.given:
		return true
	}
	return subset(o.address.sets, e.address.sets) && e.address.literal[f].covers(o.address.literal[f])
}

// subset says whether all of a is in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(name string) bool { return !slices.Contains(b, name) })
}
