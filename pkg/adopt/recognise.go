package adopt

import (
	"slices"
	"strconv"
	"strings"
)

// recognise makes the policy out of the rules.
func (m *importer) recognise() {
	for _, c := range m.rules.order {
		if c.base != nil && c.foreign == "" {
			m.seen = m.seen.or(c.families)
		}
	}
	m.segments()
	m.in = m.newFilter("input")
	m.in.read()
	m.forward = m.newFilter("forward")
	m.forward.read()
	in, out, own := m.translations("prerouting"), m.translations("postrouting"), m.translations("output")
	for _, t := range m.translations("input") {
		m.listed(Error, t.at, nil, "sources of what is for the gateway itself are not translated by a policy")
	}
	m.oneToOne(in, out)
	for _, t := range out { // known before port forwards ask for them
		if t.do.kind != doNetmap && t.b[byOut] != m.atoms.all() && t.dst.wide() {
			m.uplinks = m.uplinks.or(t.b[byOut].and(m.atoms.ours()).minus(setOf(m.atoms.rest())))
		}
	}
	m.prerouting(in, out, own)
	m.postrouting(out)
	m.output()
	m.marks()
	m.expose()
	m.opened()
	m.general()
	m.zones()
	m.sections()
}

// early gives what chains before routing drop: it is asked of what is forwarded
// and of what is for the gateway.
func (m *importer) early(input bool) []*rule {
	var out []*rule
	for _, c := range m.base(false, "prerouting") {
		list := m.flatOnce(c)
		if c.base.drop {
			list = append(list, &rule{box: everything(), do: action{kind: doDrop}, at: c.at})
		}
		for _, r := range m.dropsAlone(c, list) {
			if r.do.kind == doOdd || r.do.kind == doLog {
				if r.do.kind == doOdd {
					level := oddLevel(r.do.text)
					m.listed(level, r.at, []box{r.box}, "a policy has nothing for `%s`", r.do.text)
				}
				continue
			}
			if slices.ContainsFunc(r.odd, isPathTest) {
				m.antispoof = m.antispoof.or(r.b[byIn])
				m.listed(Error, r.at, []box{r.box}, "it looks at the way back to the source: so does `antispoof`, which spares what one uplink brings and another one leads back to, and interfaces that no rule names")
				continue
			}
			whole := r.dst.covers(everyAddress().of(4)) || r.dst.covers(everyAddress().of(6))
			if (!whole || !r.dport.equal(everyPort())) && m.translates() {
				m.listed(Error, r.at, []box{r.box}, "it is asked before translation, and the rules of a policy behind it")
			}
			out = append(out, r)
		}
	}
	return out
}

// isPathTest recognises rpfilter and its like.
func isPathTest(odd string) bool {
	return strings.Contains(odd, "rpfilter") || strings.HasPrefix(odd, "fib saddr") && strings.Contains(odd, "iif oif")
}

// translates says whether anything gets a new destination.
func (m *importer) translates() bool {
	return slices.ContainsFunc(m.base(true, "prerouting"), func(c *chain) bool { return len(c.rules) > 0 })
}

// output lists what is said of the gateway's own packets.
func (m *importer) output() {
	for _, c := range m.base(false, "output") {
		for _, r := range m.flatOnce(c) {
			switch {
			case r.do.kind == doDrop || r.do.kind == doReject:
				if r.b[byState].and(setOf(stateNew, stateEstablished, stateRelated)).empty() {
					continue
				}
				m.listed(Error, r.at, nil, "a policy has no rules for what the gateway itself sends")
			case r.do.kind == doOdd || r.do.kind == doMark:
				m.listed(Note, r.at, nil, "a policy has no rules for what the gateway itself sends")
			}
		}
		if c.base.drop {
			m.listed(Error, c.at, nil, "a policy has no rules for what the gateway itself sends, and so not this policy of the chain")
		}
	}
	for _, c := range m.base(false, "postrouting") {
		for _, r := range m.flatOnce(c) {
			if r.do.kind == doDrop || r.do.kind == doReject {
				m.listed(Error, r.at, []box{r.box}, "a policy has no rules behind the translation of sources")
			}
		}
		if c.base.drop {
			m.listed(Error, c.at, []box{everything()}, "a policy has no rules behind the translation of sources, and so not this policy of the chain")
		}
	}
}

