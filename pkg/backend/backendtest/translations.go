package backendtest

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// everyMark has the matches on marks, flags, what a flow first had and routes.
func (s *sample) everyMark() {
	c := s.chain("marks", nil)
	one := func(m ...ruleset.Match) { s.rule(c, "mark", drop(), m...) }
	masked := func(f ruleset.Field, op ruleset.Op, mask, value []byte) ruleset.Match {
		return ruleset.Match{Fields: fields(f), Op: op, Value: value, High: mask}
	}
	marks := s.set("marks", types(ruleset.Mark), nil)
	marks.Add(ip(1), nil, nil, ruleset.NoOrigin)
	marks.Add(ip(0x200), nil, nil, ruleset.NoOrigin)
	for _, f := range fields(ruleset.MetaMark, ruleset.CtMark) {
		one(equal(f, ip(1)...))
		one(prefix(f, ruleset.NotEqual, 0, ip(0x10203)...))
		one(masked(f, ruleset.Masked, ip(0xff), ip(1)))
		one(masked(f, ruleset.NotMasked, ip(0xff00), ip(0x100)))
		one(masked(f, ruleset.NotMasked, ip(0xff), ip(0)))
		one(ruleset.Match{Fields: fields(f), Op: ruleset.AnyOf, Value: ip(0xf0)})
		one(in("marks", f))
	}
	const syn, ack, fin, rst = ruleset.TCPSyn, ruleset.TCPAck, ruleset.TCPFin, ruleset.TCPRst
	flags := func(mask, value byte) ruleset.Match {
		return masked(ruleset.TCPFlagsField, ruleset.Masked, []byte{mask}, []byte{value})
	}
	one(tcp(), flags(syn|ack, syn))
	one(tcp(), flags(fin|syn|rst|ack, syn|ack))
	one(tcp(), flags(syn|ack, 0))
	one(tcp(), flags(syn, 0))
	one(tcp(), flags(syn, syn))
	one(tcp(), masked(ruleset.TCPFlagsField, ruleset.NotMasked, []byte{syn | ack}, []byte{syn}))
	one(tcp(), equal(ruleset.TCPFlagsField, syn))
	one(tcp(), equal(ruleset.TCPFlagsField, syn|ack))
	one(tcp(), prefix(ruleset.TCPFlagsField, ruleset.NotEqual, 0, syn))
	one(tcp(), ruleset.Match{Fields: fields(ruleset.TCPFlagsField), Op: ruleset.AnyOf, Value: []byte{syn | rst}})
	one(tcp(), ruleset.Match{Fields: fields(ruleset.TCPFlagsField), Op: ruleset.AnyOf, Value: []byte{syn}})

	one(ipv4(), equal(ruleset.CtOrigIPSaddr, 10, 0, 0, 1))
	one(ipv4(), prefix(ruleset.CtOrigIPDaddr, ruleset.NotEqual, 16, 10, 1, 0, 0))
	one(ipv4(), prefix(ruleset.CtOrigIPSaddr, ruleset.Equal, 13, 10, 8, 0, 0))
	one(ipv4(), ruleset.Match{Fields: fields(ruleset.CtOrigIPDaddr), Op: ruleset.Between, Value: ip(0x0a000005), High: ip(0x0a000009)})
	one(ipv4(), in("nets", ruleset.CtOrigIPDaddr))
	one(ipv4(), tcp(), in("open", ruleset.CtOrigIPDaddr, ruleset.DstPort, ruleset.CtOrigProtoDst))
	one(ipv6(), equal(ruleset.CtOrigIP6Daddr, addr6(1, 1)...))
	one(ipv6(), prefix(ruleset.CtOrigIP6Saddr, ruleset.Equal, 64, addr6(1, 0)...))
	one(ipv6(), prefix(ruleset.CtOrigIP6Daddr, ruleset.NotEqual, 61, addr6(1, 0)...))
	one(ipv6(), in("nets6", ruleset.CtOrigIP6Daddr))

	routes := s.chain("routes", hook(ruleset.Prerouting))
	s.rule(routes, "antispoof", drop(), equal(ruleset.FibSaddrIif, ip(0)...))
	s.rule(routes, "antispoof", ruleset.Action{Kind: ruleset.Return}, equal(ruleset.FibSaddrIif, ip(1)...))
	s.rule(routes, "antispoof", drop(), prefix(ruleset.FibSaddrIif, ruleset.NotEqual, 0, ip(0)...))
	s.rule(routes, "mark", drop(), equal(ruleset.FibDaddrOIfName, name("eth0")...))
	s.rule(routes, "mark", drop(), prefix(ruleset.FibDaddrOIfName, ruleset.Equal, 24, 'p', 'p', 'p'))
	s.rule(routes, "mark", drop(), prefix(ruleset.FibDaddrOIfName, ruleset.NotEqual, 0, name("eth0")...))
}

