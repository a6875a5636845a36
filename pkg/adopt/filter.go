package adopt

import (
	"slices"
	"strings"
)

// filter turns the rules of a hook into rules of the policy. What is accepted,
// and for whom, is kept in list for others to ask.
type filter struct {
	*importer
	input    bool
	list     []*rule // as the kernel asks them
	rules    []*rule // of the policy: new connections alone
	defaults [2]*rule
	def      kind
	final    []*rule // of a family whose default is another
	// redundant are rules that say what the default says.
	redundant []origin
}

// newFilter reads a hook.
func (m *importer) newFilter(hook string) *filter {
	f := &filter{importer: m, input: hook == "input"}
	list := append(m.early(f.input), m.hookRules(hook)...)
	at := everything()
	at.b[byIn], at.b[byOut] = m.atoms.all(), m.atoms.all()
	if f.input {
		at.b[byDstType] = setOf(typeLocal, typeBroadcast, typeMulticast)
	} else {
		at.b[byDstType] = setOf(typeOther, typeMulticast)
	}
	for _, r := range list {
		c := *r
		if f.input {
			// What has no way out yet has none that a rule could ask for.
			if c.b[byOut] != m.atoms.all() {
				continue
			}
		}
		if c.box = c.and(at); c.empty() {
			continue
		}
		if len(portList(c.sport)) == 0 || len(portList(c.dport)) == 0 {
			f.listed(Note, r.at, nil, "it is about port 0, which nobody uses and a policy does not know")
			continue
		}
		if c.b[byDstType] == at.b[byDstType] {
			c.b[byDstType] = anyType()
		}
		f.list = append(f.list, &c)
	}
	return f
}

// read makes the rules of the policy.
func (f *filter) read() {
	f.statelessDrops()
	f.answers()
	var log *rule
	for i := range f.list {
		r := f.list[i]
		if r.do.kind == doLog || r.do.kind == doMark {
			if r.do.kind == doLog {
				if log != nil {
					f.notLogged(log)
				}
				log = r
			}
			continue
		}
		out := f.newConnections(r)
		if out == nil {
			if log != nil && sameButRate(log.box, r.box) {
				log = nil // what only logs of invalid packets, say
			}
			continue
		}
		if log != nil {
			if sameButRate(log.box, r.box) && out.at.text != "" && r.at != f.policyOf(r) {
				l := log.do.log
				out.log, out.logRate = &l, log.rate
				out.also = append(out.also, log.at)
			} else {
				f.notLogged(log)
			}
			log = nil
		}
		f.rules = append(f.rules, out)
	}
	if log != nil {
		f.notLogged(log)
	}
	f.settleDefaults()
	f.trim()
	f.join()
}

// trim takes out what says the same as the default, unless a rule behind it
// says otherwise of some of it.
func (f *filter) trim() {
	for i := len(f.rules) - 1; i >= 0; i-- {
		r := f.rules[i]
		if r.do.kind != f.def || r.log != nil || r.mark != nil || r.vague() {
			continue
		}
		if slices.ContainsFunc(f.final, func(l *rule) bool { return l.meets(r.box) }) {
			continue
		}
		if !slices.ContainsFunc(f.rules[i+1:], func(l *rule) bool { return l.do.kind != f.def && l.meets(r.box) }) {
			f.rules = slices.Delete(f.rules, i, i+1)
			f.redundant = append(f.redundant, r.at)
		}
	}
}

// policyOf gives the place of a chain's policy, if the rule is that.
func (f *filter) policyOf(r *rule) origin {
	if len(r.at.text) > 0 && (r.at.text[0] == ':' || strings.HasPrefix(r.at.text, "chain ")) {
		return r.at
	}
	return origin{}
}

func (f *filter) notLogged(r *rule) {
	f.listed(Note, r.at, nil, "it logs what no rule of the policy stands for; a `log` is a key of an entry (for what is dropped in the end, write a last rule {name: rest, action: drop, log: true})")
}

// sameButRate says whether two rules are about the same packets, a rate aside:
// a log is mostly limited.
func sameButRate(a, b box) bool {
	a.rate, b.rate = nil, nil
	return a.equal(b)
}

