package adopt

import (
	"fmt"
	"slices"
	"strings"
)

// sections writes entries and rules as keys and values.
func (m *importer) sections() {
	for _, z := range m.zoneList {
		var keys []string
		switch {
		case z.rest:
			keys = append(keys, `networks: [0.0.0.0/0, "::/0"]`, "antispoof: false")
		case z.route:
			keys = append(keys, "default_route: true")
		case z.program != "":
			var list []string
			for _, p := range programs() {
				if p.name == z.program {
					for _, i := range p.interfaces {
						if !slices.Contains(m.atoms.texts(m.atoms.ours()), i) {
							list = append(list, quoteWord(i))
						}
					}
				}
			}
			keys = append(keys, "interfaces: "+listText(list))
		default:
			var list []string
			for _, a := range z.atoms.list() {
				list = append(list, quoteWord(m.atoms.patterns[a].String()))
			}
			keys = append(keys, "interfaces: "+listText(list))
			if z.mss != "" {
				keys = append(keys, "mss_clamp: "+z.mss)
			}
			if z.spoof {
				keys = append(keys, "antispoof: true")
			}
		}
		line := "  " + quoteWord(z.name) + ": {" + strings.Join(keys, ", ") + "}"
		if z.program != "" {
			line += " # " + z.program + " decides about these by rules of its own"
		}
		if z.rest {
			line += " # whatever comes by an interface that no other zone names"
		}
		m.policy.zones = append(m.policy.zones, line)
	}
	var off []string
	for f, name := range map[int]string{4: "ipv4", 6: "ipv6"} {
		if !m.seen.has(f) {
			off = append(off, name+": false")
		}
	}
	if len(off) > 0 && len(m.zoneList) > 0 {
		m.policy.gateway = []string{"  forwarding: {" + strings.Join(off, ", ") + "} # the input says nothing of it"}
	}
	order := []string{"one_to_one", "snat", "masquerade", "port_forward", "redirect"}
	slices.SortStableFunc(m.policy.entries, func(a, b *entry) int {
		return slices.Index(order, a.section) - slices.Index(order, b.section)
	})
	for _, e := range m.policy.entries {
		m.keys(e)
	}
	if len(m.zoneList) == 0 {
		return
	}
	m.ruleSection(&m.policy.rules, m.forward, m.closings)
	if m.in.def != doAccept || len(m.in.rules)+len(m.in.final) > 0 {
		m.ruleSection(&m.policy.input, m.in, nil)
	}
}

// keys writes the keys of an entry that translates, in the order of the docs.
func (m *importer) keys(e *entry) {
	own := e.fields
	e.fields = nil
	told := false
	switch e.section {
	case "one_to_one":
		e.addList("zone", m.zoneNames(e.b[byOut], false))
	case "masquerade", "snat":
		e.addList("from", m.zoneNames(e.b[byIn], false))
		if e.toDefault {
			e.add("to", "wan")
		} else {
			e.addList("to", m.zoneNames(e.b[byOut], false))
		}
		told = m.addresses(e, "sources", "except_sources", e.src, nil)
		told = m.addresses(e, "destinations", "except_destinations", e.dst, nil) || told
		told = told || e.section == "snat"
		m.protocols(e)
	case "port_forward":
		if from := m.zoneNames(e.b[byIn], true); from != nil {
			e.addList("from", from)
		} else if !e.b[byIn].empty() {
			e.add("from", "any")
		}
		for _, f := range own {
			if f.key == "address" {
				e.fields = append(e.fields, f)
			}
		}
		m.protocols(e)
		if !e.has("ports") {
			e.add("ports", "all")
		}
		told = true
	case "redirect":
		if from := m.zoneNames(e.b[byIn], true); from != nil {
			e.addList("from", from)
		} else {
			e.add("from", "any")
		}
		m.protocols(e)
		if !e.has("protocol") {
			e.add("protocol", "[tcp, udp, icmp, icmpv6]")
			m.listed(Note, e.at[0], nil, "a redirect names its protocols; other ones than TCP, UDP and ICMP are not redirected")
		}
	}
	for _, f := range own {
		if !e.has(f.key) {
			e.fields = append(e.fields, f)
		}
	}
	switch e.section {
	case "port_forward":
		m.addresses(e, "sources", "except_sources", e.src, nil)
		if !e.hairpinZones.empty() {
			zones := m.zoneNames(e.hairpinZones, false)
			value := "{zones: " + listText(zones)
			if e.hairpinOutside {
				value += ", source: outside"
			}
			e.add("hairpin", value+"}")
		} else if e.hairpinOutside {
			e.add("hairpin", "{source: outside}")
		}
	case "redirect":
		told = m.addresses(e, "sources", "except_sources", e.src, nil)
		var extra []string
		if e.gatewayOnly {
			extra = []string{"gateway"}
		}
		told = m.addresses(e, "destinations", "except_destinations", e.dst, extra) || told
		if e.notGateway && !e.has("destinations") {
			i := slices.IndexFunc(e.fields, func(f field) bool { return f.key == "except_destinations" })
			if i < 0 {
				e.add("except_destinations", "gateway")
			} else {
				e.fields[i].value = "[gateway, " + strings.Trim(e.fields[i].value, "[]") + "]"
			}
		}
	}
	if e.b[byFamily].len() == 1 && !told && e.section != "one_to_one" {
		e.add("family", familyName(e.b[byFamily]))
	}
	m.name(e)
}

