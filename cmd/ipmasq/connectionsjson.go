package main

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// flowEncoder writes connections as JSON, in what encoding/json would make of
// a struct with the fields of docs/commands.md. A table holds a million of
// them, which reflection would take longer over than the kernel.
type flowEncoder struct {
	now time.Time
	// ended leaves out the timeout, which nothing has that has ended; bare leaves
	// out what is not known of one whose end the kernel did not tell.
	ended, bare bool

	scratch []byte
	// What many connections have in common is not written anew.
	kinds  [16]piece[flowKind]
	judged [16]piece[judgedAs]
}

// piece is the text that belongs to a key, where there is any.
type piece[K comparable] struct {
	of   K
	text []byte
}

// has says whether the piece is of a key.
func (p *piece[K]) has(key K) bool { return p.of == key && len(p.text) > 0 }

// keep remembers the text of a key.
func (p *piece[K]) keep(key K, text []byte) { p.of, p.text = key, append(p.text[:0], text...) }

// flowKind is all that stands before the addresses of a connection.
type flowKind struct {
	family   conntrack.Family
	protocol uint8
	state    conntrack.State
	bare     bool
	status   conntrack.Status
}

// judgedAs is all that the policy says of a connection.
type judgedAs struct {
	entry, file, from, to string
	line, column          int
}

// append adds one connection, an object on one line.
func (e *flowEncoder) append(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	return append(e.fields(append(b, '{'), f, j), '}')
}

// fields adds what stands between the braces.
func (e *flowEncoder) fields(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	kind := flowKind{f.Family, f.Protocol, f.State, e.bare, f.Status}
	if p := &e.kinds[(uint32(f.Status)^uint32(f.Status)>>4^uint32(f.State)^uint32(f.Protocol))%uint32(len(e.kinds))]; p.has(kind) {
		b = append(b, p.text...)
	} else {
		at := len(b)
		b = e.appendKind(b, f)
		p.keep(kind, b[at:])
	}
	b = append(b, `,"before":`...)
	source := len(b)
	b = appendSource(b, f.Original.Source, f.Original.SourcePort)
	destination := len(b)
	b = appendDestination(b, f.Original.Destination, f.Original.DestinationPort)
	end := len(b)
	b = append(appendICMPID(b, f.Protocol, f.Original.ICMPID), `},"after":`...)
	if f.Reply.Destination == f.Original.Source && f.Reply.DestinationPort == f.Original.SourcePort {
		b = append(b, b[source:destination]...)
	} else {
		b = appendSource(b, f.Reply.Destination, f.Reply.DestinationPort)
	}
	if f.Reply.Source == f.Original.Destination && f.Reply.SourcePort == f.Original.DestinationPort {
		b = append(b, b[destination:end]...)
	} else {
		b = appendDestination(b, f.Reply.Source, f.Reply.SourcePort)
	}
	b = append(appendICMPID(b, f.Protocol, f.Reply.ICMPID), '}')
	if isICMP(f.Protocol) {
		b = strconv.AppendUint(append(b, `,"icmp_type":`...), uint64(f.Original.ICMPType), 10)
		b = strconv.AppendUint(append(b, `,"icmp_code":`...), uint64(f.Original.ICMPCode), 10)
	}
	o := &j.Origin
	as := judgedAs{o.Entry, o.Place.File, j.From, j.To, o.Place.Line, o.Place.Column}
	if p := &e.judged[uint(o.Place.Line+o.Place.Column+len(j.From)+len(j.To)<<2)%uint(len(e.judged))]; p.has(as) {
		b = append(b, p.text...)
	} else {
		at := len(b)
		b = e.appendJudgement(b, j)
		p.keep(as, b[at:])
	}
	if !f.Start.IsZero() {
		b = f.Start.UTC().AppendFormat(append(b, `,"start":"`...), time.RFC3339Nano)
		b = strconv.AppendInt(append(b, `","age":`...), int64(age(f, e.now)/time.Second), 10)
	}
	if !e.ended {
		b = strconv.AppendInt(append(b, `,"timeout":`...), int64(f.Timeout/time.Second), 10)
	}
	if f.Counted {
		b = appendCounter(append(b, `,"sent":`...), f.Sent)
		b = appendCounter(append(b, `,"received":`...), f.Received)
	}
	if !e.bare {
		b = strconv.AppendUint(append(b, `,"mark":`...), uint64(f.Mark), 10)
	}
	if f.Zone != 0 {
		b = strconv.AppendUint(append(b, `,"conntrack_zone":`...), uint64(f.Zone), 10)
	}
	b = strconv.AppendUint(append(b, `,"id":`...), uint64(f.ID), 10)
	if f.Helper != "" {
		b = appendString(append(b, `,"helper":`...), f.Helper)
	}
	if f.Master.Source.IsValid() {
		b = appendProtocol(append(b, `,"master":{"protocol":"`...), f.MasterProtocol)
		b = append(b, `","before":`...)
		b = appendEnds(b, f.MasterProtocol, f.Master.Source, f.Master.SourcePort, f.Master.Destination, f.Master.DestinationPort, f.Master.ICMPID)
		b = append(b, '}')
	}
	return b
}

