package main

import (
	"github.com/ipmasq/ipmasq/pkg/nftrace"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// walk makes of a packet's events its walk, beside what is foreseen of such a
// packet: of the first of a flow, or of a later one, whichever explains more.
func (l *live) walk(x *packetTrace) *liveWalk {
	out := &liveWalk{at: x.last}
	for i := range x.events {
		out.seen = append(out.seen, l.seen(x, i))
	}
	out.verdict = l.verdict(x)
	p := l.asked
	for i := range x.events {
		if e := &x.events[i]; e.Header {
			p.SourcePort, p.TCPFlags = e.SourcePort, e.TCPFlags
			break
		}
	}
	states := []uint32{ruleset.CtNew, ruleset.CtEstablished}
	if p.State != 0 {
		states = []uint32{p.State}
	} else if p.Protocol == policy.ProtocolTCP && p.TCPFlags != ruleset.TCPSyn {
		states = []uint32{ruleset.CtEstablished, ruleset.CtNew, ruleset.CtInvalid}
	}
	for _, state := range states {
		p.State = state
		foreseen, err := l.gateway.simulated.Send(p)
		if err != nil {
			continue // not of this question, which has been answered before
		}
		d := foreseen.Compare(out.seen)
		if out.foreseen == nil || out.difference != nil && (d == nil || d.At > out.difference.At) {
			out.foreseen, out.difference = foreseen, d
		}
		if d == nil {
			break
		}
	}
	if out.difference == nil && out.verdict == "" {
		out.verdict = string(out.foreseen.Verdict) // no chain that would tell was foreseen
	}
	return out
}

// seen tells of an event with our names.
func (l *live) seen(x *packetTrace, i int) simulate.Seen {
	e := &x.events[i]
	s := simulate.Seen{
		Table: e.Family + " " + e.Table, Chain: e.Chain, Ours: e.Family == "inet" && e.Table == tableWord,
		Handle: e.Handle, Policy: e.Kind == nftrace.Policy, Verdict: string(e.Verdict), To: e.To,
	}
	upTo := packetTrace{events: x.events[:i+1]}
	s.Hook = l.baseOf(&upTo).Name
	if e.Kind == nftrace.Return {
		s.Verdict = "" // a chain's end, which decides nothing
	}
	if e.Header {
		s.Ends = &simulate.Ends{Source: e.Source, Destination: e.Destination, SourcePort: e.SourcePort, DestinationPort: e.DestinationPort}
	}
	at, ok := l.chains.Rule(e)
	s.Comment = at.Comment
	if !ok || !s.Ours {
		return s
	}
	for _, c := range l.gateway.rules.Chains {
		if c.Name == e.Chain && at.Index < len(c.Rules) && isComment(at.Comment, c.Rules[at.Index]) {
			s.Rule = c.Rules[at.Index]
		}
	}
	return s
}

// verdict is what became of a packet in the kernel.
func (l *live) verdict(x *packetTrace) string {
	e := &x.events[len(x.events)-1]
	switch {
	case e.Verdict == nftrace.Drop || e.Verdict == nftrace.Queue:
		return string(e.Verdict)
	}
	switch l.baseOf(x).Name {
	case "postrouting":
		return string(simulate.Forwarded)
	case "input":
		return string(simulate.Delivered)
	}
	return ""
}
