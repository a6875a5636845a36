package adopt

import (
	"slices"
	"strconv"
	"strings"
)

func (p *iptablesRule) addressType(option string, side int, text string, not bool) error {
	var s set256
	for _, word := range strings.Split(text, ",") {
		switch word {
		case "LOCAL":
			s.add(typeLocal)
		case "BROADCAST":
			s.add(typeBroadcast)
		case "MULTICAST":
			s.add(typeMulticast)
		case "UNICAST":
			s.add(typeOther)
		default:
			p.rule.odd = append(p.rule.odd, option+" "+text)
			return nil
		}
	}
	p.side(side, s, not)
	return nil
}

// flags narrows to TCP segments that have of the flags in mask exactly those in flags.
func (p *iptablesRule) flags(mask, flags string, not bool) {
	m, ok := tcpFlags(mask)
	f, ok2 := tcpFlags(flags)
	if !ok || !ok2 {
		p.rule.odd = append(p.rule.odd, "--tcp-flags "+mask+" "+flags)
		return
	}
	p.side(byFlags, flagsSet(m, f), not)
	p.rule.b[byFlags] = p.rule.b[byFlags].and(set256{^uint64(0)})
}

func flagsSet(mask, flags int) set256 {
	var s set256
	for i := range 64 {
		if i&mask == flags {
			s.add(i)
		}
	}
	return s
}

func tcpFlags(text string) (int, bool) {
	names := []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}
	switch text {
	case "ALL":
		return 63, true
	case "NONE":
		return 0, true
	}
	flags := 0
	for _, word := range strings.Split(text, ",") {
		i := slices.Index(names, strings.ToUpper(word))
		if i < 0 {
			return 0, false
		}
		flags |= 1 << i
	}
	return flags, true
}

func (p *iptablesRule) limit(option, text string, not bool) error {
	if not {
		p.rule.odd = append(p.rule.odd, "! "+option+" "+text)
		return nil
	}
	switch option {
	case "--limit-burst", "--hashlimit-burst":
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return p.file.fail("%s %s is no burst", option, text)
		}
		p.rateLimit.burst = n
	case "--hashlimit-mode":
		if text != "srcip" {
			p.rule.odd = append(p.rule.odd, option+" "+text)
		}
		p.rateLimit.perSource = true
	case "--limit", "--hashlimit-upto", "--hashlimit":
		count, per, _ := strings.Cut(text, "/")
		n, err := strconv.Atoi(count)
		for _, unit := range []string{"second", "minute", "hour", "day"} {
			if per != "" && strings.HasPrefix(unit, per) {
				p.rateLimit.per = unit
			}
		}
		if err != nil || p.rateLimit.per == "" {
			p.rule.odd = append(p.rule.odd, option+" "+text)
			return nil
		}
		p.rateLimit.count, p.limited = n, true
		if p.rateLimit.burst == 0 {
			p.rateLimit.burst = 5
		}
	}
	return nil
}

// set narrows to what is in an ipset, if its content is known.
func (p *iptablesRule) set(name, direction string, not bool) {
	list, known := p.file.rules.sets["ipset "+name]
	if !known || direction != "src" && direction != "dst" {
		why := "the ipset " + name
		if !known {
			why += ", whose content is not in the file: give what ipset save prints as another file"
		}
		p.rule.odd = append(p.rule.odd, why)
		return
	}
	if not {
		list = everyAddress().minus(list)
	}
	if direction == "src" {
		p.rule.src = p.rule.src.and(list)
	} else {
		p.rule.dst = p.rule.dst.and(list)
	}
}
