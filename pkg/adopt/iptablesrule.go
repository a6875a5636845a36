package adopt

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// iptablesRule reads the tests and the target of one rule.
type iptablesRule struct {
	file   *iptablesFile
	rule   *rule
	words  []string
	at     int
	module string
	// A rate is in several options.
	limited   bool
	rateLimit rate
}

// value takes the next word.
func (p *iptablesRule) value() (string, error) {
	if p.at >= len(p.words) {
		return "", p.file.fail("the rule ends where %s needs a value", p.words[len(p.words)-1])
	}
	p.at++
	return p.words[p.at-1], nil
}

func (p *iptablesRule) read() error {
	for p.at < len(p.words) {
		not := false
		if p.words[p.at] == "!" {
			not = true
			if p.at++; p.at == len(p.words) {
				return p.file.fail("the rule ends in !")
			}
		}
		option := p.words[p.at]
		p.at++
		if err := p.option(option, not); err != nil {
			return err
		}
	}
	if p.limited {
		r := p.rateLimit
		p.rule.rate = &r
	}
	x := &p.rule.box
	needs := func(what string, protocols set256) error {
		if x.b[byProtocol].minus(protocols).empty() {
			return nil
		}
		return p.file.fail("the rule looks at %s, and does not say of which protocol", what)
	}
	var err error
	switch {
	case !x.sport.equal(everyPort()) || !x.dport.equal(everyPort()):
		err = needs("ports", setOf(6, 17, 33, 132, 136))
	case x.b[byICMP] != every():
		err = needs("ICMP types", setOf(1, 58))
	case x.b[byFlags] != (set256{^uint64(0)}):
		err = needs("TCP flags", setOf(6))
	}
	*x = x.narrowed()
	return err
}

// odd keeps what import does not know as it was written.
func (p *iptablesRule) odd(option string, not bool) {
	text := option
	if not {
		text = "! " + text
	}
	if p.module != "" && !strings.HasPrefix(option, "-m ") {
		text = "-m " + p.module + " " + text
	}
	for p.at < len(p.words) && p.words[p.at] != "!" && !strings.HasPrefix(p.words[p.at], "-") {
		text += " " + p.words[p.at]
		p.at++
	}
	if n := len(p.rule.odd); n > 0 && p.module != "" && strings.HasPrefix(p.rule.odd[n-1], "-m "+p.module+" ") {
		p.rule.odd[n-1] += strings.TrimPrefix(text, "-m "+p.module) // one test of one module
		return
	}
	p.rule.odd = append(p.rule.odd, text)
}

func (p *iptablesRule) option(option string, not bool) error {
	switch option { // without a value
	case "--syn":
		p.flags("FIN,SYN,RST,ACK", "SYN", not)
		return nil
	case "-f", "--fragment":
		p.odd(option, not)
		return nil
	case "-m", "--match":
		name, err := p.value()
		p.module = name
		switch name {
		case "tcp", "udp", "sctp", "udplite", "icmp", "icmp6", "multiport", "conntrack", "state", "comment", "addrtype", "limit", "hashlimit", "iprange", "set":
		default:
			if p.at >= len(p.words) || !strings.HasPrefix(p.words[p.at], "--") && p.words[p.at] != "!" {
				p.rule.odd = append(p.rule.odd, "-m "+name)
			}
		}
		return err
	}
	if test, known := p.test(option, not); known {
		value, err := p.value()
		if err != nil {
			return err
		}
		return test(value)
	}
	if known, err := p.target(option, not); known || err != nil {
		return err
	}
	p.odd(option, not)
	return nil
}

