package explain

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestFlow has a packet of a known flow, and its answer, translated without any
// rule, and told from first packets by what conntrack knows.
func TestFlow(t *testing.T) {
	t.Parallel()
	see := func(hook ruleset.HookPoint, priority int, m ...ruleset.Match) *ruleset.Chain {
		return &ruleset.Chain{Name: hook.String() + string(rune('a'+priority/100+5)), Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: hook, Priority: priority},
			Rules: []*ruleset.Rule{{Origin: ruleset.Origin{Entry: "seen"}, Matches: m, Action: ruleset.Action{Kind: ruleset.Accept}}}}
	}
	bit := func(f ruleset.Field, v uint32) ruleset.Match {
		return ruleset.Match{Fields: []ruleset.Field{f}, Op: ruleset.AnyOf, Value: []byte{0, 0, byte(v >> 8), byte(v)}}
	}
	answers := ruleset.Match{Fields: []ruleset.Field{ruleset.CtDirection}, Value: []byte{ruleset.CtReply}}
	first := ruleset.Match{Fields: []ruleset.Field{ruleset.CtOrigProtoDst}, Value: []byte{0, 80}}
	a := netip.MustParseAddr
	rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{
		see(ruleset.Prerouting, -150, first), see(ruleset.Prerouting, -90, answers), see(ruleset.Forward, 0, bit(ruleset.CtStatusField, ruleset.CtDNAT)),
		see(ruleset.Postrouting, 90, bit(ruleset.CtStatusField, ruleset.CtConfirmed)), see(ruleset.Postrouting, 110),
		{Name: "nat", Hook: &ruleset.Hook{Type: ruleset.TypeNAT, Point: ruleset.Postrouting, Priority: 100}, Rules: []*ruleset.Rule{{Action: ruleset.Action{Kind: ruleset.Drop}}}},
	}}
	w := New(rs, router())
	flow := Flow{Original: Became{Source: a("10.0.1.7"), Destination: a("203.0.113.1"), SourcePort: 1000, DestinationPort: 80},
		Reply: Became{Source: a("10.0.2.7"), Destination: a("10.0.2.1"), SourcePort: 8080, DestinationPort: 2000}}
	back := flow
	back.Answer = true
	walk := func(p Packet) (seen []string) {
		w.Trace = func(s Step) {
			seen = append(seen, s.Hook.String()+" "+netip.AddrPortFrom(s.Source, s.SourcePort).String()+" "+netip.AddrPortFrom(s.Destination, s.DestinationPort).String())
		}
		if r := w.Walk(&p); r.Verdict != ruleset.Accept {
			t.Errorf("%+v: %+v", p, r)
		}
		return seen
	}
	same := func(got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("seen %q, want %q", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("seen %q, want %q", got[i], want[i])
			}
		}
	}
	same(walk(Packet{In: "eth1", Out: "eth2", Source: flow.Original.Source, Destination: flow.Original.Destination, SourcePort: 1000, DestinationPort: 80, Protocol: 6, State: ruleset.CtEstablished, Flow: &flow}),
		"prerouting 10.0.1.7:1000 203.0.113.1:80", "forward 10.0.1.7:1000 10.0.2.7:8080", "postrouting 10.0.1.7:1000 10.0.2.7:8080", "postrouting 10.0.2.1:2000 10.0.2.7:8080")
	same(walk(Packet{In: "eth2", Out: "eth1", Source: a("10.0.2.7"), Destination: a("10.0.2.1"), SourcePort: 8080, DestinationPort: 2000, Protocol: 6, State: ruleset.CtEstablished, Flow: &back}),
		"prerouting 10.0.2.7:8080 10.0.2.1:2000", "prerouting 10.0.2.7:8080 10.0.1.7:1000", "forward 10.0.2.7:8080 10.0.1.7:1000", "postrouting 10.0.2.7:8080 10.0.1.7:1000", "postrouting 203.0.113.1:80 10.0.1.7:1000")
	// Conntrack makes nothing of an invalid packet, and was told to pass an
	// untracked one by.
	for _, state := range []uint32{ruleset.CtInvalid, ruleset.CtUntracked} {
		w.Trace = nil
		rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{see(ruleset.Forward, 0, ruleset.Match{Fields: []ruleset.Field{ruleset.CtDirection}, Op: ruleset.NotEqual, Value: []byte{7}})}}
		rs.Chains[0].Rules[0].Action.Kind = ruleset.Drop
		p := Packet{In: "eth1", Out: "eth2", Source: flow.Original.Source, Destination: a("10.0.2.7"), Protocol: 6, State: state}
		if r := New(rs, router()).Walk(&p); r.Verdict != ruleset.Accept {
			t.Errorf("state %d: a direction was seen", state)
		}
		p.State = ruleset.CtNew
		if r := New(rs, router()).Walk(&p); r.Verdict != ruleset.Drop {
			t.Errorf("no direction was seen")
		}
	}
}