// segments finds mss_clamp.
func (m *importer) segments() {
	m.mss = map[int]string{}
	for _, hook := range []string{"prerouting", "forward", "postrouting", "output", "input"} {
		for _, c := range m.base(false, hook) {
			for _, r := range m.flatOnce(c) {
				if r.do.kind != doMSS {
					continue
				}
				if hook == "output" || hook == "input" {
					m.listed(Note, r.at, nil, "segment sizes of the gateway's own connections are left alone")
					continue
				}
				size := "pmtu"
				if r.do.mss > 0 {
					size = strconv.Itoa(r.do.mss)
				}
				if r.do.mss > 0 && r.do.mss < 536 {
					m.listed(Error, r.at, nil, "mss_clamp takes 536 and more")
					continue
				}
				on := r.b[byOut]
				if on == m.atoms.all() {
					on = r.b[byIn]
				}
				if on == m.atoms.all() {
					on = set256{}
					m.clampAll = append(m.clampAll, size)
				} else if on = on.and(m.atoms.ours()).minus(setOf(m.atoms.rest())); on.empty() {
					continue
				}
				whole := func(s spans) bool { return s.covers(everyAddress().of(4)) || s.covers(everyAddress().of(6)) }
				if len(r.odd) > 0 || !whole(r.src) || !whole(r.dst) || !r.dport.equal(everyPort()) || !r.sport.equal(everyPort()) {
					m.listed(Note, r.at, nil, "mss_clamp is for all TCP connections to and from a zone")
				}
				for _, a := range on.list() {
					m.mss[a] = size
				}
				if r.b[byOut] == m.atoms.all() != (r.b[byIn] == m.atoms.all()) && !m.clampsBack(r, on) {
					m.listed(Note, r.at, nil, "mss_clamp is for both directions")
				}
			}
		}
	}
}

// clampsBack says whether another rule clamps the other direction.
func (m *importer) clampsBack(r *rule, on set256) bool {
	for _, hook := range []string{"prerouting", "forward", "postrouting"} {
		for _, c := range m.base(false, hook) {
			for _, o := range m.flatOnce(c) {
				if o.do.kind == doMSS && o.do.mss == r.do.mss && (r.b[byOut] == m.atoms.all() && o.b[byOut] == on || r.b[byIn] == m.atoms.all() && o.b[byIn] == on) {
					return true
				}
			}
		}
	}
	return false
}

// marks gives rules that accept the marks that others set for the same packets.
func (m *importer) marks() {
	for _, hook := range []string{"prerouting", "forward", "postrouting"} {
		for _, c := range m.base(false, hook) {
			for _, r := range m.flatOnce(c) {
				if r.do.kind != doMark {
					continue
				}
				done := false
				if hook != "postrouting" && !r.vague() {
					for _, o := range m.forward.rules {
						x := r.box
						x.b[byState], x.b[byOut] = anyState(), o.b[byOut]
						if o.do.kind == doAccept && o.mark == nil && o.rate == nil && x.equal(o.box) {
							mark := r.do.mark
							o.mark, done = &mark, true
							o.also = append(o.also, r.at)
							m.listed(Note, r.at, []box{forth(r.box)}, "the mark is set for what the rule that accepts it matches, and not for answers")
							break
						}
					}
				}
				if !done && r.do.mark[0] == 0 {
					m.listed(Note, r.at, nil, "it clears a mark, and a policy has nothing to clear")
				} else if !done {
					m.listed(Error, r.at, []box{r.box}, "a mark belongs to a rule that accepts just these packets, and there is none; it is not set")
				}
			}
		}
	}
}