// everyTranslation has what sources and destinations can be translated to.
func (s *sample) everyTranslation() {
	s.pools()
	s.rule(s.chain("translated", nil), "snat pool", accept())
	s.translations(s.chain("sources", natHook(ruleset.Postrouting, 90)), ruleset.SNAT)
	pre := s.chain("destinations", natHook(ruleset.Prerouting, -90))
	s.translations(pre, ruleset.DNAT)
	for _, n := range choices() {
		s.rule(pre, "redirect", ruleset.Action{Kind: ruleset.Redirect, NAT: n})
		n.PortMin, n.PortMax = 3128, 3128
		s.rule(pre, "redirect", ruleset.Action{Kind: ruleset.Redirect, NAT: n}, tcp())
		n.PortMax = 3130
		s.rule(pre, "redirect", ruleset.Action{Kind: ruleset.Redirect, NAT: n}, tcp())
	}
	syn := s.chain("handshakes", hook(ruleset.Forward))
	for _, y := range []ruleset.Syn{
		{MSS: 1460, WindowScale: 7, SACK: true, Timestamp: true}, {MSS: 1440, Timestamp: true}, {MSS: 536, SACK: true}, {},
	} {
		s.rule(syn, "forward web", ruleset.Action{Kind: ruleset.Synproxy, Syn: y}, tcp())
	}
}

// choices are the ways to choose a port or an address.
func choices() []ruleset.NAT {
	var out []ruleset.NAT
	for i := range 8 {
		out = append(out, ruleset.NAT{Random: i&1 != 0, FullyRandom: i&2 != 0, Persistent: i&4 != 0})
	}
	return out
}

