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
}

// append adds one connection, an object on one line.
func (e *flowEncoder) append(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	return append(e.fields(append(b, '{'), f, j), '}')
}

// fields adds what stands between the braces.
func (e *flowEncoder) fields(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
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
	b = append(b, `],"before":`...)
	b = appendEnds(b, f.Protocol, f.Original.Source, f.Original.SourcePort, f.Original.Destination, f.Original.DestinationPort, f.Original.ICMPID)
	b = append(b, `,"after":`...)
	b = appendEnds(b, f.Protocol, f.Reply.Destination, f.Reply.DestinationPort, f.Reply.Source, f.Reply.SourcePort, f.Reply.ICMPID)
	if isICMP(f.Protocol) {
		b = strconv.AppendUint(append(b, `,"icmp_type":`...), uint64(f.Original.ICMPType), 10)
		b = strconv.AppendUint(append(b, `,"icmp_code":`...), uint64(f.Original.ICMPCode), 10)
	}
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

func appendEnds(b []byte, protocol uint8, source netip.Addr, sourcePort uint16, destination netip.Addr, destinationPort, icmpID uint16) []byte {
	b = appendAddr(append(b, `{"source":"`...), source)
	b = append(b, '"')
	if sourcePort != 0 {
		b = strconv.AppendUint(append(b, `,"source_port":`...), uint64(sourcePort), 10)
	}
	b = appendAddr(append(b, `,"destination":"`...), destination)
	b = append(b, '"')
	if destinationPort != 0 {
		b = strconv.AppendUint(append(b, `,"destination_port":`...), uint64(destinationPort), 10)
	}
	if isICMP(protocol) {
		b = strconv.AppendUint(append(b, `,"icmp_id":`...), uint64(icmpID), 10)
	}
	return append(b, '}')
}

// appendAddr leaves out what is no address, as netip does in text.
func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	return a.AppendTo(b)
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