// expose lets one_to_one entries name what comes in, where rules accept just
// that.
func (m *importer) expose() {
	for _, e := range m.policy.entries {
		if e.section != "one_to_one" || m.forward.def == doAccept || e.oneSide {
			continue // `expose` is for inside hosts too
		}
		var list []string
		kept := m.forward.rules[:0:0]
		for i, r := range m.forward.rules {
			services, ok := m.exposed(e, r)
			if !ok || !m.removable(i) {
				kept = append(kept, r)
				continue
			}
			list = append(list, services...)
			e.at = append(e.at, r.at)
			direct := r.box
			m.listed(Note, r.at, []box{direct}, "it also accepts who connects straight to the inside address; `expose` opens what was sent to the outside address")
		}
		m.forward.rules = kept
		if len(list) > 0 {
			e.addList("expose", list)
		}
	}
}

// exposed gives what a rule accepts for the inside of an entry, as expose has it.
func (m *importer) exposed(e *entry, r *rule) ([]string, bool) {
	if r.do.kind != doAccept || r.vague() || r.mark != nil || r.log != nil || len(r.dst) != 1 || r.dst[0] != e.inside || !r.sport.equal(everyPort()) ||
		!r.src.covers(everyAddress().of(4)) && !r.src.covers(everyAddress().of(6)) || r.b[byICMP] != every() || r.b[byIn].and(m.atoms.ours()) != e.b[byOut] {
		return nil, false
	}
	if r.b[byProtocol] == every() {
		return []string{"all"}, true
	}
	var out []string
	for _, p := range r.b[byProtocol].list() {
		name := protocolName(p)
		if r.dport.equal(everyPort()) {
			out = append(out, name)
			continue
		}
		for _, x := range r.dport {
			out = append(out, name+"/"+portText(x))
		}
	}
	return out, len(out) <= 16
}

// removable says whether a rule that accepts can go where something behind the
// rules accepts the same: no rule in between says otherwise.
func (m *importer) removable(i int) bool {
	r := m.forward.rules[i]
	if r.do.kind != doAccept || r.vague() || r.log != nil || r.mark != nil {
		return false
	}
	later := append(slices.Clone(m.forward.rules[i+1:]), m.closings...)
	return !slices.ContainsFunc(later, func(l *rule) bool { return l.do.kind != doAccept && l.meets(r.box) })
}

// opened takes out the rules that accept no more than what entries open by
// themselves.
func (m *importer) opened() {
	if m.forward.def == doAccept {
		return
	}
	for i := 0; i < len(m.forward.rules); i++ {
		r := m.forward.rules[i]
		if r.b[byDNAT] == setOf(1) && r.do.kind == doAccept {
			if !m.removable(i) {
				m.listed(Error, r.at, []box{r.box}, "it accepts what is translated before the rules behind it are asked; in a policy they are asked first")
			}
			m.remove(i)
			i--
			continue
		}
		if !m.removable(i) {
			continue
		}
		x := r.box
		x.b[byIn], x.b[byOut] = x.b[byIn].and(m.atoms.ours()), x.b[byOut].and(m.atoms.ours())
		x.b[byDNAT], x.b[byState] = setOf(0), anyState()
		left, ok := []box{x}, true
		var by []*entry
		for _, e := range m.policy.entries {
			if e.section != "masquerade" && e.section != "snat" || e.has("forward") || e.toDefault {
				continue
			}
			if m.region(e).meets(x) && ok {
				if left, ok = minusAll(left, m.region(e)); ok {
					by = append(by, e)
				}
			}
		}
		if ok && len(left) == 0 {
			for _, e := range by {
				e.at = append(e.at, r.at)
			}
			m.remove(i)
			i--
			continue
		}
		if e := m.straight(r); e != nil {
			e.at = append(e.at, r.at)
			m.listed(Note, r.at, []box{r.box}, "it also accepts who connects straight to the target; the policy lets pass what %s translated", e.section)
			m.remove(i)
			i--
		}
	}
}

func (m *importer) remove(i int) {
	m.forward.rules = slices.Delete(slices.Clone(m.forward.rules), i, i+1)
}

