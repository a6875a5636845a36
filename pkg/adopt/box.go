package adopt

import "slices"

// The sides of a box that are sets of small numbers. The protocol comes before
// what only some protocols have.
const (
	byFamily   = iota // 4 and 6
	byIn              // an interface group, see atoms
	byOut             // the same
	byProtocol        // IP protocol number
	byICMP            // ICMP type, of either family
	byFlags           // the lower six TCP flags
	byState           // conntrack state
	byDstType         // what the destination is to the host
	bySrcType
	byDNAT // conntrack status: 0 not translated, 1 translated
	sides
)

// The states of conntrack.
const (
	stateNew = iota
	stateEstablished
	stateRelated
	stateInvalid
	stateUntracked
)

// What an address is to the host.
const (
	typeOther = iota // of somebody else
	typeLocal
	typeBroadcast
	typeMulticast
)

func anyState() set256 {
	return setOf(stateNew, stateEstablished, stateRelated, stateInvalid, stateUntracked)
}

func anyType() set256 { return setOf(typeOther, typeLocal, typeBroadcast, typeMulticast) }

// box is a set of packets: those that are within it on every side. Tests that
// import does not know (odd) and rates make it smaller in a way that it cannot
// reason about.
type box struct {
	b            [sides]set256
	src, dst     spans
	sport, dport ports
	rate         *rate
	odd          []string
}

// rate is a limit as rules have it.
type rate struct {
	count     int
	per       string // second, minute, hour, day
	burst     int
	perSource bool
}

func everything() box {
	x := box{src: everyAddress(), dst: everyAddress(), sport: everyPort(), dport: everyPort()}
	for i := range x.b {
		x.b[i] = every()
	}
	x.b[byFamily] = setOf(4, 6)
	x.b[byState] = anyState()
	x.b[byFlags] = set256{^uint64(0)}
	x.b[byDstType], x.b[bySrcType] = anyType(), anyType()
	x.b[byDNAT] = setOf(0, 1)
	return x
}

// narrowed settles what the family says of addresses, and the other way round.
func (x box) narrowed() box {
	for _, f := range []int{4, 6} {
		if len(x.src.of(f)) == 0 || len(x.dst.of(f)) == 0 {
			x.b[byFamily] = x.b[byFamily].minus(setOf(f))
		}
	}
	for _, f := range []int{4, 6} {
		if !x.b[byFamily].has(f) {
			x.src, x.dst = x.src.of(10-f), x.dst.of(10-f)
		}
	}
	return x
}

func (x box) empty() bool {
	for i := range x.b {
		if x.b[i].empty() {
			return true
		}
	}
	return len(x.src) == 0 || len(x.dst) == 0 || len(x.sport) == 0 || len(x.dport) == 0
}

// vague says whether only some of what is within the box is meant.
func (x box) vague() bool { return len(x.odd) > 0 || x.rate != nil }

func (x box) and(y box) box {
	for i := range x.b {
		x.b[i] = x.b[i].and(y.b[i])
	}
	x.src, x.dst = x.src.and(y.src), x.dst.and(y.dst)
	x.sport, x.dport = x.sport.and(y.sport), x.dport.and(y.dport)
	if y.rate != nil {
		if x.rate != nil && *x.rate != *y.rate {
			x.odd = append(slices.Clone(x.odd), "a second rate")
		}
		x.rate = y.rate
	}
	for _, o := range y.odd {
		if !slices.Contains(x.odd, o) {
			x.odd = append(slices.Clone(x.odd), o)
		}
	}
	return x.narrowed()
}

func (x box) meets(y box) bool { return !x.and(y).empty() }