// newConnections gives what a rule says of new connections, or nil where it
// says nothing that a policy has to.
func (f *filter) newConnections(r *rule) *rule {
	out := *r
	if r.do.kind == doNothing {
		if len(r.odd) > 0 {
			f.listed(Note, r.at, nil, "it only counts, and is left out")
		}
		return nil
	}
	if r.do.kind == doOdd && r.do.passes {
		f.listed(oddLevel(r.do.text), r.at, []box{r.box}, "a policy has nothing for `%s`", r.do.text)
		return nil
	}
	accepts := r.do.kind == doAccept
	if !r.b[byState].has(stateNew) {
		if r.b[byState] == setOf(stateInvalid) && accepts {
			f.listed(Error, r.at, []box{r.box}, "what belongs to no connection is always dropped")
		}
		if r.b[byState].has(stateUntracked) && accepts && !r.b[byState].has(stateEstablished) {
			f.listed(Error, r.at, []box{r.box}, "what is not tracked is always dropped")
		}
		return nil
	}
	out.b[byState] = anyState()
	if out.b[byIn] = r.b[byIn].minus(f.atoms.lo()); out.b[byIn].empty() {
		if !accepts {
			f.listed(Note, r.at, []box{r.box}, "packets of the gateway to itself (lo) always pass")
		}
		return nil
	}
	out.b[byIn] = f.ifAllSave(r.b[byIn])
	if !f.flagsOfNew(&out) || f.neighbours(&out) {
		return nil
	}
	if !f.known(&out) {
		return nil
	}
	switch r.do.kind {
	case doAccept, doDrop, doReject:
	case doOdd:
		f.listed(Error, r.at, []box{r.box}, "a policy has nothing for `%s`; it is dropped instead", r.do.text)
		out.do = action{kind: doDrop}
	default:
		return nil
	}
	if r.do.kind == doReject {
		f.rejects(&out)
	}
	if f.input && out.do.kind == doAccept && out.b[byDNAT] == setOf(1) {
		return nil // redirects: the policy lets pass what it redirects
	}
	return &out
}

// ifAllSave gives all interfaces for all but the loopback interface, which no
// rule of a policy is about.
func (f *filter) ifAllSave(s set256) set256 {
	if s.or(f.atoms.lo()) == f.atoms.all() {
		return f.atoms.all()
	}
	return s.minus(f.atoms.lo())
}

func oddLevel(text string) Level {
	for _, harmless := range []string{"-j CHECKSUM", "-j TRACE", "-j AUDIT", "-j LED", "-j RATEEST", "flow offload", "-j DSCP", "-j TOS", "-j CLASSIFY", "dscp set", "-j ACCOUNT"} {
		if strings.Contains(text, harmless) {
			return Note
		}
	}
	return Error
}

// flagsOfNew settles tests of TCP flags. It gives false where a rule is not
// about new connections.
func (f *filter) flagsOfNew(r *rule) bool {
	whole := set256{^uint64(0)}
	if r.b[byFlags] == whole {
		return true
	}
	const ack, syn = 16, 2
	// A connection that is taken up in its middle begins with an ACK
	// (nf_conntrack_proto_tcp.c); all other flags without SYN are invalid.
	middle := flagsSet(1|2|4|16, ack)
	switch {
	case r.b[byFlags].has(syn):
		if r.do.kind == doAccept && r.b[byFlags].and(middle).empty() {
			f.listed(Note, r.at, []box{r.box}, "it accepted SYNs alone; a connection that conntrack takes up in its middle passes too, unless net.netfilter.nf_conntrack_tcp_loose is 0")
		}
		r.b[byFlags] = whole
		return true
	case r.b[byFlags].and(middle).empty():
		return false // invalid: dropped always
	case r.do.kind == doAccept:
		return false
	}
	f.listedTest(Error, r.at, func(p Packet) bool { return p.Protocol == 6 && p.Flags != syn },
		"TCP connections that do not begin with a SYN cannot be told apart by a policy; write net.netfilter.nf_conntrack_tcp_loose=0 to sysctl.conf, and they are invalid and dropped")
	return false
}

// neighbours says whether a rule accepts only what IPv6 needs on a link, and
// the policy lets pass anyway.
func (f *filter) neighbours(r *rule) bool {
	if r.do.kind != doAccept || r.b[byProtocol] != setOf(58) {
		return false
	}
	return r.b[byICMP].minus(setOf(130, 131, 132, 133, 134, 135, 136, 137, 141, 142, 143, 148, 149, 151, 152, 153)).empty()
}

// known settles the tests that import does not know. It gives false where the
// rule is left out.
func (f *filter) known(r *rule) bool {
	if r.b[byDNAT] == setOf(0) {
		r.odd = append(slices.Clone(r.odd), "that it is not translated")
	}
	if r.rate != nil && r.do.kind != doAccept {
		r.odd = append(slices.Clone(r.odd), "its rate")
		r.rate = nil
	}
	if others := r.b[byProtocol].minus(withPorts()); !others.empty() && (!r.sport.equal(everyPort()) || !r.dport.equal(everyPort())) {
		x := r.box
		x.b[byProtocol] = others
		if r.do.kind == doAccept {
			f.listed(Error, r.at, []box{x}, "a policy knows the ports of TCP, UDP, SCTP and UDP-Lite; other protocols are not accepted by this rule")
			if r.b[byProtocol] = r.b[byProtocol].and(withPorts()); r.b[byProtocol].empty() {
				return false
			}
		} else {
			f.listed(Error, r.at, []box{x}, "a policy knows the ports of TCP, UDP, SCTP and UDP-Lite; of other protocols it drops all ports")
			r.sport, r.dport = everyPort(), everyPort()
		}
	}
	if len(r.odd) == 0 {
		return true
	}
	text := oddText(box{odd: r.odd})
	switch {
	case r.do.kind == doAccept:
		f.listed(Error, r.at, []box{r.box}, "import does not know %s; nothing is accepted by this rule", text)
		return false
	case !slices.ContainsFunc(r.odd, func(o string) bool { return !strings.Contains(o, "rt-type 0") && !strings.Contains(o, "exthdr rt") }):
		f.listed(Note, r.at, nil, "routing headers of type 0 are not looked at; hosts have to ignore them (RFC 5095)")
		return false
	case !slices.ContainsFunc(r.odd, func(o string) bool { return !howOften(o) }):
		f.listed(Error, r.at, []box{r.box}, "a policy does not drop by %s: these connections are no longer limited; give the rule that accepts them a `rate` or `max_connections`", text)
		return false
	}
	f.listed(Error, r.at, []box{r.box}, "import does not know %s; the policy drops all that the rest of the rule matches (to import without this rule, take it out of the input)", text)
	r.odd = nil
	return true
}

