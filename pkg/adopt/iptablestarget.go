package adopt

import (
	"net/netip"
	"strconv"
	"strings"
)

// target reads an option of a target, if it is one that import knows.
func (p *iptablesRule) target(option string, not bool) (known bool, err error) {
	do := &p.rule.do
	switch option { // without a value
	case "--random":
		do.random = "random"
		return true, nil
	case "--random-fully":
		do.random = "fully-random"
		return true, nil
	case "--persistent":
		do.persist = true
		return true, nil
	case "--clamp-mss-to-pmtu":
		do.kind = doMSS
		return true, nil
	case "--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "--log-macdecode":
		return true, nil
	}
	if not {
		return false, nil
	}
	var read func(string) error
	switch option {
	case "-j", "--jump", "-g", "--goto":
		read = func(v string) error { return p.jump(v, option == "-g" || option == "--goto") }
	case "--to-destination", "--to-source":
		read = func(v string) error { return p.translation(v) }
	case "--to":
		if do.kind != doNetmap {
			return false, nil
		}
		read = func(v string) error {
			x, ok := parseSpan(v)
			if !ok {
				return p.file.fail("--to %s is no prefix", v)
			}
			do.to = []target{{span: x}}
			return nil
		}
	case "--to-ports":
		read = func(v string) error {
			x, ok := parsePorts(v, "-")
			if !ok {
				return p.file.fail("--to-ports %s are no ports", v)
			}
			do.ports = x
			return nil
		}
	case "--reject-with":
		read = func(v string) error { do.with = v; return nil }
	case "--set-mss":
		read = func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > 65535 {
				return p.file.fail("--set-mss %s is no segment size", v)
			}
			do.mss = n
			return nil
		}
	case "--set-mark", "--set-xmark", "--or-mark", "--and-mark":
		if do.kind != doMark {
			return false, nil
		}
		read = func(v string) error { p.mark(option, v); return nil }
	case "--log-prefix", "--nflog-prefix":
		read = func(v string) error { do.log.prefix = v; return nil }
	case "--log-level":
		read = func(v string) error { do.log.level = v; return nil }
	case "--nflog-group":
		read = func(v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			do.log.group = int(n)
			return err
		}
	case "--nflog-threshold", "--nflog-size", "--nflog-range":
		read = func(string) error { return nil }
	default:
		if do.kind == doOdd { // what an unknown target says belongs to it
			do.text += " " + option
			for p.at < len(p.words) && !strings.HasPrefix(p.words[p.at], "-") {
				do.text += " " + p.words[p.at]
				p.at++
			}
			return true, nil
		}
		return false, nil
	}
	v, err := p.value()
	if err != nil {
		return true, err
	}
	if err := read(v); err != nil {
		return true, err
	}
	return true, nil
}

func (p *iptablesRule) jump(name string, goTo bool) error {
	do := &p.rule.do
	do.log.group = -1
	p.module = ""
	if p.file.chains[name] {
		do.kind, do.chain = doJump, p.file.chain(name).key
		if goTo {
			do.kind = doGoto
		}
		return nil
	}
	switch name {
	case "ACCEPT":
		do.kind = doAccept
	case "DROP":
		do.kind = doDrop
	case "REJECT":
		do.kind = doReject
	case "RETURN":
		do.kind = doReturn
	case "DNAT":
		do.kind = doDNAT
	case "SNAT":
		do.kind = doSNAT
	case "MASQUERADE":
		do.kind = doMasquerade
	case "REDIRECT":
		do.kind = doRedirect
	case "NETMAP":
		do.kind = doNetmap
	case "TCPMSS":
		do.kind = doMSS
	case "MARK":
		do.kind = doMark
	case "LOG":
		do.kind = doLog
	case "NFLOG":
		do.kind, do.log.group = doLog, 0
	case "ULOG":
		do.kind = doLog
	case "CHECKSUM", "TRACE", "AUDIT", "CLASSIFY", "DSCP", "TOS", "CONNMARK", "CONNSECMARK", "SECMARK", "CT", "NOTRACK", "SET", "TTL", "HL", "LED", "RATEEST", "TEE", "TCPOPTSTRIP", "HMARK", "IDLETIMER", "ACCOUNT":
		do.kind, do.text, do.passes = doOdd, "-j "+name, true
	case "QUEUE", "NFQUEUE", "SYNPROXY", "TPROXY", "MIRROR", "TARPIT", "CLUSTERIP", "ECN":
		do.kind, do.text = doOdd, "-j "+name
	default:
		if goTo || strings.ToUpper(name) != name {
			return p.file.fail("there is no chain %s in the table %s; it has to be declared before rules lead to it", name, p.file.table)
		}
		do.kind, do.text = doOdd, "-j "+name
	}
	return nil
}