// minus gives what of x is not in y, as boxes that are apart. What makes y
// vague is not looked at.
func (x box) minus(y box) []box {
	common := x.and(y)
	if common.empty() {
		return []box{x}
	}
	var out []box
	keep := func(z box) {
		if z = z.narrowed(); !z.empty() {
			out = append(out, z)
		}
	}
	rest := x
	for i := range x.b {
		z := rest
		z.b[i] = rest.b[i].minus(y.b[i])
		if i == byFamily {
			for _, f := range z.b[i].list() {
				w := z
				w.b[i] = setOf(f)
				keep(w)
			}
		} else if !z.b[i].empty() {
			keep(z)
		}
		rest.b[i] = rest.b[i].and(y.b[i])
	}
	rest = rest.narrowed()
	z := rest
	z.src = rest.src.minus(y.src)
	keep(z)
	rest.src = rest.src.and(y.src)
	z = rest
	z.dst = rest.dst.minus(y.dst)
	keep(z)
	rest.dst = rest.dst.and(y.dst)
	z = rest
	z.sport = rest.sport.minus(y.sport)
	keep(z)
	rest.sport = rest.sport.and(y.sport)
	z = rest
	z.dport = rest.dport.minus(y.dport)
	keep(z)
	return out
}

func (x box) covers(y box) bool { return len(x.odd) == 0 && x.rate == nil && len(y.minus(x)) == 0 }

func (x box) equal(y box) bool {
	return x.b == y.b && slices.Equal(x.src, y.src) && slices.Equal(x.dst, y.dst) && slices.Equal(x.sport, y.sport) &&
		slices.Equal(x.dport, y.dport) && slices.Equal(x.odd, y.odd) && (x.rate == y.rate || x.rate != nil && y.rate != nil && *x.rate == *y.rate)
}

// minusAll takes boxes from boxes. It gives up, and says so, where that makes
// too many.
func minusAll(from []box, take box) ([]box, bool) {
	const tooMany = 64
	var out []box
	for _, x := range from {
		out = append(out, x.minus(take)...)
		if len(out) > tooMany {
			return nil, false
		}
	}
	return out, true
}

// answered is the box of the answers to what is in x.
func (x box) answered() box {
	x.b[byIn], x.b[byOut] = x.b[byOut], x.b[byIn]
	x.b[byDstType], x.b[bySrcType] = x.b[bySrcType], x.b[byDstType]
	x.src, x.dst = x.dst, x.src
	x.sport, x.dport = x.dport, x.sport
	x.b[byICMP], x.b[byFlags] = every(), set256{^uint64(0)}
	x.b[byState] = setOf(stateEstablished)
	return x
}

// joined gives one box for two where that is exactly both: they differ on one
// side alone.
func (x box) joined(y box) (box, bool) {
	if x.equal(y) {
		return x, true
	}
	if x.vague() || y.vague() {
		if !slices.Equal(x.odd, y.odd) || x.rate != y.rate {
			return x, false
		}
	}
	differ := 0
	z := x
	for i := range x.b {
		if x.b[i] == y.b[i] {
			continue
		}
		differ++
		z.b[i] = x.b[i].or(y.b[i])
		if i == byFamily {
			// The addresses of a family belong to it.
			for f := range 2 {
				s, d := [2]spans{x.src, y.src}[f], [2]spans{x.dst, y.dst}[f]
				for _, family := range [2]box{x, y}[f].b[i].list() {
					if !s.covers(everyAddress().of(family)) || !d.covers(everyAddress().of(family)) {
						return x, false
					}
				}
			}
			z.src, z.dst = everyAddress(), everyAddress()
			x.src, y.src, x.dst, y.dst = z.src, z.src, z.dst, z.dst
		}
	}
	if !slices.Equal(x.src, y.src) {
		differ++
		z.src = mergeSpans(append(slices.Clone(x.src), y.src...))
		if x.b[byFamily] != y.b[byFamily] || x.b[byFamily].len() != 1 {
			return x, false
		}
	}
	if !slices.Equal(x.dst, y.dst) {
		differ++
		z.dst = mergeSpans(append(slices.Clone(x.dst), y.dst...))
		if x.b[byFamily] != y.b[byFamily] || x.b[byFamily].len() != 1 {
			return x, false
		}
	}
	if !slices.Equal(x.sport, y.sport) {
		differ++
		z.sport = mergePorts(append(slices.Clone(x.sport), y.sport...))
	}
	if !slices.Equal(x.dport, y.dport) {
		differ++
		z.dport = mergePorts(append(slices.Clone(x.dport), y.dport...))
	}
	return z, differ == 1
}