// test gives what reads the value of a test, and whether the test is known.
func (p *iptablesRule) test(option string, not bool) (func(string) error, bool) {
	r := p.rule
	src, dst := func(s spans) { r.src = r.src.and(s) }, func(s spans) { r.dst = r.dst.and(s) }
	switch option {
	case "-s", "--source", "--src", "--src-range":
		return func(v string) error { return p.addresses(option, v, not, src) }, true
	case "-d", "--destination", "--dst", "--dst-range":
		return func(v string) error { return p.addresses(option, v, not, dst) }, true
	case "-i", "--in-interface":
		return func(v string) error { return p.link(option, v, not, &r.in) }, true
	case "-o", "--out-interface":
		return func(v string) error { return p.link(option, v, not, &r.out) }, true
	case "-p", "--protocol", "--proto":
		return func(v string) error { return p.protocol(v, not) }, true
	case "--dport", "--destination-port", "--dports", "--destination-ports":
		return func(v string) error { return p.ports(option, v, not, &r.dport) }, true
	case "--sport", "--source-port", "--sports", "--source-ports":
		return func(v string) error { return p.ports(option, v, not, &r.sport) }, true
	case "--state", "--ctstate":
		return func(v string) error { return p.states(v, not) }, true
	case "--ctstatus":
		return func(v string) error {
			if v != "DNAT" {
				p.rule.odd = append(p.rule.odd, "--ctstatus "+v)
				return nil
			}
			p.side(byDNAT, setOf(1), not)
			return nil
		}, true
	case "--icmp-type", "--icmpv6-type":
		return func(v string) error { return p.icmp(option, v, not) }, true
	case "--src-type":
		return func(v string) error { return p.addressType(option, bySrcType, v, not) }, true
	case "--dst-type":
		return func(v string) error { return p.addressType(option, byDstType, v, not) }, true
	case "--tcp-flags":
		return func(mask string) error {
			flags, err := p.value()
			p.flags(mask, flags, not)
			return err
		}, true
	case "--comment":
		return func(v string) error { r.at.comment = v; return nil }, true
	case "--limit", "--hashlimit-upto", "--hashlimit", "--limit-burst", "--hashlimit-burst", "--hashlimit-mode", "--hashlimit-name",
		"--hashlimit-htable-expire", "--hashlimit-htable-size", "--hashlimit-htable-max", "--hashlimit-htable-gcinterval":
		return func(v string) error { return p.limit(option, v, not) }, true
	case "--match-set":
		return func(name string) error {
			direction, err := p.value()
			p.set(name, direction, not)
			return err
		}, true
	}
	return nil, false
}

func (p *iptablesRule) link(option, name string, not bool, to *[]interfaces) error {
	base, wild := strings.CutSuffix(name, "+")
	if wild && (base == "." || base == "..") { // names may begin so; a policy cannot say it
		p.rule.odd = append(p.rule.odd, option+" "+name)
		return nil
	}
	if !linkName(base) && (base != "" || !wild) {
		return p.file.fail("%s is no interface", shorten(name))
	}
	*to = append(*to, interfaces{names: []pattern{{base, wild}}, not: not})
	return nil
}

// linkName says whether the kernel takes a name for an interface
// (dev_valid_name), and the policy language too.
func linkName(name string) bool {
	return name != "" && len(name) < 16 && name != "." && name != ".." && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return strings.ContainsRune("/:*+", r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// side narrows a side of the box.
func (p *iptablesRule) side(side int, s set256, not bool) {
	if not {
		s = every().minus(s)
	}
	p.rule.b[side] = p.rule.b[side].and(s)
}

func (p *iptablesRule) addresses(option, text string, not bool, narrow func(spans)) error {
	var list spans
	for _, item := range strings.Split(text, ",") {
		x, ok := parseSpan(item)
		if !ok {
			p.rule.odd = append(p.rule.odd, option+" "+text)
			return nil
		}
		if x.lo.Is4() != (p.file.family == 4) {
			return p.file.fail("%s is an address of the other family; is this what the other of iptables-save and ip6tables-save printed? --format says so", item)
		}
		list = append(list, x)
	}
	list = mergeSpans(list)
	if not {
		list = everyAddress().minus(list)
	}
	narrow(list)
	return nil
}

// parseSpan reads an address, a prefix, one with a mask, or a range.
func parseSpan(text string) (span, bool) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return span{a, a}, true
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return prefixSpan(p), true
	}
	if low, high, ok := strings.Cut(text, "-"); ok {
		a, err := netip.ParseAddr(low)
		b, err2 := netip.ParseAddr(high)
		if err == nil && err2 == nil && a.BitLen() == b.BitLen() && !b.Less(a) && a.Zone()+b.Zone() == "" {
			return span{a, b}, true
		}
	}
	if address, mask, ok := strings.Cut(text, "/"); ok {
		a, err := netip.ParseAddr(address)
		m, err2 := netip.ParseAddr(mask)
		if err == nil && err2 == nil && a.Is4() && m.Is4() {
			b := m.As4()
			n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
			for bits := 0; bits <= 32; bits++ {
				if n == uint32(uint64(0xffffffff)<<(32-bits)) {
					return prefixSpan(netip.PrefixFrom(a, bits)), true
				}
			}
		}
	}
	return span{}, false
}

