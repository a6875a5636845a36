package adopt

import (
	"net/netip"
	"slices"
)

// translation is what one rule of nat translates, past the exceptions that
// stand before it.
type translation struct {
	box
	do   action
	at   origin
	used bool
}

// translations gives what the nat chains of a hook do.
func (m *importer) translations(hook string) []*translation {
	var out []*translation
	for _, c := range m.base(true, hook) {
		if c.base.drop {
			m.listed(Error, c.at, nil, "the policy of a nat chain is drop, and a policy has nothing for that")
		}
		var except []box
		for _, r := range m.flatOnce(c) {
			x := r.box
			x.b[byState], x.b[byFlags], x.b[byDNAT] = anyState(), set256{^uint64(0)}, setOf(0, 1)
			switch r.do.kind {
			case doNothing, doLog, doMark, doMSS:
				if r.do.kind == doLog {
					m.listed(Note, r.at, nil, "it logs in a nat chain; a `log` is a key of an entry")
				} else if r.do.kind != doNothing {
					m.listed(Error, r.at, []box{x}, "it stands in a nat chain, where a policy has nothing for it")
				}
				continue
			case doAccept:
				if r.vague() {
					m.listed(Error, r.at, []box{x}, "import does not know %s; what it takes out of translation is translated", oddText(r.box))
					continue
				}
				except = append(except, x)
				continue
			case doDNAT, doSNAT, doMasquerade, doRedirect, doNetmap:
			default:
				text := r.do.text
				if r.do.kind == doDrop || r.do.kind == doReject {
					text = "drop in a nat chain"
				}
				m.listed(Error, r.at, []box{x}, "a policy has nothing for `%s`", text)
				continue
			}
			if r.vague() {
				m.listed(Error, r.at, []box{x}, "import does not know %s; what it translates is not translated", oddText(r.box))
				continue
			}
			left := []box{x}
			for _, e := range except {
				less, ok := minusAll(left, e)
				if !ok {
					m.listed(Error, r.at, left, "the exceptions before it are too many to be written down, and the rule is left out")
					left = nil
					break
				}
				left = less
			}
			for _, y := range left {
				if n := len(out); n > 0 && out[n-1].at == r.at && sameAction(out[n-1].do, r.do) {
					if z, ok := out[n-1].joined(y); ok {
						out[n-1].box = z
						continue
					}
				}
				out = append(out, &translation{box: y, do: r.do, at: r.at})
			}
		}
	}
	return out
}

// postrouting makes masquerade and snat of what changes sources.
func (m *importer) postrouting(list []*translation) {
	for _, t := range list {
		if t.do.kind != doNetmap && t.dst.wide() && !t.b[byOut].and(m.atoms.ours()).minus(setOf(m.atoms.rest())).empty() && t.b[byOut] != m.atoms.all() {
			m.uplinks = m.uplinks.or(t.b[byOut].and(m.atoms.ours()).minus(setOf(m.atoms.rest())))
		}
	}
	var before []*translation
	for _, t := range list {
		if t.used {
			continue
		}
		for _, x := range m.past(t, before) {
			one := *t
			one.box = x
			m.source(&one)
		}
		before = append(before, t)
	}
}

// past gives what of a translation is left after those before it that stand
// behind it in a policy: there snat comes before masquerade.
func (m *importer) past(t *translation, before []*translation) []box {
	left := []box{t.box}
	if t.do.kind != doSNAT {
		return left
	}
	for _, b := range before {
		if b.do.kind != doMasquerade {
			continue
		}
		less, ok := minusAll(left, b.box)
		if !ok {
			m.listed(Error, t.at, left, "what of it is left behind the masquerade before it is too much to be written down, and it is left out")
			return nil
		}
		left = less
	}
	return left
}

