package adopt

import (
	"slices"
	"strconv"
)

// prerouting makes port forwards and redirects of what changes destinations.
func (m *importer) prerouting(in, out, own []*translation) {
	var before []*translation
	for _, t := range in {
		if t.used {
			continue
		}
		left := []box{t.box}
		if t.do.kind != doRedirect { // in a policy they come first
			for _, b := range before {
				if less, ok := minusAll(left, b.box); ok && b.do.kind == doRedirect {
					left = less
				}
			}
		}
		for _, x := range left {
			one := *t
			one.box = x
			switch t.do.kind {
			case doRedirect:
				m.redirect(&one, own)
			case doDNAT, doNetmap:
				m.portForward(&one, out, own)
			default:
				m.listed(Error, t.at, []box{x}, "it changes sources before routing, and a policy has nothing for that")
			}
		}
		before = append(before, t)
	}
	for _, t := range own {
		if !t.used && !m.loopbackForward(t) {
			m.listed(Error, t.at, nil, "connections of the gateway itself are translated only where others are, or at a loopback address; these are left as they are")
		}
	}
}

// withPorts are the protocols that a port forward can be of.
func withPorts() set256 { return setOf(6, 17, 132, 136) }

func (m *importer) portForward(t *translation, out, own []*translation) {
	e := &entry{section: "port_forward", box: t.box, at: []origin{t.at}}
	if t.do.kind == doNetmap {
		m.listed(Error, t.at, []box{t.box}, "it maps a prefix, and no rule maps it back; a policy has `one_to_one` for both directions together, and this one is left out")
		return
	}
	if other := t.b[byProtocol].minus(withPorts()); !other.empty() {
		x := t.box
		x.b[byProtocol] = other
		if t.b[byProtocol].and(withPorts()).empty() {
			m.listed(Error, t.at, []box{x}, "a port forward is of TCP, UDP, SCTP or UDP-Lite; this one is left out")
			return
		}
		m.listed(Error, t.at, []box{x}, "of what it translates, a port forward takes TCP, UDP, SCTP and UDP-Lite alone")
		e.b[byProtocol] = t.b[byProtocol].and(withPorts())
		if e.b[byProtocol] == withPorts() && t.b[byProtocol] == every() {
			e.dport = everyPort()
		}
	}
	if !t.sport.equal(everyPort()) || t.b[bySrcType] != everything().b[bySrcType] {
		m.listed(Error, t.at, []box{t.box}, "a port forward does not look at source ports or types of addresses; it is left out")
		return
	}
	e.b[byIn] = t.b[byIn].and(m.atoms.ours())
	if e.b[byIn].empty() {
		m.listed(Note, t.at, nil, "it is about interfaces of another program, or lo, and is left out")
		return
	}
	if !m.targets(e, t) || !m.address(e, t) {
		return
	}
	m.hairpin(e, t, out, own)
	m.policy.add(e)
	m.behind(e, t)
}

// targets says where a port forward leads.
func (m *importer) targets(e *entry, t *translation) bool {
	var list []string
	for _, x := range t.do.to {
		if x.unspecified() {
			m.listed(Error, t.at, []box{t.box}, "it changes the port alone, in transit; it is left out")
			return false
		}
		if x.lo.IsLoopback() {
			m.listed(Error, t.at, []box{t.box}, "it leads to a loopback address; a `redirect` hands flows to the gateway's own ports; it is left out")
			return false
		}
		n, single := 0, x.lo == x.hi
		for a := x.lo; ; a = a.Next() {
			if n++; n > 256 {
				m.listed(Error, t.at, []box{t.box}, "its range of targets is too long for a port forward; it is left out")
				return false
			}
			text := a.String()
			if x.ports.hi > 0 && !m.samePorts(e, x) {
				if a.Is6() {
					text = "[" + text + "]"
				}
				text += ":" + portText(x.ports)
			}
			list = append(list, quoteAddress(text))
			e.targets = append(e.targets, span{a, a})
			if a == x.hi {
				break
			}
		}
		if !single {
			m.listed(Note, t.at, nil, "how its flows are shared among the targets is another way: in turn")
		}
		e.targetPorts = t.dport
		if x.ports.hi > 0 {
			e.targetPorts = ports{x.ports}
		}
		m.rangeOfPorts(e, t, x)
	}
	slices.Sort(list)
	e.addList("to", slices.Compact(list))
	if t.do.sticky {
		e.add("sticky", "true")
	}
	return true
}