// protocolNumbers are the names that iptables and nft print.
func protocolNumber(name string) (int, bool) {
	names := map[string]int{"icmp": 1, "igmp": 2, "ipip": 4, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51,
		"ipv6-icmp": 58, "icmpv6": 58, "ospf": 89, "ospfigp": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136, "comp": 108, "ipcomp": 108,
		"esp-nonext": 50, "ipv6-nonxt": 59}
	if n, ok := names[strings.ToLower(name)]; ok {
		return n, true
	}
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 0 && n <= 255
}

func (p *iptablesRule) protocol(text string, not bool) error {
	if text == "all" || text == "0" {
		return nil
	}
	n, ok := protocolNumber(text)
	if !ok {
		p.rule.odd = append(p.rule.odd, "-p "+text)
		return nil
	}
	p.side(byProtocol, setOf(n), not)
	return nil
}

func (p *iptablesRule) ports(option, text string, not bool, to *ports) error {
	var list ports
	for _, item := range strings.Split(text, ",") {
		x, ok := parsePorts(item, ":")
		if !ok {
			return p.file.fail("%s %s: %s is no port", option, text, shorten(item))
		}
		list = append(list, x)
	}
	list = mergePorts(list)
	if not {
		list = everyPort().minus(list)
	}
	*to = to.and(list)
	return nil
}

func parsePorts(text, between string) (span16, bool) {
	low, high, ranged := strings.Cut(text, between)
	if !ranged {
		high = low
	}
	if ranged && low == "" {
		low = "0"
	}
	if ranged && high == "" {
		high = "65535"
	}
	a, ok := parsePort(low)
	b, ok2 := parsePort(high)
	return span16{a, b}, ok && ok2 && a <= b
}

func parsePort(text string) (uint16, bool) {
	if n, ok := serviceNames()[text]; ok {
		return n, true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}

// serviceNames are those that people write; iptables-save prints numbers.
func serviceNames() map[string]uint16 {
	return map[string]uint16{"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "http": 80, "pop3": 110, "ntp": 123,
		"imap": 143, "imap2": 143, "snmp": 161, "bgp": 179, "https": 443, "submission": 587, "imaps": 993, "pop3s": 995, "isakmp": 500, "mdns": 5353, "openvpn": 1194,
		"dhcpv6-client": 546, "dhcpv6-server": 547, "http-alt": 8080, "ipsec-nat-t": 4500, "ldap": 389, "microsoft-ds": 445, "netbios-ns": 137, "netbios-dgm": 138, "netbios-ssn": 139}
}

func (p *iptablesRule) states(text string, not bool) error {
	var s set256
	for _, word := range strings.Split(text, ",") {
		switch word {
		case "NEW":
			s.add(stateNew)
		case "ESTABLISHED":
			s.add(stateEstablished)
		case "RELATED":
			s.add(stateRelated)
		case "INVALID":
			s.add(stateInvalid)
		case "UNTRACKED":
			s.add(stateUntracked)
		case "DNAT":
			if len(text) == len(word) {
				p.side(byDNAT, setOf(1), not)
				return nil
			}
			fallthrough
		default:
			p.rule.odd = append(p.rule.odd, "--ctstate "+text)
			return nil
		}
	}
	p.side(byState, s, not)
	return nil
}

func (p *iptablesRule) icmp(option, text string, not bool) error {
	text, code, hasCode := strings.Cut(text, "/")
	if text == "any" || text == "255" {
		return nil
	}
	n, ok := icmpNumber(text, p.file.family)
	if !ok || hasCode && code != "0" || hasCode && n == 3 {
		p.rule.odd = append(p.rule.odd, option+" "+text+"/"+code)
		return nil
	}
	p.side(byICMP, setOf(n), not)
	return nil
}

func icmpNumber(text string, family int) (int, bool) {
	v4 := map[string]int{"echo-reply": 0, "pong": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8, "ping": 8, "router-advertisement": 9,
		"router-solicitation": 10, "time-exceeded": 11, "ttl-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15,
		"info-reply": 16, "address-mask-request": 17, "address-mask-reply": 18}
	v6 := map[string]int{"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "ttl-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
		"ping": 128, "pong": 129, "mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133,
		"router-solicitation": 133, "nd-router-advert": 134, "router-advertisement": 134, "nd-neighbor-solicit": 135, "neighbour-solicitation": 135, "neighbor-solicitation": 135,
		"nd-neighbor-advert": 136, "neighbour-advertisement": 136, "neighbor-advertisement": 136, "nd-redirect": 137, "redirect": 137, "router-renumbering": 138,
		"ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143}
	names := v4
	if family == 6 {
		names = v6
	}
	if n, ok := names[text]; ok {
		return n, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < 255
}