// straight gives the port forward that a rule stands for: it accepts nothing
// but its target.
func (m *importer) straight(r *rule) *entry {
	for _, e := range m.policy.entries {
		if e.section != "port_forward" || len(e.targets) == 0 {
			continue
		}
		x := everything()
		x.b[byIn], x.b[byProtocol] = e.b[byIn].or(e.hairpinZones), e.b[byProtocol]
		x.b[byState] = anyState()
		x.b[byOut] = m.atoms.all()
		x.dst, x.dport = nil, e.targetPorts
		for _, t := range e.targets {
			x.dst = append(x.dst, t)
		}
		x.dst = mergeSpans(x.dst)
		y := r.box
		y.b[byIn] = y.b[byIn].and(m.atoms.ours())
		y.b[byState] = anyState()
		if x.narrowed().covers(y) {
			return e
		}
	}
	return nil
}

// general lists what is so by design, once.
func (m *importer) general() {
	translates := slices.ContainsFunc(m.policy.entries, func(e *entry) bool { return e.section == "masquerade" || e.section == "snat" })
	for _, family := range []int{4, 6} {
		if !m.seen.has(family) {
			name, tool := "IPv6", "ip6tables-save"
			if family == 4 {
				name, tool = "IPv4", "iptables-save"
			}
			m.listed(Note, origin{}, nil, "the input says nothing of %s, and the policy leaves it as it is; if there are rules for it, give import both files (%s)", name, tool)
		}
	}
	if translates {
		m.listedTest(Note, origin{}, func(p Packet) bool { return m.forged(p) }, "what an inside host sends with a source that the host would answer by an uplink, and that goes elsewhere, is dropped as forged")
	}
	if translates && slices.ContainsFunc(m.in.rules, func(r *rule) bool { return r.do.kind == doAccept && !r.dport.equal(everyPort()) }) {
		var reserved ports
		for _, r := range m.in.rules {
			if r.do.kind == doAccept && !r.dport.equal(everyPort()) {
				reserved = append(reserved, r.dport...)
			}
		}
		reserved = mergePorts(reserved)
		m.listedTest(Note, origin{}, func(p Packet) bool { return scarce(p.SourcePort, reserved) }, "inside hosts are not given the gateway's own open ports as outside ports, nor the few between them (reserved_ports)")
	}
	if slices.ContainsFunc(m.policy.entries, func(e *entry) bool { return e.section == "port_forward" || e.section == "one_to_one" }) {
		m.listedTest(Note, origin{}, func(p Packet) bool { return p.To.IsValid() && p.To != p.Destination && p.In == p.Out },
			"what a port forward or one_to_one leads out of the interface that it came in by has the gateway's address as its source, so that answers come back")
	}
	var rated []box
	for _, r := range append(slices.Clone(m.in.rules), m.forward.rules...) {
		if r.rate != nil {
			rated = append(rated, r.box)
		}
	}
	if len(rated) > 0 {
		m.listed(Note, origin{}, rated, "a `rate` counts new connections, and not packets")
	}
	m.listedTest(Note, origin{}, func(p Packet) bool {
		return p.Protocol == 6 && p.Flags&0x3f != 2 && !p.Answer || (p.Protocol == 1 || p.Protocol == 58) && p.ICMPType != 8 && p.ICMPType != 128
	}, "packets that belong to no connection and open none are dropped (invalid), and what should have been translated and was not does not leave")
}

// scarce says whether a flow from a port is given another one: a reserved port,
// and one of a run of few ports between these.
func scarce(port uint16, reserved ports) bool {
	const few = 32
	for _, half := range []ports{{{1, 1023}}, {{1024, 65535}}} {
		for _, run := range half.minus(reserved) {
			if run.lo <= port && port <= run.hi {
				return run.hi-run.lo+1 < few
			}
		}
	}
	return true
}

// forged says whether a packet claims a source that answers would leave for by
// an uplink, and goes elsewhere itself.
func (m *importer) forged(p Packet) bool {
	var uplinks set256
	for _, e := range m.policy.entries {
		if e.section == "masquerade" || e.section == "snat" || e.section == "one_to_one" {
			uplinks = uplinks.or(e.b[byOut])
		}
	}
	return p.Back != p.In && p.Back != p.Out && uplinks.has(m.atoms.of(p.Back)) && !uplinks.has(m.atoms.of(p.In))
}
