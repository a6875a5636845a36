package adopt

import "slices"

// listedTest adds a finding that tells the packets that it is about by itself.
func (m *importer) listedTest(level Level, at origin, test func(Packet) bool, format string, args ...any) {
	m.listed(level, at, nil, format, args...)
	m.findings[len(m.findings)-1].test = test
}

// acceptsAnswers says whether a rule accepts all packets of open connections of
// its families.
func (f *filter) acceptsAnswers(r *rule) bool {
	if r.do.kind != doAccept || r.vague() || !r.b[byState].has(stateEstablished) {
		return false
	}
	all := everything()
	all.b[byIn], all.b[byOut] = f.atoms.ours(), f.atoms.ours()
	all.b[byState], all.b[byFamily] = setOf(stateEstablished), r.b[byFamily]
	return r.covers(all.narrowed())
}

// statelessDrops finds what is dropped before open connections are accepted: a
// policy asks rules about new connections alone. In forward, new connections
// whose answers would have been dropped are dropped too.
func (f *filter) statelessDrops() {
	var out []*rule
	var accepted []box // of open connections
	for _, r := range f.list {
		out = append(out, r)
		if !r.b[byState].has(stateEstablished) {
			continue
		}
		if r.do.kind == doAccept && !r.vague() {
			accepted = append(accepted, r.box)
		}
		if r.do.kind != doDrop && r.do.kind != doReject || r.at == f.policyOf(r) || f.lastDrop(r) || !f.flagsMeet(r) {
			continue // the last is a policy in other words; see answers
		}
		met := r.box
		met.b[byState] = setOf(stateEstablished)
		left, ok := []box{met}, true
		for _, a := range accepted {
			if left, ok = minusAll(left, a); !ok {
				left = []box{met}
				break
			}
		}
		if len(left) == 0 || onlyForeign(left, f.atoms) {
			continue
		}
		if f.input {
			f.listed(Note, r.at, left, "it met answers to the gateway's own connections too; the policy asks rules about new connections alone")
			continue
		}
		if r.dport.count() <= narrow || r.b[byICMP] != every() || r.b[byFlags] != (set256{^uint64(0)}) || r.vague() {
			f.listed(Note, r.at, left, "it met answers too, if they looked like this; the policy asks rules about new connections alone")
			continue
		}
		for _, x := range left {
			opening := x.answered()
			opening.b[byState] = setOf(stateNew)
			if shut(f.list, opening, stateNew) {
				continue
			}
			out = append(out, &rule{box: opening, do: r.do, at: r.at})
			f.listed(Error, r.at, []box{x, opening}, "it met answers too, and the policy asks rules about new connections alone; so connections in the other direction are dropped as well")
		}
	}
	f.list = out
}

// narrow is how many ports may be named before it is more than a coincidence
// that an answer goes to one of them.
const narrow = 1024

func (p ports) count() int {
	n := 0
	for _, x := range p {
		n += int(x.hi-x.lo) + 1
	}
	return n
}

// flagsMeet says whether packets of open connections can have the flags that a
// rule asks for, and it is not only about beginnings.
func (f *filter) flagsMeet(r *rule) bool {
	const syn, ack = 2, 16
	beginnings := flagsSet(syn|ack, syn)
	return !r.b[byFlags].and(validFlags()).minus(beginnings).empty()
}

// lastDrop says whether a rule drops all of a family.
func (f *filter) lastDrop(r *rule) bool {
	all := everything()
	all.b[byIn], all.b[byOut] = f.atoms.ours(), f.atoms.ours()
	all.b[byFamily] = r.b[byFamily]
	all.b[byState] = setOf(stateNew, stateEstablished)
	return r.covers(all.narrowed())
}

// answers leaves out what is accepted while its answers are not: the policy
// always lets them pass.
func (f *filter) answers() {
	families, over := set256{}, set256{}
	for _, r := range f.list {
		switch {
		case r.do.kind != doAccept && r.do.kind != doReject && r.do.kind != doDrop:
		case r.do.kind != doAccept && !r.vague() && f.lastDrop(r):
			over = over.or(r.b[byFamily]) // nothing behind it is asked
		case f.acceptsAnswers(r):
			families = families.or(r.b[byFamily].minus(over))
		}
	}
	if f.input {
		all := everything()
		all.b[byIn], all.b[byOut], all.b[byState] = f.atoms.ours(), f.atoms.all(), setOf(stateEstablished)
		all.b[byFlags] = validFlags()
		left, ok := []box{all}, true
		for _, r := range f.list {
			if r.do.kind != doAccept && r.do.kind != doDrop && r.do.kind != doReject || r.vague() {
				continue
			}
			if r.do.kind != doAccept && f.lastDrop(r) && slices.ContainsFunc(left, r.meets) {
				f.listed(Error, r.at, left, "answers to the gateway's own connections were not all accepted; the policy always lets them pass")
				break
			}
			if left, ok = minusAll(left, r.box); !ok {
				break
			}
		}
		return
	}
	if families == setOf(4, 6) {
		return
	}
	f.listedTest(Note, origin{}, func(p Packet) bool { return p.Answer && p.Back != p.Out },
		"answers pass whatever way they are routed back; the rules accept them on the way that their connection came")
	f.list = slices.DeleteFunc(f.list, func(r *rule) bool {
		if r.do.kind != doAccept || !r.b[byState].has(stateNew) || r.b[byFamily].minus(families).empty() {
			return false
		}
		x := r.box
		x.odd, x.rate = nil, nil
		if x.b[byFlags] != (set256{^uint64(0)}) {
			x.b[byFlags] = set256{^uint64(0)}
		}
		back := x.answered()
		if f.partlyOpen(x, stateNew) && (!open(f.list, back, stateEstablished) || !open(f.list, forth(x), stateEstablished)) {
			_, closed, ok := decided(f.list, []box{back}, stateEstablished)
			if ok && onlyForeign(closed, f.atoms) {
				return false
			}
			f.listed(Error, r.at, []box{r.box}, "the rules do not accept all packets of the connections that it opens (answers, or what follows the first packet), and the policy would; it is left out")
			return true
		}
		return false
	})
}

// forth is what follows the first packet of a connection.
func forth(x box) box {
	x.b[byState] = setOf(stateEstablished)
	return x
}

func (f *filter) partlyOpen(x box, state int) bool { return !shut(f.list, x, state) }

// onlyForeign says whether boxes are about the interfaces of others alone.
func onlyForeign(list []box, a atoms) bool {
	return !slices.ContainsFunc(list, func(x box) bool {
		return !x.b[byIn].and(a.ours()).empty() && !x.b[byOut].and(a.ours()).empty()
	})
}
