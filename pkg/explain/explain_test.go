package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// desk is a host with addresses of its own by interface, and routes.
type desk struct {
	own    map[string][]string
	leaves map[string][]string // by address; "" is any other
}

func (d desk) holder(a netip.Addr) string {
	for name, list := range d.own {
		if slices.Contains(list, a.String()) {
			return name
		}
	}
	return ""
}

func (d desk) Kind(a netip.Addr) uint32 {
	if d.holder(a) != "" || a.IsLoopback() {
		return ruleset.RTNLocal
	}
	return rtnUnicast
}

func (d desk) LocalOn(a netip.Addr, iface string) bool { return d.holder(a) == iface }

func (d desk) Leaves(to netip.Addr) []string {
	if list, ok := d.leaves[to.String()]; ok {
		return list
	}
	return d.leaves[""]
}

func (d desk) Way(to netip.Addr) []string { return d.Leaves(to) }

func (d desk) Holds(iface string, a, _ netip.Addr) bool { return d.holder(a) == iface }

func (d desk) Address(iface string, other netip.Addr) netip.Addr {
	for _, text := range d.own[iface] {
		if a := netip.MustParseAddr(text); a.Is4() == other.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func router() desk {
	return desk{
		own:    map[string][]string{"eth0": {"10.0.1.1", "fd00::1"}, "eth1": {"203.0.113.1", "2001:db8::1"}},
		leaves: map[string][]string{"": {"eth1", "eth2"}, "10.0.1.7": {"eth0"}, "10.0.1.8": {"eth0"}, "9.9.9.9": nil},
	}
}

// TestMatches holds matches of each kind against a packet, in a ruleset that has
// everything.
func TestMatches(t *testing.T) {
	t.Parallel()
	w := New(backendtest.Everything(), router())
	addr := netip.MustParseAddr
	p := Packet{
		In: "eth0", Source: addr("10.0.1.7"), Destination: addr("10.0.2.7"), Protocol: 6, SourcePort: 1000, DestinationPort: 80,
		TCPFlags: ruleset.TCPSyn, Mark: 0x101, CtMark: 2, State: ruleset.CtNew,
	}
	w.frame.load(&p)
	w.frame.track(true)
	match := func(f ruleset.Field, op ruleset.Op, value, high []byte) bool {
		m := w.resolveMatch(&ruleset.Match{Fields: []ruleset.Field{f}, Op: op, Value: value, High: high})
		return w.holds(&m)
	}
	bits := func(f ruleset.Field, op ruleset.Op, value []byte, n int) bool {
		m := w.resolveMatch(&ruleset.Match{Fields: []ruleset.Field{f}, Op: op, Value: value, Bits: n})
		return w.holds(&m)
	}
	eth := make([]byte, 16)
	copy(eth, "eth")
	for i, ok := range []bool{
		match(ruleset.MetaMark, ruleset.Masked, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0xff}),
		!match(ruleset.MetaMark, ruleset.NotMasked, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0xff}),
		!match(ruleset.CtMark, ruleset.Equal, []byte{0, 0, 0, 1}, nil),
		match(ruleset.CtMark, ruleset.NotEqual, []byte{0, 0, 0, 1}, nil),
		match(ruleset.CtMark, ruleset.AnyOf, []byte{0, 0, 0, 3}, nil),
		!match(ruleset.CtMark, ruleset.AnyOf, []byte{0, 0, 0, 4}, nil),
		match(ruleset.TCPFlagsField, ruleset.Masked, []byte{ruleset.TCPSyn}, []byte{ruleset.TCPSyn | ruleset.TCPAck}),
		match(ruleset.FibSaddrIif, ruleset.Equal, []byte{0, 0, 0, 1}, nil),
		match(ruleset.FibSaddrType, ruleset.Equal, []byte{0, 0, 0, 1}, nil),
		match(ruleset.CtOrigIPDaddr, ruleset.Equal, []byte{10, 0, 2, 7}, nil),
		!match(ruleset.CtOrigIP6Saddr, ruleset.NotEqual, make([]byte, 16), nil),
		!match(ruleset.ICMPTypeField, ruleset.NotEqual, []byte{8}, nil),
		!match(ruleset.IP6HopLimit, ruleset.NotEqual, []byte{1}, nil),
		match(ruleset.DstPort, ruleset.Between, []byte{0, 80}, []byte{0, 81}),
		match(ruleset.DstPort, ruleset.Between, []byte{0, 79}, []byte{0, 80}),
		!match(ruleset.DstPort, ruleset.Between, []byte{0, 81}, []byte{1, 0}),
		bits(ruleset.IIfName, ruleset.Equal, eth, 24),
		!bits(ruleset.IIfName, ruleset.NotEqual, eth, 24),
		!bits(ruleset.IIfName, ruleset.Equal, eth, 32),
		bits(ruleset.IPSaddr, ruleset.Equal, []byte{10, 0, 1, 4}, 30),
		!bits(ruleset.IPSaddr, ruleset.Equal, []byte{10, 0, 1, 8}, 30),
	} {
		if !ok {
			t.Errorf("match %d is wrong", i)
		}
	}
	// Answers go to what the source became.
	w.become(false, addr("203.0.113.1"), 1000)
	if !match(ruleset.CtReplyIPDaddr, ruleset.Equal, []byte{203, 0, 113, 1}, nil) || !match(ruleset.CtOrigIPSaddr, ruleset.Equal, []byte{10, 0, 1, 7}, nil) {
		t.Error("conntrack does not know the way of answers")
	}
	// Before conntrack, and where it was told to pass the packet by. Nothing has
	// looked at what it knows before.
	w.frame.load(&p)
	w.frame.track(false)
	for _, f := range []ruleset.Field{ruleset.CtOrigIPSaddr, ruleset.CtOrigIPDaddr, ruleset.CtReplyIPDaddr} {
		if match(f, ruleset.NotEqual, []byte{1, 2, 3, 4}, nil) {
			t.Errorf("a packet that conntrack has not seen has field %d of its flow", f)
		}
	}
	if match(ruleset.CtMark, ruleset.Equal, []byte{0, 0, 0, 2}, nil) || !match(ruleset.CtStateField, ruleset.AnyOf, []byte{0, 0, 0, ruleset.CtInvalid}, nil) {
		t.Error("a packet that conntrack has not seen has a mark of its flow")
	}
	w.frame.noTrack = true
	w.frame.track(true)
	if match(ruleset.CtDirection, ruleset.Equal, []byte{0}, nil) || !match(ruleset.CtStateField, ruleset.AnyOf, []byte{0, 0, 0, ruleset.CtUntracked}, nil) {
		t.Error("a packet that conntrack passed by has a direction")
	}
}

