package flows

import (
	"net/netip"

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

// Traced is the same as Walk, where each rule on the way is looked at.
func (j *Judge) Traced(p *explain.Packet) explain.Result {
	j.walker.Trace = func(explain.Step) {}
	defer func() { j.walker.Trace = nil }()
	return j.Walk(p)
}

// Zone is the zone of an interface and address.
func (j *Judge) Zone(iface string, a netip.Addr) string { return j.zones.Of(iface, a) }
