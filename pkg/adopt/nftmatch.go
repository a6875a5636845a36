package adopt

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (r *nftReader) match(e expr) {
	op := e.word("op")
	switch op {
	case "==", "in", "!=":
	default:
		r.compare(e, op)
		return
	}
	r.narrow(exprOf(e.body["left"]), e.body["right"], op == "!=")
}

// compare reads < and its like, of ports alone.
func (r *nftReader) compare(e expr, op string) {
	n, ok := numberOf(e.body["right"])
	var x span16
	switch {
	case !ok || n < 0 || n > 65535 || op == "<" && n == 0 || op == ">" && n == 65535:
		r.odd(e.shown())
		return
	case op == "<":
		x = span16{0, uint16(n - 1)}
	case op == "<=":
		x = span16{0, uint16(n)}
	case op == ">":
		x = span16{uint16(n + 1), 65535}
	case op == ">=":
		x = span16{uint16(n), 65535}
	}
	left := exprOf(e.body["left"])
	for i := range r.partial {
		if !r.partial[i].narrowPorts(left, ports{x}) {
			r.odd(e.shown())
			return
		}
	}
}

func (p *partial) narrowPorts(left expr, list ports) bool {
	if left.kind != "payload" {
		return false
	}
	if n, ok := protocolNumber(left.word("protocol")); ok {
		p.b[byProtocol] = p.b[byProtocol].and(setOf(n))
	} else if left.word("protocol") == "th" {
		p.b[byProtocol] = p.b[byProtocol].and(setOf(6, 17, 33, 132, 136))
	} else {
		return false
	}
	switch left.word("field") {
	case "dport":
		p.dport = p.dport.and(list)
	case "sport":
		p.sport = p.sport.and(list)
	default:
		return false
	}
	return true
}

// narrow narrows all boxes to those in which the left side is among the right.
func (r *nftReader) narrow(left expr, right any, not bool) {
	text := func() string {
		between := " "
		if not {
			between = " != "
		}
		return left.shown() + between + exprOf(right).shown()
	}
	items, ok := r.elements(right)
	if !ok {
		r.odd(text())
		return
	}
	if left.kind == "concat" {
		r.concat(left, items, not, text)
		return
	}
	narrow := r.test(left, items, not)
	if narrow == nil {
		r.odd(text())
		return
	}
	for i := range r.partial {
		narrow(&r.partial[i])
		r.partial[i].box = r.partial[i].narrowed()
	}
	r.partial = slices.DeleteFunc(r.partial, func(p partial) bool { return p.empty() })
}

// concat makes a box of each element of a concatenation.
func (r *nftReader) concat(left expr, items []any, not bool, text func() string) {
	fields, _ := left.any.([]any)
	if not || len(items)*len(r.partial) > tooManyElements || len(fields) == 0 {
		r.odd(text())
		return
	}
	var all []partial
	from := r.partial
	for _, item := range items {
		e := exprOf(item)
		if e.kind == "elem" {
			e = exprOf(e.body["val"])
		}
		values, _ := e.any.([]any)
		if e.kind != "concat" || len(values) != len(fields) {
			r.partial = from
			r.odd(text())
			return
		}
		r.partial = clonePartials(from)
		for i, f := range fields {
			r.narrow(exprOf(f), values[i], false)
		}
		all = append(all, r.partial...)
	}
	r.partial = all
}