// appendKind adds what comes before the addresses.
func (e *flowEncoder) appendKind(b []byte, f *conntrack.Flow) []byte {
	b = append(b, `"protocol":"`...)
	b = appendProtocol(b, f.Protocol)
	if f.Family == conntrack.IPv6 {
		b = append(b, `","family":"ipv6"`...)
	} else {
		b = append(b, `","family":"ipv4"`...)
	}
	if state := f.ProtocolState(); state != "" && !e.bare {
		b = append(append(append(b, `,"state":"`...), state...), '"')
	}
	b = append(b, `,"status":[`...)
	b = appendStatus(b, f.Status, `"`, `,`)
	return append(b, ']')
}

// appendJudgement adds what the policy says.
func (e *flowEncoder) appendJudgement(b []byte, j *flows.Judgement) []byte {
	if j.Origin.Entry != "" {
		b = appendString(append(b, `,"entry":`...), j.Origin.Entry)
		if j.Origin.Place.File != "" {
			b = e.appendPlace(append(b, `,"place":`...), j.Origin.Place.File, j.Origin.Place.Line, j.Origin.Place.Column)
		}
	}
	if j.From != "" {
		b = appendString(append(b, `,"from":`...), j.From)
	}
	if j.To != "" {
		b = appendString(append(b, `,"to":`...), j.To)
	}
	return b
}

func appendEnds(b []byte, protocol uint8, source netip.Addr, sourcePort uint16, destination netip.Addr, destinationPort, icmpID uint16) []byte {
	b = appendDestination(appendSource(b, source, sourcePort), destination, destinationPort)
	return append(appendICMPID(b, protocol, icmpID), '}')
}

func appendSource(b []byte, a netip.Addr, port uint16) []byte {
	b = append(appendAddr(append(b, `{"source":"`...), a), '"')
	if port != 0 {
		b = strconv.AppendUint(append(b, `,"source_port":`...), uint64(port), 10)
	}
	return b
}

func appendDestination(b []byte, a netip.Addr, port uint16) []byte {
	b = append(appendAddr(append(b, `,"destination":"`...), a), '"')
	if port != 0 {
		b = strconv.AppendUint(append(b, `,"destination_port":`...), uint64(port), 10)
	}
	return b
}

func appendICMPID(b []byte, protocol uint8, id uint16) []byte {
	if isICMP(protocol) {
		b = strconv.AppendUint(append(b, `,"icmp_id":`...), uint64(id), 10)
	}
	return b
}

// appendAddr leaves out what is no address, as netip does in text.
func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return b
	case a.Is4():
		return appendIPv4(b, a.As4())
	}
	return a.AppendTo(b)
}

// appendIPv4 does what netip does, in half the time.
func appendIPv4(b []byte, a [4]byte) []byte {
	var text [len("255.255.255.255")]byte
	n := 0
	for i, v := range a {
		if i > 0 {
			text[n] = '.'
			n++
		}
		if v >= 100 {
			text[n] = '0' + v/100
			n++
		}
		if v >= 10 {
			text[n] = '0' + v/10%10
			n++
		}
		text[n] = '0' + v%10
		n++
	}
	return append(b, text[:n]...)
}

func appendCounter(b []byte, c conntrack.Counter) []byte {
	b = strconv.AppendUint(append(b, `{"packets":`...), c.Packets, 10)
	b = strconv.AppendUint(append(b, `,"bytes":`...), c.Bytes, 10)
	return append(b, '}')
}

func (e *flowEncoder) appendPlace(b []byte, file string, line, column int) []byte {
	s := append(append(e.scratch[:0], file...), ':')
	s = append(strconv.AppendInt(s, int64(line), 10), ':')
	e.scratch = strconv.AppendInt(s, int64(column), 10)
	return appendQuoted(b, e.scratch)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain(s[i]) {
			return appendQuoted(b, []byte(s))
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendQuoted leaves what is not plain to encoding/json, which escapes what a
// browser could trip over, and mends what is not UTF-8.
func appendQuoted(b, s []byte) []byte {
	for _, c := range s {
		if !plain(c) {
			text, _ := json.Marshal(string(s)) // of a string it cannot fail
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func plain(c byte) bool {
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

func appendProtocol(b []byte, number uint8) []byte { return append(b, policy.ProtocolName(number)...) }

func isICMP(protocol uint8) bool {
	return protocol == conntrack.ProtocolICMP || protocol == conntrack.ProtocolICMPv6
}