func (s *sample) translations(c *ruleset.Chain, kind ruleset.ActionKind) {
	one := func(f ruleset.Family, a ruleset.Action, m ...ruleset.Match) {
		a.Kind, a.Family = kind, f
		// nft(8) lists no match that the key of a map implies, and puts it last
		// when it loads the list.
		m = append(m, equal(ruleset.NFProtoField, byte(f)))
		if slices.Contains(a.Fields, ruleset.DstPort) {
			slices.Reverse(m)
		}
		s.rule(c, "snat pool", a, m...)
	}
	addr := netip.MustParseAddr
	in4, in6 := fields(ruleset.IPSaddr), fields(ruleset.IP6Saddr)
	for _, n := range choices() {
		n.Low, n.High = addr("203.0.113.5"), addr("203.0.113.9")
		one(ruleset.IPv4, ruleset.Action{NAT: n})
		n.PortMin, n.PortMax = 1024, 2047
		one(ruleset.IPv4, ruleset.Action{NAT: n}, tcp())
		n.Low, n.High = addr("2001:db8::5"), addr("2001:db8::5")
		one(ruleset.IPv6, ruleset.Action{NAT: n}, tcp())
		n.PortMin, n.PortMax, n.High = 0, 0, addr("2001:db8::9")
		one(ruleset.IPv6, ruleset.Action{NAT: n})
		n.Low, n.High = netip.Addr{}, netip.Addr{}
		one(ruleset.IPv4, ruleset.Action{NAT: n, Map: "blocks4", Fields: in4}, tcp())
		one(ruleset.IPv4, ruleset.Action{NAT: n, Map: "turns4", Pick: ruleset.Pick{Of: 3}})
		n.PortMin, n.PortMax = 1024, 2047
		one(ruleset.IPv4, ruleset.Action{NAT: n, Map: "turns4", Pick: ruleset.Pick{Of: 3}}, tcp())
		one(ruleset.IPv6, ruleset.Action{NAT: n, Map: "turns6", Pick: ruleset.Pick{Of: 3, Fields: in6}}, tcp())
		n.PortMax = 1024
		one(ruleset.IPv6, ruleset.Action{NAT: n, Map: "singles6", Fields: in6}, tcp())
	}
	one(ruleset.IPv4, ruleset.Action{NAT: ruleset.NAT{Low: addr("203.0.113.5"), High: addr("203.0.113.5")}})
	one(ruleset.IPv4, ruleset.Action{NAT: ruleset.NAT{Low: addr("203.0.113.5"), High: addr("203.0.113.5"), PortMin: 80, PortMax: 80}}, tcp())
	one(ruleset.IPv4, ruleset.Action{NAT: ruleset.NAT{Low: addr("203.0.113.0"), High: addr("203.0.113.255")}})
	one(ruleset.IPv6, ruleset.Action{NAT: ruleset.NAT{Low: addr("2001:db8::5"), High: addr("2001:db8::9"), PortMin: 80, PortMax: 89}}, tcp())
	one(ruleset.IPv4, ruleset.Action{NAT: ruleset.NAT{Low: addr("203.0.113.0"), High: addr("203.0.113.255"), Prefix: true}})
	one(ruleset.IPv6, ruleset.Action{NAT: ruleset.NAT{Low: addr("2001:db8::"), High: addr("2001:db8::ffff:ffff:ffff:ffff"), Prefix: true}})
	one(ruleset.IPv4, ruleset.Action{NAT: ruleset.NAT{Prefix: true}, Map: "prefixes4", Fields: in4})
	one(ruleset.IPv6, ruleset.Action{NAT: ruleset.NAT{Prefix: true}, Map: "prefixes6", Fields: in6})
	one(ruleset.IPv4, ruleset.Action{Map: "ones4", Fields: fields(ruleset.IPSaddr)})
	one(ruleset.IPv4, ruleset.Action{Map: "tcp4", Fields: fields(ruleset.DstPort)}, tcp())
	one(ruleset.IPv6, ruleset.Action{Map: "ones6", Fields: fields(ruleset.IP6Saddr)})
	one(ruleset.IPv4, ruleset.Action{Map: "spans4", Fields: fields(ruleset.IPSaddr, ruleset.DstPort)}, tcp())
	one(ruleset.IPv6, ruleset.Action{Map: "turns6", Pick: ruleset.Pick{Of: 2}})
	one(ruleset.IPv4, ruleset.Action{Map: "targets4", Pick: ruleset.Pick{Of: 2}}, tcp())
	one(ruleset.IPv6, ruleset.Action{Map: "targets6", Pick: ruleset.Pick{Of: 2}}, tcp())
	one(ruleset.IPv4, ruleset.Action{Map: "turns4", Pick: ruleset.Pick{Of: 3, Fields: in4}})
	one(ruleset.IPv4, ruleset.Action{Map: "targets4", Pick: ruleset.Pick{Of: 2, Fields: fields(ruleset.IPSaddr, ruleset.IPDaddr)}}, tcp())
	one(ruleset.IPv6, ruleset.Action{Map: "turns6", Pick: ruleset.Pick{Of: 2, Fields: in6}})
	one(ruleset.IPv6, ruleset.Action{Map: "targets6", Pick: ruleset.Pick{Of: 2, Fields: fields(ruleset.IP6Saddr, ruleset.IP6Daddr)}}, tcp())
	one(ruleset.IPv4, ruleset.Action{Map: "turns4", Pick: ruleset.Pick{Of: 3, Fields: fields(ruleset.CtOrigIPSaddr)}})
	s.rule(c, "snat pool", ruleset.Action{Kind: ruleset.VerdictMap, Map: "ways", Pick: ruleset.Pick{Of: 2}})
	s.rule(c, "snat pool", ruleset.Action{Kind: ruleset.VerdictMap, Map: "ways", Pick: ruleset.Pick{Of: 2, Fields: in4}}, ipv4())
}