// source makes an entry of a translation of sources.
func (m *importer) source(t *translation) {
	named := m.atoms.ours().minus(setOf(m.atoms.rest()))
	e := &entry{section: "masquerade", box: t.box, at: []origin{t.at}}
	to := t.b[byOut].and(named)
	switch {
	case t.b[byOut].and(m.atoms.ours()).empty():
		if !t.b[byOut].and(m.atoms.lo()).empty() {
			m.listed(Note, t.at, nil, "packets of the gateway to itself (lo) are never translated")
		}
		return
	case t.b[byOut] == m.atoms.all() && to.empty(), t.b[byOut].has(m.atoms.rest()) && m.uplinks.and(to).empty() && !m.namesUplink(to):
		m.defaultRoute = true
		e.toDefault = true
		to = set256{}
		m.listed(Error, t.at, []box{t.box}, "it names no interface by which packets leave; the policy translates what leaves by the default route, and nothing else")
	case t.b[byOut].has(m.atoms.rest()):
		x := t.box
		x.b[byOut] = setOf(m.atoms.rest())
		m.listed(Error, t.at, []box{x}, "it translates also what leaves by interfaces that no rule names; the policy does not")
	}
	e.b[byOut] = to
	from := t.b[byIn].and(m.atoms.ours())
	if t.dst.wide() {
		same := t.box
		if same.b[byIn] = from.and(to); !same.b[byIn].empty() && !e.toDefault {
			same.b[byOut] = to
			if from.minus(to).empty() {
				// Only between interfaces that it names.
			} else {
				from = from.minus(to)
				if !shut(m.forward.list, same, stateNew) {
					m.listed(Note, t.at, []box{same}, "what comes in by the interface that it leaves by is not translated")
				}
			}
		}
	}
	e.b[byIn] = m.reaching(from, e)
	if !m.opens(e) {
		e.add("forward", "false")
	}
	if t.do.ports.hi > 0 {
		e.add("outside_ports", portText(t.do.ports))
	}
	if t.do.random != "" {
		e.add("port_selection", t.do.random)
	}
	if !t.sport.equal(everyPort()) || t.b[byICMP] != every() || t.b[bySrcType] != everything().b[bySrcType] && !m.fromOthers(t.box) || t.b[byDstType] != everything().b[byDstType] && t.b[byDstType] != setOf(typeOther) {
		m.listed(Error, t.at, []box{t.box}, "a policy does not choose what it translates by source port, ICMP type or type of address; it is left out")
		return
	}
	if t.do.kind == doSNAT {
		if !m.pool(e, t) {
			return
		}
	}
	if t.do.kind == doNetmap {
		m.listed(Error, t.at, []box{t.box}, "it maps sources to a prefix, and no rule maps the prefix back; a policy has `one_to_one` for both directions together, and this one is left out")
		return
	}
	m.policy.add(e)
}

func (p ports) equal(q ports) bool { return slices.Equal(p, q) }

// fromOthers says whether a box is about sources that the host does not hold,
// which is so of all that is forwarded.
func (m *importer) fromOthers(x box) bool { return x.b[bySrcType].has(typeOther) }

// namesUplink says whether interfaces that a negation leaves are known as
// uplinks.
func (m *importer) namesUplink(to set256) bool { return !to.and(m.uplinks).empty() }

// reaching gives the interfaces from which something can reach what an entry
// translates; all of them, if nothing can.
func (m *importer) reaching(from set256, e *entry) set256 {
	var out set256
	for _, a := range from.list() {
		x := m.region(e)
		x.b[byIn] = setOf(a)
		if !shut(m.forward.list, x, stateNew) {
			out.add(a)
		}
	}
	if out.empty() {
		return from
	}
	return out
}

// region is what an entry translates, as forward sees it.
func (m *importer) region(e *entry) box {
	x := e.box
	x.b[byState], x.b[byDNAT] = anyState(), setOf(0)
	x.b[byDstType], x.b[bySrcType] = anyType(), anyType()
	if e.toDefault {
		x.b[byOut] = m.atoms.ours()
	}
	return x
}

// opens says whether an entry may open what it translates: nothing of it is
// left to the default.
func (m *importer) opens(e *entry) bool { return m.forward.settled(m.region(e)) }

// pool makes an snat entry.
func (m *importer) pool(e *entry, t *translation) bool {
	e.section = "snat"
	var list []string
	var all spans
	for _, x := range t.do.to {
		if x.unspecified() {
			m.listed(Error, t.at, []box{t.box}, "it translates ports alone, and no address; it is left out")
			return false
		}
		all = append(all, x.span)
		list = append(list, x.text())
	}
	e.addList("addresses", list)
	several := len(all) > 1 || all[0].lo != all[0].hi
	switch {
	case several && t.do.turn:
		e.add("distribution", "round-robin")
	case several && !t.do.persist:
		e.add("distribution", "kernel")
	}
	return true
}