// samePorts says whether the target's ports are those that it takes.
func (m *importer) samePorts(e *entry, x target) bool {
	return x.base == 0 && e.dport.equal(ports{x.ports})
}

// rangeOfPorts lists what the kernel makes of a range of ports.
func (m *importer) rangeOfPorts(e *entry, t *translation, x target) {
	if x.ports.lo == x.ports.hi || m.samePorts(e, x) {
		return
	}
	from := 0
	for _, p := range e.dport {
		from += int(p.hi-p.lo) + 1
	}
	if len(e.dport) == 1 && from == int(x.ports.hi-x.ports.lo)+1 {
		if x.base != e.dport[0].lo {
			m.listed(Error, t.at, []box{t.box}, "the kernel gives each connection any port of the range; the policy keeps the offset")
		}
		return
	}
	// A range of another length is refused by the language: the first port.
	m.listed(Error, t.at, []box{t.box}, "its range of target ports has another length than that of its ports; the policy leads to the first")
	e.fields = slices.DeleteFunc(e.fields, func(f field) bool { return f.key == "to" })
}

// address says at which addresses a port forward is.
func (m *importer) address(e *entry, t *translation) bool {
	everywhere := t.dst.covers(everyAddress().of(4)) || t.dst.covers(everyAddress().of(6))
	switch {
	case !everywhere:
		if t.b[byDstType] != everything().b[byDstType] && !t.b[byDstType].has(typeOther) && t.b[byDstType] != setOf(typeLocal) {
			m.listed(Error, t.at, []box{t.box}, "a port forward does not look at the type of the address; it is left out")
			return false
		}
		var list []string
		for _, x := range t.dst {
			list = append(list, quoteAddress(x.text()))
		}
		e.addList("address", list)
	case t.b[byDstType] == setOf(typeLocal):
	case t.b[byDstType].has(typeOther) && (m.forward.def == doAccept || e.b[byIn].and(m.uplinks).empty() || !e.b[byIn].minus(m.uplinks).minus(setOf(m.atoms.rest())).empty()):
		e.add("address", "any")
	case t.b[byDstType].has(typeOther):
		m.listedTest(Note, t.at, func(p Packet) bool {
			return p.Out != "" && e.b[byIn].has(m.atoms.of(p.In)) && e.dport.has(p.DestinationPort)
		}, "it takes what is in transit too, whatever its destination; the policy takes what is for the gateway's own addresses (`address: any` is what the rule says)")
	default:
		m.listed(Error, t.at, []box{t.box}, "a port forward does not look at the type of the address; it is left out")
		return false
	}
	return true
}

