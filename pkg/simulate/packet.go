package simulate

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Packet is the first packet of a flow, as a person describes it.
type Packet struct {
	// From is a zone, or "gateway" for what the host itself sends. "" is found
	// out from Interface and Source.
	From string
	// To is a zone, where the packet is meant to leave to; "": the host's route,
	// else the only uplink.
	To string
	// Interface is what it arrives by; "": the one of the zone's that leads back
	// to its source, else one of the zone's that the host has, else the first that
	// the zone names.
	Interface           string
	Source, Destination netip.Addr // Source of the gateway's own may be left out
	Protocol            uint8
	// The ports are of protocols that have some. A source port that is left out
	// is DefaultSourcePort.
	SourcePort, DestinationPort uint16
	ICMPType                    uint8
	TCPFlags                    uint8  // 0 of TCP stands for SYN
	HopLimit                    uint8  // 0 stands for 64
	State                       uint32 // of conntrack, as ruleset.CtInvalid; 0: what it would say of the first packet of a flow
	Mark                        uint32
}

// DefaultSourcePort is the source port of packets of which none is told.
const DefaultSourcePort = 40000

// HasPorts says whether a protocol has ports.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case 6, 17, 33, 132, 136:
		return true
	}
	return false
}

// QuestionError says what is wrong with a question.
type QuestionError struct {
	// Field is what of the packet is wrong: from, to, interface, source,
	// destination, protocol, port.
	Field   string
	Message string
}

func (e *QuestionError) Error() string { return e.Message }

// question is a packet that is asked for, made complete.
type question struct {
	*Gateway
	Packet
	notes  []string
	flow   *Flow // that the packet is of, where it is not the first
	answer bool  // and it goes the other way
}

func (q *question) ends() Ends {
	return Ends{q.Source, q.Destination, q.SourcePort, q.DestinationPort}
}

// explained is the packet as rules see it.
func (q *question) explained() *explain.Packet {
	p := &explain.Packet{
		In: q.Interface, Source: q.Source, Destination: q.Destination, Protocol: q.Protocol,
		SourcePort: q.SourcePort, DestinationPort: q.DestinationPort, ICMPType: q.ICMPType, TCPFlags: q.TCPFlags,
		HopLimit: q.HopLimit, State: q.State, Mark: q.Mark,
	}
	if q.flow != nil {
		p.Flow, p.CtMark = q.flow.explained(q.answer), q.flow.Mark
	}
	return p
}

// ask makes the packet complete.
func (q *question) ask() error {
	if err := q.askPacket(); err != nil {
		return err
	}
	for _, name := range []struct{ field, zone string }{{"from", q.From}, {"to", q.To}} {
		if name.zone == "" || name.zone == flows.Gateway && name.field == "from" {
			continue
		}
		if q.policy.Zone(name.zone) == nil {
			return q.noZone(name.field, name.zone)
		}
	}
	switch {
	case q.From == flows.Gateway:
		return q.askGateway()
	case q.From == "":
		return q.askFrom()
	}
	return q.askInterface()
}

// askPacket looks at what has nothing to do with the host.
func (q *question) askPacket() error {
	q.Source, q.Destination = q.Source.Unmap(), q.Destination.Unmap()
	switch {
	case !q.Destination.IsValid():
		return &QuestionError{"destination", "the packet needs a destination"}
	case !q.Source.IsValid() && q.From != flows.Gateway:
		return &QuestionError{"source", "the packet needs a source"}
	case q.Source.IsValid() && q.Source.Is4() != q.Destination.Is4():
		return &QuestionError{"source", "source and destination are of two IP families: " + q.Source.String() + " and " + q.Destination.String()}
	case q.Protocol == 0:
		return &QuestionError{"protocol", "the packet needs a protocol"}
	case q.Protocol == 1 && q.Destination.Is6():
		return &QuestionError{"protocol", "icmp is of IPv4, and " + q.Destination.String() + " is IPv6; its protocol is icmpv6"}
	case q.Protocol == 58 && q.Destination.Is4():
		return &QuestionError{"protocol", "icmpv6 is of IPv6, and " + q.Destination.String() + " is IPv4; its protocol is icmp"}
	case HasPorts(q.Protocol) && q.DestinationPort == 0:
		return &QuestionError{"port", "the packet needs a destination port"}
	case !HasPorts(q.Protocol) && (q.SourcePort != 0 || q.DestinationPort != 0):
		return &QuestionError{"port", "the protocol has no ports"}
	}
	if HasPorts(q.Protocol) && q.SourcePort == 0 {
		q.SourcePort = DefaultSourcePort
	}
	if q.Protocol == 6 && q.TCPFlags == 0 {
		q.TCPFlags = ruleset.TCPSyn
	}
	if q.State == 0 {
		q.State = explain.Begins(q.explained(), !q.strict)
	}
	return nil
}
