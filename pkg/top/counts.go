package top

import "math"

// seen is what is kept of a flow from one listing to the next. Packets are kept
// to 32 bits: what matters is the difference.
type seen struct {
	id                           uint64
	sentBytes, receivedBytes     uint64
	sentPackets, receivedPackets uint32
	entry                        uint32 // index of Table.entries, or excluded
	listing                      uint32 // the last one that it was in
}

// excluded is the entry of a flow that the policy's part of the filter does not
// allow.
const excluded = math.MaxUint32

// Traffic is what went by, in both directions.
type Traffic struct {
	SentBytes, ReceivedBytes     uint64
	SentPackets, ReceivedPackets uint64
}

func (t *Traffic) add(o Traffic) {
	t.SentBytes += o.SentBytes
	t.ReceivedBytes += o.ReceivedBytes
	t.SentPackets += o.SentPackets
	t.ReceivedPackets += o.ReceivedPackets
}

func (t Traffic) swapped() Traffic {
	return Traffic{t.ReceivedBytes, t.SentBytes, t.ReceivedPackets, t.SentPackets}
}

// shared is what is left for each of n listings.
func (t Traffic) shared(n uint64) Traffic {
	return Traffic{t.SentBytes / n, t.ReceivedBytes / n, t.SentPackets / n, t.ReceivedPackets / n}
}

// since is what went by since the counters were as s has them. Anew says that
// they began from nothing in between: another flow has taken the flow's place
// and its ID, or somebody has set the counters back.
func (s *seen) since(now Traffic) (_ Traffic, anew bool) {
	if back(s.sentBytes, now.SentBytes) || back(s.receivedBytes, now.ReceivedBytes) {
		return now, true
	}
	return Traffic{
		SentBytes:       now.SentBytes - s.sentBytes,
		ReceivedBytes:   now.ReceivedBytes - s.receivedBytes,
		SentPackets:     uint64(uint32(now.SentPackets) - s.sentPackets),
		ReceivedPackets: uint64(uint32(now.ReceivedPackets) - s.receivedPackets),
	}, false
}

// back says whether a counter went back, and did not just wrap at 2^64: no
// counter takes half of that in one step.
func back(before, now uint64) bool { return now < before && now-before > math.MaxUint64/2 }

func (s *seen) note(now Traffic, listing uint32) {
	s.sentBytes, s.receivedBytes = now.SentBytes, now.ReceivedBytes
	s.sentPackets, s.receivedPackets = uint32(now.SentPackets), uint32(now.ReceivedPackets)
	s.listing = listing
}