// hairpin finds the rules that let inside hosts, and the gateway, use a forward.
func (m *importer) hairpin(e *entry, t *translation, out, own []*translation) {
	gateway := false
	for _, o := range own {
		if o.do.kind == doDNAT && slices.Equal(o.do.to, t.do.to) && o.dport.equal(t.dport) && !o.b[byProtocol].and(t.b[byProtocol]).empty() && slices.Equal(o.dst, t.dst) {
			o.used, gateway = true, true
			e.at = append(e.at, o.at)
		}
	}
	var sources []*translation
	outside := false
	for _, s := range out {
		if s.do.kind != doMasquerade && s.do.kind != doSNAT || len(s.dst) != 1 || !slices.Contains(e.targets, s.dst[0]) ||
			!s.b[byProtocol].and(e.b[byProtocol]).minus(e.b[byProtocol]).empty() || s.b[byProtocol].and(e.b[byProtocol]).empty() || len(s.dport.and(e.targetPorts)) == 0 {
			continue
		}
		sources = append(sources, s)
		outside = s.do.kind == doSNAT && len(s.do.to) == 1 && len(t.dst) == 1 && s.do.to[0].span == t.dst[0]
	}
	all := m.atoms.ours()
	inside := e.b[byIn].minus(m.uplinks)
	if len(sources) > 0 && e.b[byIn] == all.and(e.b[byIn]) && !inside.empty() && !e.b[byIn].and(m.uplinks).empty() {
		// The inside is in the rule: say it as a hairpin.
		e.b[byIn] = e.b[byIn].and(m.uplinks)
		e.hairpinZones = inside
		e.hairpinOutside = outside
		for _, s := range sources {
			s.used = true
			e.at = append(e.at, s.at)
			x := s.box
			m.listed(Note, s.at, []box{x}, "of what it translates, the policy gives a new source to what port_forward has translated, where it leaves by the interface that it came in by")
		}
		if gateway {
			e.hairpinZones = set256{} // all, and the gateway
			if inside != all.minus(m.uplinks) {
				m.listed(Error, t.at, nil, "the gateway itself uses it, and only some inside zones do; the policy has all of these or not the gateway")
			}
			return
		}
		return
	}
	if gateway && e.b[byIn] == all {
		return // there is no inside beside it
	}
	if gateway {
		for _, o := range own {
			if o.used && slices.Equal(o.do.to, t.do.to) {
				m.listed(Error, o.at, nil, "the gateway's own connections to a port forward go with those of all inside hosts (`hairpin: true`); these are left as they are")
			}
		}
	}
	e.add("hairpin", "false")
}

// behind looks at what forward makes of what a port forward translates, and
// closes what the rules did not let pass.
func (m *importer) behind(e *entry, t *translation) {
	if m.forward.def == doAccept && len(m.forward.rules) == 0 {
		return
	}
	for _, target := range e.targets {
		x := everything()
		x.b[byIn], x.b[byProtocol], x.b[byDNAT] = e.b[byIn].or(e.hairpinZones), e.b[byProtocol], setOf(1)
		x.b[byState] = anyState()
		x.src, x.dst, x.dport = e.src, spans{target}, e.targetPorts
		x = x.narrowed()
		var reached, closed set256
		for _, a := range m.atoms.ours().list() {
			y := x
			y.b[byOut] = setOf(a)
			if m.forward.settled(y) {
				reached.add(a)
			} else {
				closed.add(a)
			}
		}
		switch {
		case reached.empty():
			x.b[byDNAT] = setOf(0, 1)
			m.closings = append(m.closings, &rule{box: x, do: action{kind: closingKind(m.forward.def)}, at: t.at})
			if len(e.targets) == 1 {
				y := x
				y.b[byOut] = m.atoms.ours()
				if shut(m.forward.list, y, stateNew) {
					m.listed(Note, t.at, nil, "the rules translate it, and then let nothing of it pass: so does the policy")
				}
			}
		case !closed.empty() && m.forward.def != doAccept:
			y := x
			y.b[byOut] = closed
			m.listed(Note, t.at, []box{y}, "the rules let it pass if the target is behind %s; the policy wherever the target is", m.atoms.names(reached))
		}
	}
}

func closingKind(def kind) kind {
	if def == doAccept {
		return doDrop
	}
	return def
}

