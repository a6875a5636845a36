package link

import "net/netip"

// Neighbor is what the host knows of an address on a link: what ARP and IPv6's
// neighbour discovery have found (ip-neighbour(8)).
type Neighbor struct {
	Interface string
	Address   netip.Addr
	// MAC is "" where nobody has answered.
	MAC   string
	State NeighborState
}

// NeighborState is how sure the kernel is of a neighbour (NUD_* of
// linux/neighbour.h).
type NeighborState uint16

// The states that say something of whether a neighbour answers. Of the others,
// nobody has asked for a while.
const (
	NeighborIncomplete NeighborState = 0x01 // it is being asked for
	NeighborReachable  NeighborState = 0x02
	NeighborStale      NeighborState = 0x04 // it has answered once
	NeighborDelay      NeighborState = 0x08
	NeighborProbe      NeighborState = 0x10
	NeighborFailed     NeighborState = 0x20 // it was asked for, and did not answer
	NeighborNoARP      NeighborState = 0x40
	NeighborPermanent  NeighborState = 0x80
)

// Silent says that nobody has answered.
func (s NeighborState) Silent() bool {
	return s&(NeighborIncomplete|NeighborFailed) != 0
}

// Answered says that somebody has answered, or was written down by hand.
func (s NeighborState) Answered() bool {
	return s&(NeighborReachable|NeighborStale|NeighborDelay|NeighborProbe|NeighborPermanent) != 0
}

// String gives the name as ip-neighbour(8) prints it.
func (s NeighborState) String() string {
	for _, n := range []struct {
		state NeighborState
		name  string
	}{{NeighborIncomplete, "INCOMPLETE"}, {NeighborReachable, "REACHABLE"}, {NeighborStale, "STALE"}, {NeighborDelay, "DELAY"},
		{NeighborProbe, "PROBE"}, {NeighborFailed, "FAILED"}, {NeighborNoARP, "NOARP"}, {NeighborPermanent, "PERMANENT"}} {
		if s&n.state != 0 {
			return n.name
		}
	}
	return "NONE"
}
