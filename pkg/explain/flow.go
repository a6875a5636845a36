package explain

import "github.com/ipmasq/ipmasq/pkg/ruleset"

// loadFlow fills in what conntrack knows of an open flow.
func (f *frame) loadFlow(flow *Flow) {
	o, r := &flow.Original, &flow.Reply
	status := uint32(ruleset.CtConfirmed)
	if o.Destination != r.Source || f.ported && o.DestinationPort != r.SourcePort {
		status |= ruleset.CtDNAT
	}
	numbered := f.ported || f.p.Protocol == 1 || f.p.Protocol == 58
	if o.Source != r.Destination || numbered && o.SourcePort != r.DestinationPort {
		status |= ruleset.CtSNAT
	}
	f.setStatus(status)
	if flow.Answer {
		f.put8(ruleset.CtDirection, ruleset.CtReply)
	}
	if f.ported {
		f.put16(ruleset.CtOrigProtoDst, o.DestinationPort)
	}
	f.reply = r.Destination
}

// opened are the ends of the packet that opened the flow.
func (f *frame) opened() Became {
	if f.p.Flow != nil {
		return f.p.Flow.Original
	}
	return Became{Source: f.first.Source, Destination: f.first.Destination}
}

// again translates a packet of an open flow as its first packet was, or back:
// its destination, or its source (nf_nat_packet).
func (w *Walker) again(destination bool) {
	f := &w.frame
	if f.noTrack || f.hidden != 0 {
		return
	}
	bit, other := uint32(ruleset.CtSNAT), f.p.Flow.Reply
	if destination {
		bit = ruleset.CtDNAT
	}
	if f.p.Flow.Answer {
		bit, other = bit^(ruleset.CtSNAT|ruleset.CtDNAT), f.p.Flow.Original
	}
	if f.status&bit == 0 {
		return
	}
	// What goes the other way has these the other way round.
	if destination {
		if f.p.Destination = other.Source; f.ported {
			f.p.DestinationPort = other.SourcePort
		}
		f.destination()
		return
	}
	if f.p.Source = other.Destination; f.ported {
		f.p.SourcePort = other.DestinationPort
	}
	f.source()
}

// flags of TCP that conntrack passes over (nf_conntrack_proto_tcp.c, tcp_error).
const passedOver = 1<<3 | 1<<6 | 1<<7 // PSH, ECE, CWR

// Begins is the state in which conntrack sees a packet that belongs to no open
// flow: new, invalid or untracked. Loose is net.netfilter.nf_conntrack_tcp_loose.
func Begins(p *Packet, loose bool) uint32 {
	begins := true
	switch p.Protocol {
	case 1: // nf_conntrack_proto_icmp.c: echo, timestamp, information, address mask
		begins = p.ICMPType == 8 || p.ICMPType == 13 || p.ICMPType == 15 || p.ICMPType == 17
	case 58: // nf_conntrack_proto_icmpv6.c: echo, node information
		switch {
		case p.ICMPType >= 130 && p.ICMPType <= 136, p.ICMPType == 143: // listeners and neighbours
			return ruleset.CtUntracked
		}
		begins = p.ICMPType == 128 || p.ICMPType == 139
	case 6:
		const urgent = 1 << 5
		switch p.TCPFlags &^ (passedOver | urgent) {
		case ruleset.TCPSyn:
		case ruleset.TCPAck:
			begins = loose
		default:
			begins = false
		}
	}
	if begins {
		return ruleset.CtNew
	}
	return ruleset.CtInvalid
}