// TestTranslations looks at what each kind of translation makes of a packet, and
// at what it would admit to have made.
func TestTranslations(t *testing.T) {
	t.Parallel()
	rules := backendtest.Everything()
	addr := netip.MustParseAddr
	field := []ruleset.Field{ruleset.IPSaddr}
	for i, c := range []struct {
		action ruleset.Action
		want   string
		admits []string
		denies []string
	}{
		{ruleset.Action{Kind: ruleset.SNAT, Map: "turns4", Pick: ruleset.Pick{Of: 3}}, "1.2.3.4:1000", []string{"1.2.3.4:1000", "1.2.3.5:1000", "1.2.3.5:7"}, []string{"1.2.3.7:1000"}},
		{ruleset.Action{Kind: ruleset.DNAT, Map: "targets4", Pick: ruleset.Pick{Of: 2}}, "10.0.0.1:80", []string{"10.0.0.1:80"}, []string{"10.0.0.2:80", "10.0.0.1:81"}},
		{ruleset.Action{Kind: ruleset.SNAT, Map: "prefixes4", Fields: field, NAT: ruleset.NAT{Prefix: true}}, "1.2.3.7:1000", []string{"1.2.3.7:9"}, []string{"1.2.3.8:1000"}},
		{ruleset.Action{Kind: ruleset.DNAT, NAT: ruleset.NAT{Prefix: true, Low: addr("192.0.2.0"), High: addr("192.0.2.255")}}, "192.0.2.7:80", []string{"192.0.2.7:80"}, []string{"192.0.2.8:80"}},
		{ruleset.Action{Kind: ruleset.SNAT, NAT: ruleset.NAT{Low: addr("192.0.2.1"), High: addr("192.0.2.3"), PortMin: 5, PortMax: 9}}, "192.0.2.1:5", []string{"192.0.2.3:9"}, []string{"192.0.2.3:10", "192.0.2.4:9"}},
		{ruleset.Action{Kind: ruleset.DNAT, NAT: ruleset.NAT{Low: addr("192.0.2.1"), High: addr("192.0.2.3"), PortMin: 75, PortMax: 90}}, "192.0.2.1:75", []string{"192.0.2.3:90"}, []string{"192.0.2.3:91"}},
		{ruleset.Action{Kind: ruleset.SNATToDest}, "10.0.2.7:1000", []string{"10.0.2.7:2000"}, []string{"10.0.2.8:1000"}},
		{ruleset.Action{Kind: ruleset.Masquerade}, "203.0.113.1:1000", []string{"203.0.113.1:9"}, []string{"10.0.1.1:1000"}},
		{ruleset.Action{Kind: ruleset.Masquerade, NAT: ruleset.NAT{PortMin: 32768, PortMax: 65535}}, "203.0.113.1:32768", []string{"203.0.113.1:40000"}, []string{"203.0.113.1:1000"}},
		{ruleset.Action{Kind: ruleset.Redirect, NAT: ruleset.NAT{PortMin: 3128, PortMax: 3128}}, "10.0.1.1:3128", []string{"10.0.1.1:3128"}, []string{"10.0.1.1:80", "203.0.113.1:3128"}},
		{ruleset.Action{Kind: ruleset.Redirect}, "10.0.1.1:80", []string{"10.0.1.1:80"}, []string{"10.0.1.1:81"}},
	} {
		one := *rules
		point := ruleset.Postrouting
		destination := c.action.Kind == ruleset.DNAT || c.action.Kind == ruleset.Redirect
		if destination {
			point = ruleset.Prerouting
		}
		one.Chains = []*ruleset.Chain{{
			Name: "nat", Hook: &ruleset.Hook{Type: ruleset.TypeNAT, Point: point, Priority: map[bool]int{true: -100, false: 100}[destination]},
			Rules: []*ruleset.Rule{{Action: c.action}},
		}}
		w := New(&one, router())
		walk := func(became string) Translation {
			p := Packet{
				In: "eth0", Source: addr("10.0.1.7"), Destination: addr("10.0.2.7"), Protocol: 6, SourcePort: 1000, DestinationPort: 80, State: ruleset.CtNew,
			}
			p.Became = Became{p.Source, p.Destination, p.SourcePort, p.DestinationPort}
			switch x, err := netip.ParseAddrPort(became); {
			case err != nil:
				p.Became = Became{}
			case destination:
				p.Became.Destination, p.Became.DestinationPort = x.Addr(), x.Port()
			default:
				p.Became.Source, p.Became.SourcePort = x.Addr(), x.Port()
			}
			if r := w.Walk(&p); destination {
				return r.DNAT
			} else {
				return r.SNAT
			}
		}
		if got := walk(""); got.Kind != c.action.Kind || netip.AddrPortFrom(got.Address, got.Port).String() != c.want || !got.Allowed {
			t.Errorf("translation %d: %+v, want %s", i, got, c.want)
		}
		for _, became := range c.admits {
			if got := walk(became); !got.Allowed || netip.AddrPortFrom(got.Address, got.Port).String() != became {
				t.Errorf("translation %d denies %s: %+v", i, became, got)
			}
		}
		for _, became := range c.denies {
			if got := walk(became); got.Allowed {
				t.Errorf("translation %d admits %s: %+v", i, became, got)
			}
		}
	}
}

