package simulate

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// answered sends the answer to a packet that has passed.
func (q *question) answered(out *Outcome) *Answer {
	f := out.Flow
	within := q.Interface == "" && out.Verdict == Delivered // it never leaves the host
	shared := f != nil && (q.host.Kind(f.Reply.Source) == ruleset.RTNBroadcast || f.Reply.Source.IsMulticast())
	if f == nil || within || shared || !f.Reply.Destination.IsValid() {
		return nil
	}
	a := &question{Gateway: q.Gateway, flow: f, answer: true, Packet: Packet{
		From: out.To, Source: f.Reply.Source, Destination: f.Reply.Destination, SourcePort: f.Reply.SourcePort, DestinationPort: f.Reply.DestinationPort,
		Protocol: q.Protocol, ICMPType: answerType(q.Protocol, q.ICMPType), State: ruleset.CtEstablished,
	}}
	if q.Protocol == protocolTCP {
		a.TCPFlags = ruleset.TCPSyn | tcpAck
	}
	if out.Verdict == Forwarded {
		a.Interface = out.Out
	}
	p := a.explained()
	if q.Interface != "" {
		p.Out = q.back(a, p)
	}
	r, raw := a.traced(p)
	answer := &Answer{Verdict: verdict(r), In: a.Interface, Sent: f.Reply, Received: f.Original.turned(),
		Mark: r.Mark, Steps: a.tell(raw, r), Notes: a.notes, EndedAt: r.At}
	if r.By != nil && r.By.Entry != plumbing && r.By.Entry != zones {
		answer.By = *r.By
	}
	if !r.Local {
		answer.Out = r.Out
	}
	return answer
}

// back is the interface that an answer leaves by: the uplink whose mark it has,
// or where routes lead.
func (q *question) back(a *question, p *explain.Packet) string {
	routed := q.host.Way(q.Source)
	p.Out = q.Interface
	mark := q.walker.Walk(p).Mark
	for _, u := range q.uplinks {
		if u.Mark != 0 && mark&u.Mask == u.Mark {
			return u.Name
		}
	}
	if len(routed) == 0 || slices.Contains(routed[:1], q.Interface) {
		return q.Interface
	}
	text := fmt.Sprintf("the answer leaves by %s, where the route to %s leads, and not by %s, where the packet came from", routed[0], q.Source, q.Interface)
	if z := q.zones.Of(q.Interface, q.Source); z != "" && z != flows.Gateway {
		text += fmt.Sprintf("; `symmetric: true` in zone %s has it leave there", z)
	}
	a.note("%s", text)
	return routed[0]
}

// answerType is the type of the message that answers a message of ICMP.
func answerType(protocol, asked uint8) uint8 {
	switch {
	case protocol == protocolICMP && asked == 8:
		return 0
	case protocol == protocolICMP && (asked == 13 || asked == 15 || asked == 17):
		return asked + 1
	case protocol == protocolICMPv6 && asked == 128:
		return 129
	}
	return asked
}