// translation reads ADDR[-ADDR][:PORT[-PORT[/BASE]]].
func (p *iptablesRule) translation(text string) error {
	t, ok := parseTarget(text)
	if !ok {
		return p.file.fail("%s is no address to translate to", shorten(text))
	}
	if p.rule.do.kind == doSNAT && t.ports.hi > 0 {
		p.rule.do.ports = t.ports
	}
	p.rule.do.to = append(p.rule.do.to, t)
	return nil
}

func parseTarget(text string) (target, bool) {
	address, ports := text, ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		inside, after, closed := strings.Cut(rest, "]")
		if !closed {
			return target{}, false
		}
		address, ports = inside, strings.TrimPrefix(after, ":")
		if last, ok := strings.CutPrefix(after, "-["); ok {
			high, after, _ := strings.Cut(last, "]")
			address, ports = inside+"-"+high, strings.TrimPrefix(after, ":")
		}
	} else if strings.Count(text, ":") == 1 {
		address, ports, _ = strings.Cut(text, ":")
	}
	var t target
	if address != "" {
		x, ok := parseSpan(address)
		if !ok || strings.Contains(address, "/") {
			return t, false
		}
		t.span = x
	}
	if ports != "" {
		ports, base, based := strings.Cut(ports, "/")
		x, ok := parsePorts(ports, "-")
		if !ok {
			return t, false
		}
		t.ports = x
		if based {
			if t.base, ok = parsePort(base); !ok {
				return t, false
			}
		}
	}
	return t, t.lo.IsValid() || t.ports != span16{}
}

func (p *iptablesRule) mark(option, text string) {
	value, mask, masked := strings.Cut(text, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	m := uint64(0xffffffff)
	var err2 error
	if masked {
		m, err2 = strconv.ParseUint(mask, 0, 32)
	}
	switch option {
	case "--or-mark":
		m = v
	case "--and-mark":
		v, m = 0, ^v&0xffffffff
	case "--set-mark": // clears the mask, and ors the value
		m |= v
	}
	if err != nil || err2 != nil || v&^m != 0 {
		p.rule.do = action{kind: doOdd, text: "-j MARK " + option + " " + text, passes: true}
		return
	}
	p.rule.do.mark = [2]uint32{uint32(v), uint32(m)}
}

// readIPSet reads what `ipset save` prints.
func (r *ruleset) readIPSet(file, text string) error {
	content := map[string]spans{}
	whole := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		switch {
		case words[0] == "create" && len(words) >= 3:
			whole[words[1]] = words[2] == "hash:ip" || words[2] == "hash:net" || words[2] == "bitmap:ip"
			content[words[1]] = spans{}
		case words[0] == "add" && len(words) >= 3:
			if _, ok := content[words[1]]; !ok {
				return &Mistake{file, i + 1, "the set " + words[1] + " has not been created"}
			}
			x, ok := parseSpan(words[2])
			if !ok || len(words) > 3 && words[3] != "comment" && words[3] != "packets" && words[3] != "bytes" {
				whole[words[1]] = false // nomatch, timeouts, ports
				continue
			}
			content[words[1]] = append(content[words[1]], x)
		default:
			return &Mistake{file, i + 1, shorten(line) + " is not what ipset save prints"}
		}
	}
	for name, list := range content {
		if whole[name] {
			r.sets["ipset "+name] = mergeSpans(list)
		}
	}
	return nil
}

// unspecified says whether a target has no address: a port alone.
func (t target) unspecified() bool { return t.lo == netip.Addr{} }