func familyName(s set256) string {
	if s.has(4) {
		return "ipv4"
	}
	return "ipv6"
}

// protocols writes protocol, ports, source_ports and icmp_types.
func (m *importer) protocols(e *entry) {
	p := e.b[byProtocol]
	icmp := p.minus(setOf(1, 58)).empty() && e.b[byICMP] != every()
	if p != every() && !icmp {
		var list []string
		for _, n := range p.list() {
			list = append(list, protocolName(n))
		}
		e.addList("protocol", list)
	}
	if icmp {
		four, ok := icmpNames(e.b[byICMP].and(icmpOf(4, e)), 4)
		six, ok2 := icmpNames(e.b[byICMP].and(icmpOf(6, e)), 6)
		if p == setOf(1) {
			six, ok2 = nil, true
		}
		if p == setOf(58) {
			four, ok = nil, true
		}
		list := append(four, six...)
		slices.Sort(list)
		e.addList("icmp_types", slices.Compact(list))
		e.badTypes = !ok || !ok2 || len(list) == 0
	}
	if !e.sport.equal(everyPort()) {
		e.addList("source_ports", portList(e.sport))
	}
	if !e.dport.equal(everyPort()) {
		e.addList("ports", portList(e.dport))
	}
}

// icmpOf gives the types that a family has names for, where both are meant.
func icmpOf(family int, e *entry) set256 {
	if e.b[byProtocol].len() == 1 {
		return every()
	}
	low := set256{^uint64(0), ^uint64(0)}
	if family == 4 {
		return low.minus(setOf(1, 2)) // their numbers in ICMPv6 are below 5 or above 127
	}
	return every().minus(low).or(setOf(1, 2, 3, 4))
}

// ruleSection writes the rules of forward or input.
func (m *importer) ruleSection(s *section, f *filter, closings []*rule) {
	s.present = true
	s.def = actionName(f.def)
	for _, r := range f.defaults {
		if r != nil && r.do.kind == f.def && r.at.file != "" && !slices.Contains(s.defAt, r.at) {
			s.defAt = append(s.defAt, r.at)
		}
	}
	for i := len(f.redundant) - 1; i >= 0; i-- {
		if !slices.Contains(s.defAt, f.redundant[i]) {
			s.defAt = append(s.defAt, f.redundant[i])
		}
	}
	rules := slices.Clone(f.rules)
	for _, z := range m.zoneList {
		if z.program == "" || f.input || f.def == doAccept {
			continue
		}
		x := everything()
		x.b[byIn], x.b[byOut], x.b[byState] = m.atoms.all(), m.atoms.all(), anyState()
		rules = append(rules, &rule{box: x, do: action{kind: doAccept}, note: "by the rules of " + z.program, zones: [2]string{z.name, ""}},
			&rule{box: x, do: action{kind: doAccept}, note: "by the rules of " + z.program, zones: [2]string{"", z.name}})
	}
	rules = append(rules, closings...)
	final := f.final
	// What is left alone as a whole comes first: then no rule has to name the
	// other family.
	for i, r := range final {
		family := r.b[byFamily]
		if !slices.ContainsFunc(rules, func(o *rule) bool { return !o.b[byFamily].and(family).empty() }) {
			r.note = "left as it is"
			rules, final = append([]*rule{r}, rules...), slices.Delete(slices.Clone(final), i, i+1)
			for k, o := range rules[1:] {
				c := *o
				if c.src.covers(everyAddress().of(10-family.list()[0])) && c.dst.covers(everyAddress().of(10-family.list()[0])) {
					c.box = c.bothFamilies()
				}
				rules[k+1] = &c
			}
			break
		}
	}
	for _, r := range append(rules, final...) {
		if e := m.ruleEntry(f, r); e != nil {
			s.entries = append(s.entries, e)
		}
	}
}