// TestWay looks at the order of hooks and chains, at jumps, and at what a trace
// tells.
func TestWay(t *testing.T) {
	t.Parallel()
	origin := func(entry string) ruleset.Origin {
		return ruleset.Origin{Entry: entry, Place: ruleset.Place{File: "policy.yaml", Line: 7, Column: 3}}
	}
	rule := func(entry string, do ruleset.Action, statements ...ruleset.Statement) *ruleset.Rule {
		return &ruleset.Rule{Origin: origin(entry), Action: do, Do: statements}
	}
	base := func(name string, typ ruleset.ChainType, point ruleset.HookPoint, priority int, rules ...*ruleset.Rule) *ruleset.Chain {
		return &ruleset.Chain{Name: name, Hook: &ruleset.Hook{Type: typ, Point: point, Priority: priority}, Rules: rules}
	}
	accept := ruleset.Action{Kind: ruleset.Accept}
	rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{
		base("z_raw", ruleset.TypeFilter, ruleset.Prerouting, -300, rule("raw", ruleset.Action{Kind: ruleset.Jump, Chain: "sub"}), rule("behind", accept)),
		base("mangle", ruleset.TypeFilter, ruleset.Prerouting, -150, rule("mark", accept, ruleset.Statement{Kind: ruleset.SetMark, Value: 5, Mask: 0xff}, ruleset.Statement{Kind: ruleset.SetCtMark, Value: 0x10, Mask: 0xf0})),
		base("forward", ruleset.TypeFilter, ruleset.Forward, 0,
			rule("above", ruleset.Action{Kind: ruleset.Drop}, ruleset.Statement{Kind: ruleset.RateOver}),
			rule("count", ruleset.Action{Kind: ruleset.Drop}, ruleset.Statement{Kind: ruleset.CountOver}),
			rule("within", ruleset.Action{Kind: ruleset.Reject}, ruleset.Statement{Kind: ruleset.RateUnder}),
			rule("refuse", ruleset.Action{Kind: ruleset.Jump, Chain: "rated"}),
			rule("forward x", accept, ruleset.Statement{Kind: ruleset.RateUnder}),
			rule("last", ruleset.Action{Kind: ruleset.Drop})),
		base("early", ruleset.TypeFilter, ruleset.Forward, -150, rule("early", accept)),
		base("late", ruleset.TypeFilter, ruleset.Postrouting, 110, rule("late", accept)),
		base("nat", ruleset.TypeNAT, ruleset.Postrouting, 100, rule("masquerade m", ruleset.Action{Kind: ruleset.Masquerade})),
		{Name: "sub", Rules: []*ruleset.Rule{rule("to", ruleset.Action{Kind: ruleset.Goto, Chain: "subsub"}), rule("never", ruleset.Action{Kind: ruleset.Drop})}},
		{Name: "subsub", Rules: []*ruleset.Rule{rule("return", ruleset.Action{Kind: ruleset.Return}), rule("never", ruleset.Action{Kind: ruleset.Drop})}},
		{Name: "rated", Rules: []*ruleset.Rule{
			rule("over", ruleset.Action{Kind: ruleset.Return}, ruleset.Statement{Kind: ruleset.RateOver}), rule("never", ruleset.Action{Kind: ruleset.Reject}),
		}},
	}}
	w := New(rs, router())
	var seen []string
	w.Trace = func(s Step) {
		limited := ""
		if s.Limited {
			limited = "limited "
		}
		seen = append(seen, fmt.Sprintf("%s/%s/%s%s %s", s.Hook, s.Chain.Name, limited, s.Origin.Entry, s.Source))
		if s.Origin.Place.String() != "policy.yaml:7:3" {
			t.Errorf("a rule of %s", s.Origin.Place)
		}
	}
	p := Packet{In: "eth0", Source: netip.MustParseAddr("10.0.1.7"), Destination: netip.MustParseAddr("8.8.8.8"), Protocol: 6, SourcePort: 1000, DestinationPort: 80, State: ruleset.CtNew}
	r := *w.Walk(&p)
	want := strings.Fields("prerouting/z_raw/raw,10.0.1.7 prerouting/sub/to,10.0.1.7 prerouting/subsub/return,10.0.1.7 prerouting/z_raw/behind,10.0.1.7 " +
		"prerouting/mangle/mark,10.0.1.7 forward/early/early,10.0.1.7 forward/forward/limited_above,10.0.1.7 forward/forward/limited_count,10.0.1.7 forward/forward/limited_within,10.0.1.7 forward/forward/refuse,10.0.1.7 forward/rated/over,10.0.1.7 " +
		"forward/forward/forward_x,10.0.1.7 postrouting/nat/masquerade_m,10.0.1.7 postrouting/late/late,203.0.113.1")
	for i := range seen {
		seen[i] = strings.Replace(strings.Replace(seen[i], " 1", ",1", 1), " 2", ",2", 1)
		seen[i] = strings.ReplaceAll(seen[i], " ", "_")
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the way was\n%s, want\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	if r.Verdict != ruleset.Accept || r.By == nil || r.By.Entry != "forward x" || r.Out != "eth1" || r.Mark != 5 || r.CtMark != 0x10 || r.SNAT.Origin.Entry != "masquerade m" {
		t.Errorf("%+v by %v", r, r.By)
	}
	w.Trace = nil
	// Along another way, to nowhere, and to the host itself.
	p.Out = "eth2"
	if r := w.Walk(&p); r.Out != "eth2" || r.SNAT.Address.IsValid() {
		t.Errorf("out by eth2: %+v", r)
	}
	p.Out, p.Destination = "", netip.MustParseAddr("9.9.9.9")
	if r := w.Walk(&p); !r.Unrouted {
		t.Errorf("to nowhere: %+v", r)
	}
	p.Destination = netip.MustParseAddr("203.0.113.1")
	if r := w.Walk(&p); !r.Local || r.At != ruleset.Input {
		t.Errorf("to the host: %+v", r)
	}
	p.In, p.Source, p.Destination = "", netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("8.8.8.8")
	if r := w.Walk(&p); r.Local || r.At != ruleset.Postrouting || r.By != nil {
		t.Errorf("from the host: %+v", r)
	}
}