// redirect makes a redirect entry.
func (m *importer) redirect(t *translation, own []*translation) {
	e := &entry{section: "redirect", box: t.box, at: []origin{t.at}}
	e.b[byIn] = t.b[byIn].and(m.atoms.ours())
	if t.do.ports.lo != t.do.ports.hi || !t.sport.equal(everyPort()) || t.b[byICMP] != every() || t.b[bySrcType] != everything().b[bySrcType] {
		m.listed(Error, t.at, []box{t.box}, "a redirect leads to one port, and does not look at source ports, ICMP types or types of addresses; it is left out")
		return
	}
	switch {
	case t.b[byDstType] == setOf(typeLocal) && (t.dst.covers(everyAddress().of(4)) || t.dst.covers(everyAddress().of(6))):
		e.gatewayOnly = true
	case !t.b[byDstType].has(typeOther):
		m.listed(Error, t.at, []box{t.box}, "a redirect does not look at the type of the address; it is left out")
		return
	case !t.b[byDstType].has(typeLocal):
		e.notGateway = true
	}
	port := t.do.ports.lo
	if port > 0 && !t.dport.equal(ports{{port, port}}) {
		e.add("to_port", strconv.Itoa(int(port)))
	}
	x := t.box
	x.b[byIn], x.b[byDstType], x.b[byState], x.b[byDNAT] = e.b[byIn], anyType(), anyState(), setOf(1)
	x.dst = everyAddress()
	x.b[byOut] = m.atoms.all()
	if port > 0 {
		x.dport = ports{{port, port}}
	}
	if x = x.narrowed(); !open(m.in.list, x, stateNew) {
		drop := &rule{box: t.box, do: action{kind: doDrop}, at: t.at}
		drop.b[byState], drop.b[byDNAT], drop.b[byDstType] = anyState(), setOf(0, 1), anyType()
		m.forward.rules = append([]*rule{drop}, m.forward.rules...)
		m.listed(Error, t.at, []box{t.box}, "input does not accept all that it leads to the gateway, and the policy would; it is left out, and what it takes in transit is dropped")
		return
	}
	for _, o := range own {
		if o.do.kind == doRedirect && o.do.ports == t.do.ports && o.b[byProtocol] == t.b[byProtocol] && o.dport.equal(t.dport) && slices.Equal(o.dst, t.dst) && !e.has("local") {
			o.used = true
			e.at = append(e.at, o.at)
			e.add("local", "true")
		}
	}
	if port > 0 && !t.dport.has(port) && !shut(m.in.list, m.direct(t, port), stateNew) {
		m.listed(Note, t.at, []box{m.direct(t, port)}, "port %d is closed to those who connect to it directly", port)
	}
	if port == 0 || t.dport.has(port) {
		m.listedTest(Note, t.at, func(p Packet) bool {
			return p.Out == "" && e.b[byIn].has(m.atoms.of(p.In)) && (port == 0 || p.DestinationPort == port)
		}, "what is aimed at this port of the gateway by itself keeps its address")
	}
	m.policy.add(e)
}

// direct is what is aimed at the port of a redirect by itself.
func (m *importer) direct(t *translation, port uint16) box {
	x := everything()
	x.b[byProtocol] = t.b[byProtocol]
	x.dport = ports{{port, port}}
	x.b[byIn], x.b[byOut], x.b[byDNAT] = m.atoms.ours(), m.atoms.all(), setOf(0)
	return x.narrowed()
}

// loopbackForward makes a port forward of the gateway's own connections to a
// loopback address.
func (m *importer) loopbackForward(t *translation) bool {
	if t.do.kind != doDNAT || len(t.dst) != 1 || !t.dst[0].lo.IsLoopback() || t.dst[0].lo != t.dst[0].hi || len(t.do.to) != 1 || !t.b[byProtocol].minus(withPorts()).empty() || t.do.to[0].lo.IsLoopback() {
		return false
	}
	e := &entry{section: "port_forward", box: t.box, at: []origin{t.at}}
	e.b[byIn] = set256{}
	if !m.targets(e, t) {
		return true
	}
	e.add("address", quoteAddress(t.dst[0].text()))
	m.policy.add(e)
	return true
}