// oneToOne finds pairs of translations that are each other's way back.
func (m *importer) oneToOne(in, out []*translation) {
	for _, d := range in {
		if d.used || d.do.kind != doDNAT && d.do.kind != doNetmap || len(d.do.to) != 1 || d.do.to[0].ports.hi > 0 || len(d.dst) != 1 || !alone(d.box, true) {
			continue
		}
		inside, outside := d.do.to[0].span, d.dst[0]
		for _, s := range out {
			if s.used || s.do.kind != doSNAT && s.do.kind != doNetmap || len(s.do.to) != 1 || s.do.to[0].ports.hi > 0 ||
				len(s.src) != 1 || !alone(s.box, false) || s.src[0] != inside || s.do.to[0].span != outside || sizeOf(inside) != sizeOf(outside) {
				continue
			}
			if d.do.kind == doDNAT && inside.lo != inside.hi {
				continue
			}
			zone := s.b[byOut].and(m.atoms.ours())
			if s.b[byOut] == m.atoms.all() {
				zone = d.b[byIn].and(m.atoms.ours())
			}
			if d.b[byIn] == m.atoms.all() && s.b[byOut] == m.atoms.all() || zone.len() != 1 {
				continue
			}
			if d.b[byIn] != m.atoms.all() && d.b[byIn].and(m.atoms.ours()) != zone {
				continue
			}
			d.used, s.used = true, true
			m.mapped(d, s, zone)
			break
		}
	}
}

// alone says whether a box is narrowed by nothing but interfaces and one
// address.
func alone(x box, destination bool) bool {
	y := everything()
	y.b[byIn], y.b[byOut], y.b[byFamily], y.b[byState] = x.b[byIn], x.b[byOut], x.b[byFamily], x.b[byState]
	y.src, y.dst = y.src.and(x.src), y.dst.and(x.dst)
	other := x.dst
	if destination {
		other = x.src
	}
	return x.equal(y) && (other.covers(everyAddress().of(4)) || other.covers(everyAddress().of(6)))
}

// sizeOf is how long the prefix is that a span is; -1 where it is none.
func sizeOf(x span) int {
	if x.lo == x.hi {
		return x.lo.BitLen()
	}
	p, err := netip.ParsePrefix(x.text())
	if err != nil {
		return -1
	}
	return p.Bits()
}

// mapped makes a one_to_one entry.
func (m *importer) mapped(d, s *translation, zone set256) {
	inside, outside := d.do.to[0].span, d.dst[0]
	e := &entry{section: "one_to_one", box: everything(), at: []origin{d.at, s.at}}
	e.b[byIn], e.b[byOut] = m.atoms.all(), zone
	e.add("outside", quoteAddress(outside.text()))
	e.add("inside", quoteAddress(inside.text()))
	e.outside, e.inside = outside, inside
	m.uplinks = m.uplinks.or(zone)
	if m.forward.def == doAccept {
		e.add("expose", "all")
	}
	m.policy.add(e)
	same := s.box
	if same.b[byIn], same.b[byOut] = zone, zone; !shut(m.forward.list, same, stateNew) {
		m.listed(Note, s.at, []box{same}, "what comes in by the interface that it leaves by is not translated")
	}
	// What goes out is opened; what was not, is closed again.
	x := everything()
	x.b[byState], x.b[byOut], x.b[byDNAT] = anyState(), zone, setOf(0)
	x.src = spans{inside}
	var closed set256
	for _, a := range m.atoms.ours().minus(zone).list() {
		x.b[byIn] = setOf(a)
		if y := x.narrowed(); !open(m.forward.list, y, stateNew) {
			closed.add(a)
		}
	}
	if !closed.empty() && m.forward.def != doAccept {
		x.b[byIn], x.b[byDNAT] = closed, setOf(0, 1)
		m.closings = append(m.closings, &rule{box: x.narrowed(), do: action{kind: m.forward.def}, at: s.at})
	}
	if d.b[byIn] != m.atoms.all() {
		y := d.box
		y.b[byIn] = m.atoms.all().minus(zone)
		e.oneSide = true
		level := Note
		led := everything()
		led.b[byIn], led.b[byOut], led.b[byState] = m.atoms.ours().minus(zone), m.atoms.ours(), anyState()
		led.dst = spans{inside}
		if m.forward.def == doAccept || !shut(m.forward.list, led.narrowed(), stateNew) {
			level = Error
		}
		m.listed(level, d.at, []box{y}, "inside hosts are led to the inside address too, where rules or `expose` let them")
	}
}

func sameAction(a, b action) bool {
	return a.kind == b.kind && slices.Equal(a.to, b.to) && a.ports == b.ports && a.random == b.random && a.persist == b.persist
}