// pools has maps to ranges, and maps for what is picked.
func (s *sample) pools() {
	pool := s.entry("snat pool")
	ranges := func(name string, key, data []ruleset.Type) *ruleset.Set {
		set := ruleset.NewRangeMap(name, key, data)
		s.Sets = append(s.Sets, set)
		return set
	}
	v4, v6, number := types(ruleset.IPv4Addr), types(ruleset.IPv6Addr), types(ruleset.Number)
	address4, address6 := types(ruleset.IPv4Addr, ruleset.InetService), types(ruleset.IPv6Addr, ruleset.InetService)

	blocks4 := ranges("blocks4", v4, address4)
	blocks4.Origin = s.origin("snat pool")
	blocks4.Add(ip(0x0a000001), nil, join(ip(0x01020304), port(1024), ip(0x01020304), port(2047)), pool)
	blocks4.Add(ip(0x0a000002), nil, join(ip(0x01020304), port(2048), ip(0x01020304), port(3071)), ruleset.NoOrigin)
	prefixes4 := ranges("prefixes4", v4, v4)
	prefixes4.Interval = true
	prefixes4.Add(ip(0x0a000100), ip(0x0a0001ff), join(ip(0x01020300), ip(0x010203ff)), pool)
	prefixes4.Add(ip(0x0a000200), ip(0x0a0002ff), join(ip(0x01020400), ip(0x010204ff)), ruleset.NoOrigin)
	prefixes6 := ranges("prefixes6", v6, v6)
	prefixes6.Interval, prefixes6.Counted = true, true
	prefixes6.Add(addr6(0, 0), addr6(0, 0xff), join(addr6(1, 0), addr6(1, 0xff)), pool)
	ones4 := ranges("ones4", v4, v4)
	ones4.Add(ip(0x0a000001), nil, join(ip(0x01020304), ip(0x01020306)), pool)
	ones6 := ranges("ones6", v6, v6)
	ones6.Add(addr6(0, 1), nil, join(addr6(1, 1), addr6(1, 3)), pool)
	spans4 := ranges("spans4", address4, address4)
	spans4.Interval = true
	spans4.Add(join(ip(0x0a000000), port(80)), join(ip(0x0a0000ff), port(89)), join(ip(0x01020304), port(80), ip(0x01020306), port(89)), pool)

	singles6 := s.set("singles6", v6, v6)
	singles6.Interval = true
	singles6.Add(addr6(0, 1), addr6(0, 9), addr6(1, 1), pool)

	turns4 := s.set("turns4", number, v4)
	turns4.Origin = s.origin("snat pool")
	turns6 := s.set("turns6", number, v6)
	targets4 := s.set("targets4", number, address4)
	targets4.Counted = true
	targets6 := s.set("targets6", number, address6)
	ways := s.set("ways", number, types(ruleset.Verdict))
	for i := range 3 {
		turns4.Add(ip(i), nil, ip(0x01020304+i), pool)
		turns6.Add(ip(i), nil, addr6(1, byte(i)), pool)
		targets4.Add(ip(i), nil, join(ip(0x0a000001+i), port(80+i)), pool)
		targets6.Add(ip(i), nil, join(addr6(1, byte(i)), port(80+i)), ruleset.NoOrigin)
		ways.AddVerdict(ip(i), nil, goTo("translated"), pool)
	}
}
