package flows

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/explain"
)

// Walk is what the judge's rules make of a packet.
func (j *Judge) Walk(p *explain.Packet) explain.Result { return *j.walker.Walk(p) }

// Steps are the rules that match a packet.
func (j *Judge) Steps(p *explain.Packet) (steps []explain.Step) {
	j.walker.Trace = func(s explain.Step) { steps = append(steps, s) }
	j.walker.Walk(p)
	j.walker.Trace = nil
	return steps
}

// Classify has connections judged by their classes from now on, and says whether
// there are any.
func (j *Judge) Classify() bool {
	j.judged, j.classes = worthClasses, j.classify()
	return j.classes != nil
}

// Leads are the interfaces that lead to an address that is not the host's own.
func (j *Judge) Leads(a netip.Addr) []string {
	if j.host.local(a) {
		return nil
	}
	return j.host.Leaves(a)
}

// Alike is how many classes of connections are known.
func (j *Judge) Alike() int { return len(j.classes.known) }

// Unclassified judges a connection as if there were no other like it.
func (j *Judge) Unclassified(f *conntrack.Flow) (out Judgement) {
	classes := j.classes
	j.classes, j.judged = nil, worthClasses
	out = j.Judge(f)
	j.classes = classes
	return out
}

// Edges are the addresses and ports at which classes begin.
func (j *Judge) Edges() (addresses []netip.Addr, ports []uint16) {
	for _, n := range j.classes.ipv4 {
		addresses = append(addresses, netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
	}
	for _, n := range j.classes.ipv6 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], n.high)
		binary.BigEndian.PutUint64(b[8:], n.low)
		addresses = append(addresses, netip.AddrFrom16(b))
	}
	return addresses, j.classes.ports
}

// Traced is the same as Walk, where each rule on the way is looked at.
func (j *Judge) Traced(p *explain.Packet) explain.Result {
	j.walker.Trace = func(explain.Step) {}
	defer func() { j.walker.Trace = nil }()
	return j.Walk(p)
}

// Zone is the zone of an interface and address.
func (j *Judge) Zone(iface string, a netip.Addr) string { return j.zones.Of(iface, a) }
