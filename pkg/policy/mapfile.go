package policy

import (
	"bytes"
	"fmt"
	"strings"
)

// PlaceOf gives the place of a line of a map.
func (p *Policy) PlaceOf(l MapLine) Place {
	return Place{File: p.Sources[l.File].Name, Line: int(l.Line), Column: int(l.Column)}
}

// mapLines reads a map file: `tcp/8001 10.0.0.1:80` on each line.
func (d *decoder) mapLines(source int) []MapLine {
	file := d.policy.Sources[source]
	r := lineReader{rest: file.Text}
	list := make([]MapLine, 0, bytes.Count(file.Text, []byte{'\n'})+1)
	for r.next() {
		from, begin, end := r.word(0)
		to, toBegin, end := r.word(end)
		l, ok := mapLineOf(from, to)
		if !ok || len(bytes.TrimLeft(r.text[end:], " \t\r")) > 0 {
			var problem string
			column := begin
			l, column, problem = d.slowMapLine(&r, begin, toBegin)
			if problem != "" {
				d.fail(Place{file.Name, r.line, column + 1}, problem)
				continue
			}
		}
		l.File, l.Line, l.Column = uint16(source), uint32(r.line), uint32(begin+1)
		list = append(list, l)
	}
	return list
}

// mapLineOf reads the form that nearly every line has: one TCP or UDP port, or
// a range, to an IPv4 address and one port or none.
func mapLineOf(from, to []byte) (l MapLine, ok bool) {
	if len(from) < 4 || from[3] != '/' {
		return l, false
	}
	switch {
	case from[0] == 't' && from[1] == 'c' && from[2] == 'p':
		l.Protocol = ProtocolTCP
	case from[0] == 'u' && from[1] == 'd' && from[2] == 'p':
		l.Protocol = ProtocolUDP
	default:
		return l, false
	}
	first, rest, ok := decimal(from[4:])
	last := first
	if ok && len(rest) > 0 && rest[0] == '-' {
		last, rest, ok = decimal(rest[1:])
	}
	if !ok || len(rest) > 0 || first == 0 || last < first || last > 65535 {
		return l, false
	}
	addr, rest, ok := quad(to)
	// Loopback, multicast and the like are refused with reasons elsewhere.
	if top := byte(addr >> 24); !ok || top == 127 || top >= 224 || addr == 0 {
		return l, false
	}
	port := 0
	if len(rest) > 0 {
		if rest[0] != ':' {
			return l, false
		}
		if port, rest, ok = decimal(rest[1:]); !ok || len(rest) > 0 || port == 0 || port > 65535 {
			return l, false
		}
	}
	l.Addr = addr4(addr)
	l.First, l.Last, l.ToFirst, l.ToLast = uint16(first), uint16(last), uint16(port), uint16(port)
	return l, true
}

// slowMapLine reads any line, and says what is wrong with it and at which
// offset.
func (d *decoder) slowMapLine(r *lineReader, begin, toBegin int) (l MapLine, column int, problem string) {
	from, _, _ := r.word(begin)
	to, _, end := r.word(toBegin)
	if len(to) == 0 {
		return l, begin, fmt.Sprintf("the target of %s is missing; write `tcp/8001 10.0.0.1:80`", quote(string(from)))
	}
	if extra, extraBegin, _ := r.word(end); len(extra) > 0 {
		return l, extraBegin, fmt.Sprintf("%s is one word too many; write `tcp/8001 10.0.0.1:80`", quote(string(extra)))
	}
	l, atTarget, problem := parseMapping(string(from), string(to))
	if atTarget {
		return l, toBegin, problem
	}
	return l, begin, problem
}

// parseMapping reads one forward of a map. atTarget tells which of the two
// words has the problem.
func parseMapping(from, to string) (l MapLine, atTarget bool, problem string) {
	if l, problem = parseMapKey(from); problem != "" {
		return l, false, problem
	}
	t, problem := parseTarget(to)
	if problem == "" {
		problem = l.lead(t)
	}
	return l, true, problem
}

// lead sends the forward to a target, or says why it cannot go there.
func (l *MapLine) lead(t Target) (problem string) {
	l.Addr, l.ToFirst, l.ToLast = t.Addr, t.First, t.Last
	return rangeProblem(Ports{First: l.First, Last: l.Last}, t)
}

// parseMapKey reads tcp/8001 or udp/9000-9010.
func parseMapKey(from string) (l MapLine, problem string) {
	name, ports, ok := strings.Cut(from, "/")
	if !ok {
		return l, fmt.Sprintf("%s is not a protocol and a port; write tcp/8001 or udp/9000-9010", quote(from))
	}
	l.Protocol, ok = protocolNumber(name)
	switch {
	case !ok:
		return l, unknownProtocol(name)
	case !HasPorts(l.Protocol):
		return l, fmt.Sprintf("the protocol %s has no ports; a map forwards tcp, udp, sctp and udplite", name)
	}
	l.First, l.Last, problem = parsePorts(ports)
	return l, problem
}