// howOften says whether a test is about how often or how much, not about who.
func howOften(odd string) bool {
	for _, word := range []string{"recent", "hashlimit", "connlimit", "quota", "ct count", "its rate", "meter", "connbytes", "limit"} {
		if strings.Contains(odd, word) {
			return true
		}
	}
	return false
}

func (f *filter) rejects(r *rule) {
	usual := r.do.with == "tcp-reset" && r.b[byProtocol] == setOf(6) ||
		r.b[byProtocol] == setOf(17) && (r.do.with == "" || strings.Contains(r.do.with, "port-unreach")) ||
		!r.b[byProtocol].has(6) && !r.b[byProtocol].has(17) && strings.Contains(r.do.with, "admin")
	if !usual {
		with := r.do.with
		if with == "" {
			with = "icmp-port-unreachable"
		}
		f.listed(Note, r.at, nil, "it rejects with %s; the policy answers TCP with a reset, UDP with port unreachable, and everything else with a prohibition", with)
	}
}

// settleDefaults takes what decides of everything out of the rules.
func (f *filter) settleDefaults() {
	for i, family := range []int{4, 6} {
		all := everything()
		all.b[byFamily] = setOf(family)
		all.b[byIn], all.b[byOut] = f.atoms.ours(), f.atoms.ours()
		all.b[byState] = anyState()
		all = all.narrowed()
		for k, r := range f.rules {
			x := r.box
			x.b[byIn], x.b[byOut] = x.b[byIn].and(f.atoms.ours()), x.b[byOut].and(f.atoms.ours())
			if x.covers(all) && r.b[byDNAT] == setOf(0, 1) {
				f.defaults[i] = r
				f.rules = f.behind(k, family)
				break
			}
		}
		if f.defaults[i] == nil {
			f.defaults[i] = &rule{do: action{kind: doAccept}}
		}
	}
	four, six := f.defaults[0].do.kind, f.defaults[1].do.kind
	f.def = four
	if four != six {
		// The stricter one is the default; the other one is a rule.
		loose, family := six, 6
		if four == doAccept || four == doReject && six == doDrop {
			f.def, loose, family = six, four, 4
		}
		x := everything()
		x.b[byFamily] = setOf(family)
		x.b[byIn], x.b[byOut], x.b[byState] = f.atoms.all(), f.atoms.all(), anyState()
		f.final = append(f.final, &rule{box: x.narrowed(), do: action{kind: loose}, at: f.defaults[family/2-2].at})
	}
}

// behind takes a family out of all rules from one on.
func (f *filter) behind(k, family int) []*rule {
	out := slices.Clone(f.rules[:k])
	for _, r := range f.rules[k:] {
		c := *r
		c.b[byFamily] = c.b[byFamily].minus(setOf(family))
		if c.box = c.narrowed(); !c.empty() {
			out = append(out, &c)
		}
	}
	return out
}

// join makes one rule of neighbours that say the same of different packets.
func (f *filter) join() {
	var out []*rule
	for _, r := range f.rules {
		if n := len(out); n > 0 {
			last := out[n-1]
			if last.do.kind == r.do.kind && last.log == nil && r.log == nil && last.rate == nil && r.rate == nil && last.mark == nil && r.mark == nil &&
				(last.at.comment == r.at.comment || last.at == r.at) && slices.Equal(last.src, r.src) && slices.Equal(last.dst, r.dst) {
				if x, ok := last.joined(r.box); ok && goodJoin(last.box, r.box) {
					c := *last
					c.box = x
					if r.at != last.at {
						c.also = append(slices.Clone(c.also), r.at)
					}
					out[n-1] = &c
					continue
				}
			}
		}
		out = append(out, r)
	}
	f.rules = out
}

// goodJoin keeps apart what a policy has no list for: protocols with ports are
// not joined with those without.
func goodJoin(a, b box) bool {
	if a.b[byProtocol] == b.b[byProtocol] {
		return true
	}
	return a.b[byICMP] == b.b[byICMP] && a.b[byICMP] == every() && a.b[byProtocol].len() < 9 && b.b[byProtocol].len() < 9
}
