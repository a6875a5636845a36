package policytest

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// maxPackets bounds what the lists of one packet come to.
const maxPackets = 1000

// packetLists are the keys of a packet that take lists: there is a packet for
// each combination.
type packetLists struct {
	one                   Packet
	sources, destinations []netip.Addr
	protocols             []policy.Protocol
	ports, sourcePorts    []uint16
	icmpTypes             []policy.ICMPType
}

func readPackets(r *policy.Reader, n *policy.Node) []Packet {
	l := &packetLists{one: Packet{Place: r.At(n), at: places{}}}
	r.Takes("a packet is a mapping with `from`, `source`, `destination`, `protocol` and `port`")
	m, ok := policy.ReadMapping(r, n, packetKeys(), l)
	if !ok {
		return nil
	}
	m.Require("a packet", "from", "destination")
	if l.one.From != "gateway" && !m.Has("source") {
		r.Fail(n, "a packet needs `source`, unless it is `from: gateway`")
	}
	if l.one.From != "" && l.one.From != "gateway" && l.one.Mark != 0 {
		r.FailAt(l.one.at["mark"], "nothing arrives with a mark; it is for packets that are `from: gateway`")
	}
	if !m.Has("protocol") && !m.Has("icmp_type") {
		r.Fail(n, "a packet needs `protocol`")
	}
	for _, p := range l.protocols {
		switch {
		case policy.HasPorts(p.Number) && !m.Has("port"):
			r.FailAt(p.Place, fmt.Sprintf("a packet of %s needs `port`", policy.ProtocolName(p.Number)))
		case !policy.HasPorts(p.Number) && (m.Has("port") || m.Has("source_port")):
			r.FailAt(p.Place, fmt.Sprintf("%s has no ports; take the port out", policy.ProtocolName(p.Number)))
		}
		if m.Has("icmp_type") && p.Number != policy.ProtocolICMP && p.Number != policy.ProtocolICMPv6 {
			r.FailAt(p.Place, fmt.Sprintf("%s has no ICMP types; take one of the two out", policy.ProtocolName(p.Number)))
		}
	}
	return l.product(r, n)
}

// product is a packet for each combination.
func (l *packetLists) product(r *policy.Reader, n *policy.Node) []Packet {
	list := []Packet{l.one}
	apply := func(count int, set func(p *Packet, i int) bool) {
		if count == 0 {
			return
		}
		var next []Packet
		for _, p := range list {
			for i := range count {
				q := p
				if set(&q, i) && len(next) <= maxPackets {
					next = append(next, q)
				}
			}
		}
		list = next
	}
	apply(len(l.sources), func(p *Packet, i int) bool { p.Source = l.sources[i]; return true })
	apply(len(l.destinations), func(p *Packet, i int) bool {
		p.Destination = l.destinations[i]
		return !p.Source.IsValid() || p.Source.Is4() == p.Destination.Is4()
	})
	if len(list) == 0 && len(l.sources) > 0 && len(l.destinations) > 0 {
		r.Fail(n, "no source and destination of this packet are of one IP family")
		return nil
	}
	apply(len(l.icmpTypes), func(p *Packet, i int) bool {
		t, number := l.icmpTypes[i], l.icmpTypes[i].V4
		p.Protocol = policy.ProtocolICMP
		if p.Destination.Is6() {
			p.Protocol, number = policy.ProtocolICMPv6, t.V6
		}
		if number < 0 {
			r.FailAt(t.Place, fmt.Sprintf("%s is no ICMP type of the family of %s", t.Name, p.Destination))
			return false
		}
		p.ICMPType = uint8(number)
		return true
	})
	if len(l.icmpTypes) == 0 {
		apply(len(l.protocols), func(p *Packet, i int) bool {
			p.Protocol = l.protocols[i].Number
			switch {
			case p.Protocol == policy.ProtocolICMP:
				p.ICMPType = 8
			case p.Protocol == policy.ProtocolICMPv6:
				p.ICMPType = 128
			}
			return true
		})
	}
	apply(len(l.ports), func(p *Packet, i int) bool { p.DestinationPort = l.ports[i]; return true })
	apply(len(l.sourcePorts), func(p *Packet, i int) bool { p.SourcePort = l.sourcePorts[i]; return true })
	if len(list) > maxPackets {
		r.Fail(n, fmt.Sprintf("the lists of this packet make more than %d packets; write fewer", maxPackets))
		return nil
	}
	return list
}

func packetKeys() []policy.Key[packetLists] {
	text := func(name, takes string, of func(*Packet) *string) policy.Key[packetLists] {
		return policy.Key[packetLists]{Name: name, Takes: takes, Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at[name] = r.At(n)
			*of(&l.one), _ = r.Text(n)
		}}
	}
	addresses := func(name string, of func(*packetLists) *[]netip.Addr) policy.Key[packetLists] {
		return policy.Key[packetLists]{Name: name, Takes: "an address, or a list of addresses", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at[name] = r.At(n)
			r.Each(n, func(n *policy.Node) {
				if a, ok := r.Address(n); ok {
					*of(l) = append(*of(l), a.Low)
				}
			})
		}}
	}
	ports := func(name string, of func(*packetLists) *[]uint16) policy.Key[packetLists] {
		return policy.Key[packetLists]{Name: name, Takes: "a port, a range (its first and its last), or a list of these", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at[name] = r.At(n)
			for _, p := range r.Ports(n) {
				*of(l) = append(*of(l), p.First)
				if p.Last != p.First {
					*of(l) = append(*of(l), p.Last)
				}
			}
		}}
	}
	return []policy.Key[packetLists]{
		text("from", "a zone, or gateway", func(p *Packet) *string { return &p.From }),
		{Name: "interface", Takes: "the name of a link", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at["interface"] = r.At(n)
			l.one.Interface, _ = r.InterfaceName(n)
		}},
		addresses("source", func(l *packetLists) *[]netip.Addr { return &l.sources }),
		addresses("destination", func(l *packetLists) *[]netip.Addr { return &l.destinations }),
		{Name: "protocol", Takes: "a protocol, or a list of protocols", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at["protocol"] = r.At(n)
			r.Each(n, func(n *policy.Node) {
				if p, ok := r.Protocol(n); ok {
					l.protocols = append(l.protocols, p)
				}
			})
		}},
		ports("port", func(l *packetLists) *[]uint16 { return &l.ports }),
		ports("source_port", func(l *packetLists) *[]uint16 { return &l.sourcePorts }),
		{Name: "icmp_type", Takes: "the name of an ICMP type, or a list of names", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			r.Each(n, func(n *policy.Node) {
				if t, ok := r.ICMPType(n); ok {
					l.icmpTypes = append(l.icmpTypes, t)
				}
			})
		}},
		{Name: "hop_limit", Takes: "a number from 1 to 255", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			v, _ := r.Number(n, 1, 255)
			l.one.HopLimit = uint8(v)
		}},
		{Name: "mark", Takes: "a mark as 0x1", Read: func(r *policy.Reader, n *policy.Node, l *packetLists) {
			l.one.at["mark"] = r.At(n)
			m, _ := r.Mark(n)
			l.one.Mark = m.Value
		}},
	}
}
