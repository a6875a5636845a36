// Package simulate sends packets through a gateway that need not exist: a policy,
// links, addresses and routes, and no kernel.
//
// It is package explain for people: packets come from zones, and what became of
// one is told with the entries that did it, what conntrack would keep, and what
// happens to the answer.
//
// What package explain does not know is not known here either: rules of other
// tables, and how near limits are. They are taken not to be reached, and told.
package simulate

import (
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Gateway is a gateway with a policy in force. It serves one goroutine at a time.
type Gateway struct {
	rules   *ruleset.Ruleset
	policy  *policy.Policy
	facts   link.Facts
	host    explain.Host
	walker  *explain.Walker
	zones   *flows.Zones
	uplinks []flows.Uplink
	strict  bool
}

// New takes the ruleset that a policy compiled to on a host. The policy's zones
// are resolved (compile.Facts.Resolve).
func New(rules *ruleset.Ruleset, p *policy.Policy, facts link.Facts, routes flows.Routes) *Gateway {
	host := flows.NewHost(facts, routes)
	return &Gateway{rules: rules, policy: p, facts: facts, host: host,
		walker: explain.New(rules, host), zones: flows.ZonesOf(p), uplinks: flows.Uplinks(rules), strict: strict(rules)}
}

// strict says whether conntrack has to see the beginning of TCP connections: what
// a synproxy needs, and apply sets then.
func strict(rules *ruleset.Ruleset) bool {
	for _, c := range rules.Chains {
		for _, r := range c.Rules {
			if r.Action.Kind == ruleset.Synproxy {
				return true
			}
		}
	}
	return false
}

// Send takes a packet through the gateway. The error is of what is wrong with the
// question, and is a [*QuestionError].
func (g *Gateway) Send(p Packet) (*Outcome, error) {
	q := &question{Gateway: g, Packet: p}
	if err := q.ask(); err != nil {
		return nil, err
	}
	if q.State == ruleset.CtEstablished {
		q.open()
	}
	out := &Outcome{Packet: q.Packet, Arrived: q.ends()}
	r := q.walk(out)
	out.Verdict, out.Notes = verdict(&r), q.notes
	switch out.Verdict {
	case Delivered:
		out.To = flows.Gateway
	case Forwarded:
		out.To = g.zones.Of(r.Out, out.Left.Destination)
	case Dropped, Rejected, Unrouted:
		out.Hint = q.hint(out)
	}
	if out.Verdict.Passes() && out.Verdict != Synproxy {
		out.Flow = q.held(out)
		out.Answer = q.answered(out)
	}
	return out, nil
}

// walk takes the packet through the rules. A packet that is asked to leave to a
// zone leaves by an interface of that one, wherever its destination is
// translated to, unless it is for the gateway itself.
func (q *question) walk(out *Outcome) explain.Result {
	first := q.explained()
	q.walker.Trace = nil
	r := q.walker.Walk(first)
	if !r.Local {
		q.leave(first, r)
	}
	r, raw := q.traced(first)
	out.take(r)
	if q.flow != nil {
		out.Left = q.flow.became()
	}
	out.Steps = q.tell(raw, r)
	if r.Verdict != ruleset.Accept && len(out.Steps) > 0 {
		out.Left = out.Steps[len(out.Steps)-1].After
	}
	out.Choices = q.choices(out)
	return *r
}

func (q *question) traced(p *explain.Packet) (*explain.Result, []explain.Step) {
	var raw []explain.Step
	q.walker.Trace = func(s explain.Step) { raw = append(raw, s) }
	r := q.walker.Walk(p)
	q.walker.Trace = nil
	return r, raw
}

// open has a packet that is not the first be of the flow that the rules would
// make of the first one.
func (q *question) open() {
	first := *q
	first.State = ruleset.CtNew
	if first.Protocol == protocolTCP {
		first.TCPFlags = ruleset.TCPSyn
	}
	if q.Protocol == protocolTCP && q.Packet.TCPFlags == ruleset.TCPSyn {
		q.TCPFlags = tcpAck
	}
	out := &Outcome{Packet: first.Packet, Arrived: first.ends()}
	r := first.walk(out)
	q.flow = first.held(out)
	if !verdict(&r).Passes() {
		q.flow = &Flow{Original: out.Arrived, Reply: out.Arrived.turned()}
		q.note("these rules would not let the first packet of this flow pass: it is taken for an older flow, untranslated")
	}
}

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolICMPv6 = 58
	tcpAck         = 1 << 4
)

func verdict(r *explain.Result) Verdict {
	switch {
	case r.Verdict == ruleset.Drop:
		return Dropped
	case r.Verdict == ruleset.Reject:
		return Rejected
	case r.Verdict == ruleset.Synproxy:
		return Synproxy
	case r.Unrouted:
		return Unrouted
	case r.Local:
		return Delivered
	}
	return Forwarded
}
