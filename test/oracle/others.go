package oracle

import (
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// Host is the gateway's namespace, for rules that are no policy's.
func (g *Gateway) Host() *lab.Host { return g.host }

// Routes are the gateway's.
func (g *Gateway) Routes() *link.Routes {
	g.Facts()
	return g.routes
}

// Links are the names of the gateway's links.
func Links() []string {
	var out []string
	for _, l := range links {
		out = append(out, l.name)
	}
	return out
}

// Forget empties conntrack.
func (g *Gateway) Forget() { g.forget() }

// Answer gives what the other side answers to a packet that became what its
// fate says. The tag of the answer is that of the packet and one more.
func (p *Packet) Answer(f Fate) *Packet {
	q := *p
	q.step, q.Ends, q.In = answer, f.Ends.reversed(), f.Link
	switch p.Protocol {
	case tcp:
		q.Flags = p.Flags&ruleset.TCPSyn | ruleset.TCPAck
	case icmp4:
		q.SourcePort, q.DestinationPort, q.ICMPType = f.Ends.SourcePort, 0, 0
	case icmp6:
		q.SourcePort, q.DestinationPort, q.ICMPType = f.Ends.SourcePort, 0, 129
	}
	return &q
}