// test gives what narrows a box to the values of a field, or nil where import
// does not know the field or a value.
func (r *nftReader) test(left expr, items []any, not bool) func(*partial) {
	values := make([]expr, len(items))
	for i, item := range items {
		values[i] = exprOf(item)
		if values[i].kind == "elem" {
			values[i] = exprOf(values[i].body["val"])
		}
	}
	numbers := func(name func(string) (int, bool)) (set256, bool) {
		var s set256
		for _, v := range values {
			lo, hi := v.any, v.any
			if v.kind == "range" {
				list, _ := v.any.([]any)
				if len(list) != 2 {
					return s, false
				}
				lo, hi = list[0], list[1]
			}
			a, ok := named(lo, name)
			b, ok2 := named(hi, name)
			if !ok || !ok2 || a < 0 || b > 255 || b < a {
				return s, false
			}
			for i := a; i <= b; i++ {
				s.add(i)
			}
		}
		return s, true
	}
	side := func(side int, name func(string) (int, bool)) func(*partial) {
		s, ok := numbers(name)
		if !ok {
			return nil
		}
		if not {
			s = every().minus(s)
		}
		return func(p *partial) { p.b[side] = p.b[side].and(s) }
	}
	switch left.kind {
	case "meta":
		switch left.word("key") {
		case "iifname", "oifname", "iif", "oif":
			t := interfaces{not: not}
			for _, v := range values {
				name, ok := v.any.(string)
				if !ok {
					return nil
				}
				base, wild := strings.CutSuffix(name, "*")
				if !linkName(base) && (base != "" || !wild) {
					return nil
				}
				t.names = append(t.names, pattern{base, wild})
			}
			if left.word("key")[0] == 'i' {
				return func(p *partial) { p.in = append(slices.Clone(p.in), t) }
			}
			return func(p *partial) { p.out = append(slices.Clone(p.out), t) }
		case "nfproto":
			return side(byFamily, func(w string) (int, bool) { n := map[string]int{"ipv4": 4, "ipv6": 6}[w]; return n, n > 0 })
		case "protocol":
			return side(byFamily, func(w string) (int, bool) { n := map[string]int{"ip": 4, "ip6": 6}[w]; return n, n > 0 })
		case "l4proto":
			return side(byProtocol, protocolNumber)
		case "pkttype":
			s, ok := numbers(func(w string) (int, bool) {
				n, ok := map[string]int{"broadcast": typeBroadcast, "multicast": typeMulticast}[w]
				return n, ok
			})
			if !ok {
				return nil
			}
			if not {
				s = every().minus(s)
			}
			return func(p *partial) { p.b[byDstType] = p.b[byDstType].and(s) }
		}
	case "ct":
		return ctTest(left, values, not)
	case "fib":
		flags, which := words(left.body["flags"], " "), byDstType
		if strings.HasPrefix(flags, "saddr") {
			which = bySrcType
		}
		if left.word("result") != "type" || strings.Contains(flags, "mark") || strings.Contains(flags, "if") {
			return nil
		}
		return side(which, func(w string) (int, bool) {
			n, ok := map[string]int{"local": typeLocal, "broadcast": typeBroadcast, "multicast": typeMulticast, "unicast": typeOther}[w]
			return n, ok
		})
	case "payload":
		return r.payload(left, values, not, side)
	case "&": // tcp flags & (a | b) == c
		list, _ := left.any.([]any)
		if len(list) != 2 || exprOf(list[0]).word("field") != "flags" {
			return nil
		}
		mask, ok := flagsOf(list[1])
		var s set256
		for _, v := range values {
			f, ok2 := flagsOf(anyOf(v))
			ok = ok && ok2
			s = s.or(flagsSet(mask, f))
		}
		if !ok {
			return nil
		}
		return tcpOnly(s, not)
	}
	return nil
}

func anyOf(e expr) any {
	if e.kind != "" {
		return map[string]any{e.kind: e.any}
	}
	return e.any
}

// tcpOnly narrows to TCP segments with these flags.
func tcpOnly(s set256, not bool) func(*partial) {
	if not {
		s = set256{^uint64(0)}.minus(s)
	}
	return func(p *partial) {
		p.b[byProtocol] = p.b[byProtocol].and(setOf(6))
		p.b[byFlags] = p.b[byFlags].and(s)
	}
}

// flagsOf reads TCP flags: a name, a list of names, or names joined by |.
func flagsOf(v any) (int, bool) {
	e := exprOf(v)
	if e.kind == "|" {
		v = e.any
	}
	if list, ok := v.([]any); ok {
		all := 0
		for _, item := range list {
			n, ok := flagsOf(item)
			if !ok {
				return 0, false
			}
			all |= n
		}
		return all, true
	}
	if w, ok := v.(string); ok {
		return tcpFlags(w)
	}
	n, ok := numberOf(v)
	return n & 63, ok && n >= 0 && n < 256
}

func ctTest(left expr, values []expr, not bool) func(*partial) {
	if left.word("dir") != "" {
		return nil
	}
	var all []string
	for _, v := range values {
		list, ok := v.any.([]any)
		if !ok {
			list = []any{v.any}
		}
		for _, x := range list {
			w, ok := x.(string)
			if !ok {
				return nil
			}
			all = append(all, strings.Split(w, ",")...)
		}
	}
	switch left.word("key") {
	case "state":
		var s set256
		for _, w := range all {
			n := slices.Index([]string{"new", "established", "related", "invalid", "untracked"}, w)
			if n < 0 {
				return nil
			}
			s.add(n)
		}
		if not {
			s = every().minus(s)
		}
		return func(p *partial) { p.b[byState] = p.b[byState].and(s) }
	case "status":
		if len(all) != 1 || all[0] != "dnat" {
			return nil
		}
		s := setOf(1)
		if not {
			s = setOf(0)
		}
		return func(p *partial) { p.b[byDNAT] = p.b[byDNAT].and(s) }
	}
	return nil
}