// bothFamilies widens a box to both.
func (x box) bothFamilies() box {
	x.b[byFamily] = setOf(4, 6)
	x.src, x.dst = everyAddress(), everyAddress()
	return x
}

func actionName(k kind) string { return []string{"accept", "drop", "reject"}[k-doAccept] }

// ruleEntry writes one rule.
func (m *importer) ruleEntry(f *filter, r *rule) *entry {
	e := &entry{box: r.box, section: "forward", at: append([]origin{r.at}, r.also...), drops: r.do.kind != doAccept}
	if f.input {
		e.section = "input"
	}
	if r.b[byDNAT] == setOf(1) {
		return nil // what entries open by themselves
	}
	zones := 0
	for _, z := range m.zoneList {
		if !z.route {
			zones++
		}
	}
	if r.zones[0] != "" {
		e.add("from", r.zones[0])
	} else if r.zones[1] != "" {
		e.add("to", r.zones[1])
	} else if from := m.zoneNames(r.b[byIn], true); from != nil {
		e.addList("from", from)
	} else if zones > 0 && r.b[byIn].and(m.atoms.ours()).empty() {
		return nil
	}
	if !e.has("from") && len(m.zoneNames(r.b[byIn], false)) == 0 {
		return nil // of interfaces that are not the policy's
	}
	if !f.input && !m.atoms.ours().minus(r.b[byOut]).empty() {
		to := m.zoneNames(r.b[byOut], false)
		if len(to) == 0 {
			return nil
		}
		e.addList("to", to)
	}
	told := m.addresses(e, "sources", "except_sources", r.src, nil)
	extra, ok := m.kinds(f, r, e)
	if !ok {
		return nil
	}
	told = m.addresses(e, "destinations", "except_destinations", r.dst, extra) || told
	m.protocols(e)
	if e.badTypes {
		if r.do.kind == doAccept {
			m.listed(Error, r.at, []box{r.box}, "a policy has no name for its ICMP types; it is left out")
			return nil
		}
		e.fields = slices.DeleteFunc(e.fields, func(f field) bool { return f.key == "icmp_types" })
		var list []string
		for _, n := range r.b[byProtocol].list() {
			list = append(list, protocolName(n))
		}
		e.addList("protocol", list)
		all := r.box
		all.b[byICMP] = every()
		m.listed(Error, r.at, []box{all}, "a policy has no name for its ICMP types; it drops all types")
	}
	if e.b[byFamily].len() == 1 && !told {
		if p := e.b[byProtocol]; p != setOf(1) && p != setOf(58) || p == setOf(1) != e.b[byFamily].has(4) {
			e.add("family", familyName(e.b[byFamily]))
		} else if p.len() == 1 && e.has("icmp_types") {
			e.add("family", familyName(e.b[byFamily]))
		}
	}
	e.add("action", actionName(r.do.kind))
	if r.rate != nil {
		e.add("rate", rateText(r.rate))
	}
	if r.mark != nil {
		e.add("mark", fmt.Sprintf("%#x/%#x", r.mark[0], r.mark[1]))
	}
	if r.log != nil {
		e.add("log", logText(r.log, r.logRate))
	}
	e.note = r.note
	m.name(e)
	return e
}

// kinds turns a test of the type of the destination into addresses.
func (m *importer) kinds(f *filter, r *rule, e *entry) ([]string, bool) {
	if !r.b[bySrcType].has(typeOther) {
		m.listed(Note, r.at, nil, "it is about sources that are the host's own addresses, or those of many; the kernel drops such packets by itself")
		return nil, false
	}
	t := r.b[byDstType]
	if t == anyType() || !f.input && t.has(typeOther) {
		return nil, true
	}
	whole := r.dst.covers(everyAddress().of(4)) || r.dst.covers(everyAddress().of(6))
	if !whole {
		return nil, true // the addresses say more
	}
	var out []string
	if t.has(typeLocal) {
		out = append(out, "gateway")
	}
	if t.has(typeMulticast) {
		for _, family := range e.b[byFamily].list() {
			out = append(out, map[int]string{4: "224.0.0.0/4", 6: `"ff00::/8"`}[family])
		}
	}
	if t.has(typeBroadcast) {
		m.listed(Note, r.at, nil, "of broadcasts, a policy knows 255.255.255.255 alone")
		if e.b[byFamily].has(4) {
			out = append(out, "255.255.255.255")
		}
	}
	return out, len(out) > 0
}
