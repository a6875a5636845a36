package conntrack

import (
	"net/netip"
	"slices"
)

// Filter says which connections are meant: those that all of its parts allow.
// A part that is empty allows every connection, so the zero Filter means all.
// Of a list one has to fit.
type Filter struct {
	Families  []Family
	Protocols []uint8
	// Sources fits where a connection comes from: its source before translation
	// or, of an answer's point of view, what that became. Destinations the same.
	Sources, Destinations         []netip.Prefix
	SourcePorts, DestinationPorts []PortRange // before or after translation
	States                        []State     // of TCP; others have none and do not fit
	// Status has to be as given in the bits of StatusMask.
	Status, StatusMask Status
	// Translated means a source or a destination that is translated.
	Translated bool
	// Mark has to be as given in the bits of MarkMask.
	Mark, MarkMask uint32
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ Low, High uint16 }

// Match says whether the filter allows a connection.
func (f *Filter) Match(c *Flow) bool {
	return (len(f.Families) == 0 || slices.Contains(f.Families, c.Family)) &&
		(len(f.Protocols) == 0 || slices.Contains(f.Protocols, c.Protocol)) &&
		(len(f.States) == 0 || c.Protocol == ProtocolTCP && slices.Contains(f.States, c.State)) &&
		c.Status&f.StatusMask == f.Status && c.Mark&f.MarkMask == f.Mark &&
		(!f.Translated || c.SNAT() || c.DNAT()) &&
		either(f.Sources, c.Original.Source, c.Reply.Destination) &&
		either(f.Destinations, c.Original.Destination, c.Reply.Source) &&
		(len(f.SourcePorts) == 0 && len(f.DestinationPorts) == 0 || hasPorts(c.Protocol)) &&
		eitherPort(f.SourcePorts, c.Original.SourcePort, c.Reply.DestinationPort) &&
		eitherPort(f.DestinationPorts, c.Original.DestinationPort, c.Reply.SourcePort)
}

// hasPorts says whether what stands in a tuple as ports is ports: of GRE it is
// not, and other protocols have none, which is not port 0.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case ProtocolTCP, ProtocolUDP, ProtocolSCTP, 33, 136: // DCCP, UDPLite
		return true
	}
	return false
}

func either(list []netip.Prefix, a, b netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) || p.Contains(b) })
}

func eitherPort(list []PortRange, a, b uint16) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(r PortRange) bool {
		return r.Low <= a && a <= r.High || r.Low <= b && b <= r.High
	})
}