func (r *nftReader) payload(left expr, values []expr, not bool, side func(int, func(string) (int, bool)) func(*partial)) func(*partial) {
	protocol, field := left.word("protocol"), left.word("field")
	switch protocol + " " + field {
	case "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
		var list spans
		for _, v := range values {
			x, ok := spanOfExpr(v)
			if !ok {
				return nil
			}
			list = append(list, x)
		}
		list = mergeSpans(list)
		family := 4
		if protocol == "ip6" {
			family = 6
		}
		if not {
			list = everyAddress().minus(list)
		}
		list = list.of(family)
		return func(p *partial) {
			if field == "saddr" {
				p.src = p.src.and(list)
			} else {
				p.dst = p.dst.and(list)
			}
		}
	case "ip protocol", "ip6 nexthdr":
		f := side(byProtocol, protocolNumber)
		if f == nil {
			return nil
		}
		family := 4
		if protocol == "ip6" {
			family = 6
		}
		return func(p *partial) { f(p); p.b[byFamily] = p.b[byFamily].and(setOf(family)) }
	case "icmp type", "icmpv6 type":
		n, family := 1, 4
		if protocol == "icmpv6" {
			n, family = 58, 6
		}
		f := side(byICMP, func(w string) (int, bool) { return icmpNumber(w, family) })
		if f == nil {
			return nil
		}
		return func(p *partial) {
			f(p)
			p.b[byProtocol], p.b[byFamily] = p.b[byProtocol].and(setOf(n)), p.b[byFamily].and(setOf(family))
		}
	case "tcp flags":
		if len(values) != 1 {
			return nil
		}
		if f, ok := flagsOf(anyOf(values[0])); ok { // any of them
			s := set256{^uint64(0)}.minus(flagsSet(f, 0))
			if not {
				s = set256{^uint64(0)}.minus(flagsSet(63, f))
				return tcpOnly(s, false)
			}
			return tcpOnly(s, false)
		}
		return nil
	}
	var list ports
	for _, v := range values {
		x, ok := portOf(anyOf(v))
		if !ok {
			return nil
		}
		list = append(list, x)
	}
	list = mergePorts(list)
	if not {
		list = everyPort().minus(list)
	}
	probe := partial{box: everything()}
	if !probe.narrowPorts(left, list) {
		return nil
	}
	return func(p *partial) { p.narrowPorts(left, list) }
}

// spanOfExpr reads an address, a prefix or a range.
func spanOfExpr(e expr) (span, bool) {
	switch e.kind {
	case "prefix":
		a, err := netip.ParseAddr(e.word("addr"))
		n, err2 := strconv.Atoi(e.word("len"))
		if err != nil || err2 != nil || n < 0 || n > a.BitLen() || a.Zone() != "" {
			return span{}, false
		}
		return prefixSpan(netip.PrefixFrom(a, n)), true
	case "range":
		list, _ := e.any.([]any)
		if len(list) == 2 {
			low, _ := list[0].(string)
			high, _ := list[1].(string)
			return parseSpan(low + "-" + high)
		}
	case "":
		if w, ok := e.any.(string); ok && !strings.Contains(w, "-") {
			return parseSpan(w)
		}
	}
	return span{}, false
}

// portOf reads a port or a range of ports.
func portOf(v any) (span16, bool) {
	e := exprOf(v)
	if e.kind == "elem" {
		return portOf(e.body["val"])
	}
	if e.kind == "range" {
		list, _ := e.any.([]any)
		if len(list) != 2 {
			return span16{}, false
		}
		a, ok := portOf(list[0])
		b, ok2 := portOf(list[1])
		return span16{a.lo, b.hi}, ok && ok2 && a.lo <= b.hi
	}
	n, ok := named(v, func(w string) (int, bool) { p, ok := parsePort(w); return int(p), ok })
	return span16{uint16(n), uint16(n)}, ok && n >= 0 && n <= 65535
}

func numberOf(v any) (int, bool) {
	return named(v, func(w string) (int, bool) {
		n, err := strconv.ParseUint(w, 0, 32)
		return int(n), err == nil
	})
}

// named reads a number, or a word that stands for one.
func named(v any, name func(string) (int, bool)) (int, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 0, 64)
		return int(n), err == nil && n >= 0 && n <= 0xffffffff
	case string:
		return name(v)
	}
	return 0, false
}
