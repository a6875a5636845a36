package flows_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestClasses compares what is remembered of a connection's class with what the
// rules say of the connection itself: random ones, whose ends lie at the edges of
// classes and between them, by all policies of package compile.
func TestClasses(t *testing.T) {
	t.Parallel()
	f := onPPP()
	policies, ours, known := 0, 0, 0
	everyPolicy(t, f, func(name string, j *flows.Judge) {
		if !j.Classify() {
			t.Logf("%s has no classes", name)
			return
		}
		policies++
		ours += alike(t, name, j, rand.New(rand.NewPCG(uint64(policies), 1)))
		known += j.Alike()
	})
	t.Logf("%d policies, %d flows that they translated, %d classes", policies, ours, known)
	if policies < 50 || ours < 5000 {
		t.Errorf("%d policies translated %d flows; the flows are too far from the policies", policies, ours)
	}
}

func alike(t *testing.T, name string, j *flows.Judge, r *rand.Rand) (ours int) {
	var addresses [2][]netip.Addr
	edges, ports := j.Edges()
	for _, a := range edges {
		list := &addresses[0]
		if a.Is6() {
			list = &addresses[1]
		}
		*list = append(*list, a)
		for range 3 {
			if a = a.Next(); a.IsValid() {
				*list = append(*list, a)
			}
		}
	}
	for range 3000 {
		list := addresses[r.IntN(2)]
		address := func() netip.Addr { return list[r.IntN(len(list))] }
		port := func() uint16 { return ports[r.IntN(len(ports))] + uint16(r.IntN(3)) }
		x := conntrack.Flow{Protocol: []uint8{6, 6, 17, 1, 47, 132}[r.IntN(6)], Mark: []uint32{0, 0, 0x10000000, 7}[r.IntN(4)]}
		x.Original = conntrack.Tuple{Source: address(), Destination: address(), SourcePort: port(), DestinationPort: port()}
		x.Reply = conntrack.Tuple{Source: x.Original.Destination, Destination: x.Original.Source, SourcePort: x.Original.DestinationPort, DestinationPort: x.Original.SourcePort}
		translate(j, &x)
		switch r.IntN(10) {
		case 0:
			x.Reply.Source = address()
		case 1:
			x.Reply.SourcePort = port()
		case 2:
			x.Reply.Destination = address()
		case 3:
			x.Reply.DestinationPort = port()
		case 4:
			x.Original.Source = address()
		case 5:
			x.Original.Destination = address()
		case 6:
			x.Original.DestinationPort = port()
		}
		// Its neighbours are mostly of its class, and what is remembered of one has
		// to hold for the other.
		next := x
		switch r.IntN(4) {
		case 0:
			next.Original.Source = x.Original.Source.Next()
		case 1:
			next.Original.Destination = x.Original.Destination.Next()
		case 2:
			next.Reply.Source = x.Reply.Source.Next()
		case 3:
			next.Reply.Destination = x.Reply.Destination.Next()
		}
		for _, x := range []conntrack.Flow{x, next, x} {
			want := j.Unclassified(&x)
			if want.Ours {
				ours++
			}
			if got := j.Judge(&x); got != want {
				t.Errorf("%s: %s, mark %#x:\n%s by its class\n%s by itself", name, x, x.Mark, judged(got), judged(want))
				return ours
			}
		}
	}
	return ours
}

// translate makes a flow what the rules make of it.
func translate(j *flows.Judge, x *conntrack.Flow) {
	in := ""
	if list := j.Leads(x.Original.Source); len(list) > 0 {
		in = list[0]
	}
	w := j.Walk(&explain.Packet{
		In: in, Source: x.Original.Source, Destination: x.Original.Destination, SourcePort: x.Original.SourcePort, DestinationPort: x.Original.DestinationPort,
		Protocol: x.Protocol, TCPFlags: ruleset.TCPSyn, State: ruleset.CtNew,
	})
	if w.DNAT.Kind != ruleset.Continue {
		x.Reply.Source, x.Reply.SourcePort = w.DNAT.Address, w.DNAT.Port
	}
	if w.SNAT.Kind != ruleset.Continue {
		x.Reply.Destination, x.Reply.DestinationPort = w.SNAT.Address, w.SNAT.Port
	}
}
