package compile_test

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestWalker takes packets through a ruleset that has everything, so that a
// kind that the walker does not know is not taken for one that never matches.
func TestWalker(t *testing.T) {
	t.Parallel()
	rs := backendtest.Everything()
	w := newWalker(t, rs)
	addr := netip.MustParseAddr
	p := packet{
		iif: "eth0", oif: "eth1", src: addr("10.0.1.7"), dst: addr("10.0.2.7"), proto: 6, sport: 1000, dport: 80,
		tracked: true, tcpFlags: ruleset.TCPSyn, mark: 0x101, ctMark: 2, pick: 4,
	}
	match := func(f ruleset.Field, op ruleset.Op, value, high []byte) bool {
		return w.match(ruleset.Match{Fields: []ruleset.Field{f}, Op: op, Value: value, High: high}, &p)
	}
	for i, ok := range []bool{
		match(ruleset.MetaMark, ruleset.Masked, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0xff}),
		!match(ruleset.MetaMark, ruleset.NotMasked, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0xff}),
		!match(ruleset.CtMark, ruleset.Equal, []byte{0, 0, 0, 1}, nil),
		match(ruleset.CtMark, ruleset.AnyOf, []byte{0, 0, 0, 3}, nil),
		match(ruleset.TCPFlagsField, ruleset.Masked, []byte{ruleset.TCPSyn}, []byte{ruleset.TCPSyn | ruleset.TCPAck}),
		match(ruleset.FibSaddrIif, ruleset.Equal, []byte{0, 0, 0, 1}, nil),
		match(ruleset.CtOrigIPDaddr, ruleset.Equal, []byte{10, 0, 2, 7}, nil),
		!match(ruleset.CtOrigIP6Saddr, ruleset.NotEqual, make([]byte, 16), nil),
	} {
		if !ok {
			t.Errorf("match %d is wrong", i)
		}
	}
	translated := func(a ruleset.Action, p packet) outcome {
		var out outcome
		w.act(&ruleset.Rule{}, a, &p, &out)
		return out
	}
	for i, c := range []struct {
		action     ruleset.Action
		low, high  string
		port, last uint16
	}{
		{ruleset.Action{Kind: ruleset.SNAT, Map: "turns4", Pick: ruleset.Pick{Of: 3}}, "1.2.3.5", "1.2.3.5", 80, 80},
		{ruleset.Action{Kind: ruleset.DNAT, Map: "targets4", Pick: ruleset.Pick{Of: 2}}, "10.0.0.1", "10.0.0.1", 80, 80},
		{ruleset.Action{Kind: ruleset.SNAT, Map: "prefixes4", Fields: []ruleset.Field{ruleset.IPSaddr}, NAT: ruleset.NAT{Prefix: true}}, "1.2.3.7", "1.2.3.7", 80, 80},
		{ruleset.Action{Kind: ruleset.DNAT, NAT: ruleset.NAT{Prefix: true, Low: addr("192.0.2.0"), High: addr("192.0.2.255")}}, "192.0.2.7", "192.0.2.7", 80, 80},
		{ruleset.Action{Kind: ruleset.SNAT, NAT: ruleset.NAT{Low: addr("192.0.2.1"), High: addr("192.0.2.3"), PortMin: 5, PortMax: 9}}, "192.0.2.1", "192.0.2.3", 5, 9},
	} {
		out := translated(c.action, p)
		if out.kind != c.action.Kind || out.target != addr(c.low) || out.highest != addr(c.high) || out.port != c.port || out.maxPort != c.last {
			t.Errorf("translation %d: %+v", i, out)
		}
	}
	p.src = addr("10.0.0.2")
	blocks := ruleset.Action{Kind: ruleset.SNAT, Map: "blocks4", Fields: []ruleset.Field{ruleset.IPSaddr}}
	if out := translated(blocks, p); out.target != addr("1.2.3.4") || out.port != 2048 || out.maxPort != 3071 {
		t.Errorf("a block of ports: %+v", out)
	}
	if out := translated(ruleset.Action{Kind: ruleset.Redirect, NAT: ruleset.NAT{PortMin: 3128, PortMax: 3128}}, p); out.kind != ruleset.Redirect || out.port != 3128 {
		t.Errorf("a redirect: %+v", out)
	}
}