// TestForeign has another table translate what no rule here does.
func TestForeign(t *testing.T) {
	t.Parallel()
	translated := ruleset.Match{Fields: []ruleset.Field{ruleset.CtStatusField}, Op: ruleset.AnyOf, Value: []byte{0, 0, 0, ruleset.CtDNAT}}
	rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{{
		Name: "forward", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward},
		Rules: []*ruleset.Rule{{Matches: []ruleset.Match{translated}, Action: ruleset.Action{Kind: ruleset.Drop}}},
	}}}
	w := New(rs, router())
	addr := netip.MustParseAddr
	p := Packet{In: "eth1", Source: addr("8.8.8.8"), Destination: addr("203.0.113.1"), Protocol: 6, SourcePort: 1000, DestinationPort: 80, State: ruleset.CtNew}
	p.Became = Became{p.Source, addr("10.0.1.7"), 1000, 8080}
	if r := w.Walk(&p); !r.DNAT.Foreign || r.Verdict != ruleset.Drop || r.Local {
		t.Errorf("another's destination: %+v", r)
	}
	p.In, p.Source, p.Destination = "eth0", addr("10.0.1.7"), addr("8.8.8.8")
	p.Became = Became{addr("203.0.113.1"), p.Destination, 1000, 80}
	if r := w.Walk(&p); !r.SNAT.Foreign || r.Verdict != ruleset.Accept {
		t.Errorf("another's source: %+v", r)
	}
	// The kernel moves a port by itself where two flows would be one.
	p.Became = Became{p.Source, p.Destination, 1001, 80}
	if r := w.Walk(&p); r.SNAT.Foreign || r.Verdict != ruleset.Accept {
		t.Errorf("another port: %+v", r)
	}
}
