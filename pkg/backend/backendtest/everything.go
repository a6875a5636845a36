package backendtest

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Everything is a ruleset with every kind of match, statement, action, set,
// object and hook, but flowtables.
func Everything() *ruleset.Ruleset {
	s := newSample()
	s.counter("masquerade_lan")
	s.counter("forward_guests")
	s.everySet()
	s.everyMap()
	s.everyMatch()
	s.everyAction()
	s.everyObject()
	s.everyStatement()
	s.everyAddress()
	s.everyMark()
	s.everyTranslation()
	slices.SortFunc(s.Sets, func(a, b *ruleset.Set) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Chains, func(a, b *ruleset.Chain) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Counters, func(a, b *ruleset.Counter) int { return strings.Compare(a.Name, b.Name) })
	for _, set := range s.Sets {
		set.Sort()
	}
	return s.Ruleset
}

func (s *sample) everySet() {
	lan := s.entry("set lan")
	open := s.set("open", types(ruleset.IPv4Addr, ruleset.InetService, ruleset.InetService), nil)
	open.Add(join(ip(0x0a000001), port(8080), port(80)), nil, nil, ruleset.NoOrigin)
	open.Add(join(ip(0x0a000002), port(25), port(25)), nil, nil, lan)
	links := s.interval("links", types(ruleset.IfName), nil)
	links.Add(name("eth"), nameEnd("eth"), nil, ruleset.NoOrigin)
	links.Add(name("ppp0"), name("ppp0"), nil, lan)
	icmp := s.set("pings", types(ruleset.ICMPType), nil)
	icmp.Add([]byte{8}, nil, nil, ruleset.NoOrigin)
	icmp6 := s.set("pings6", types(ruleset.ICMPv6Type), nil)
	icmp6.Add([]byte{128}, nil, nil, ruleset.NoOrigin)
	nets := s.interval("nets", types(ruleset.IPv4Addr), nil)
	nets.Origin = s.origin("set nets")
	nets.Counted = true
	nets.Add(ip(0x0a000000), ip(0x0affffff), nil, lan)
	nets.Add(ip(0x0b000001), ip(0x0b000009), nil, ruleset.NoOrigin)
	nets.Add(ip(uint32(0xfffffff0)), ip(uint32(0xffffffff)), nil, ruleset.NoOrigin)
	nets6 := s.interval("nets6", types(ruleset.IPv6Addr), nil)
	nets6.Add(addr6(0, 0), addr6(0, 0xff), nil, ruleset.NoOrigin)
	protocols := s.set("protocols", types(ruleset.InetProto), nil)
	for _, n := range []byte{6, 17, 132} {
		protocols.Add([]byte{n}, nil, nil, ruleset.NoOrigin)
	}
	// Without a protocol in it: nft(8) 1.0.6 loads one otherwise where there are
	// ranges, by way of a byteorder expression that does nothing.
	clients := s.interval("clients", types(ruleset.IPv4Addr, ruleset.InetService), nil)
	clients.Add(join(ip(0x0a000000), port(80)), join(ip(0x0a0000ff), port(89)), nil, lan)
	flows := s.set("flows", types(ruleset.IPv4Addr, ruleset.InetProto, ruleset.InetService), nil)
	flows.Add(join(ip(0x0a000001), []byte{6}, port(80)), nil, nil, lan)
	s.set("empty", types(ruleset.InetService), nil)
}

func (s *sample) everyMap() {
	web, mail := s.entry("port_forward web"), s.entry("port_forward mail")
	tcp4 := s.set("tcp4", types(ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	tcp4.Counted = true
	tcp4.Add(port(80), nil, join(ip(0x0a000001), port(8080)), web)
	tcp4.Add(port(25), nil, join(ip(0x0a000002), port(25)), mail)
	keep4 := s.interval("keep4", types(ruleset.InetService), types(ruleset.IPv4Addr))
	keep4.Add(port(90), port(99), ip(0x0a000001), web)
	keep4.Add(port(100), port(109), ip(0x0a000002), mail)
	keep4.Add(port(0xff00), port(0xffff), ip(0x0a000002), mail)
	tcp6 := s.interval("tcp6", types(ruleset.IPv6Addr, ruleset.InetService), types(ruleset.IPv6Addr, ruleset.InetService))
	tcp6.Add(join(addr6(0, 0), port(80)), join(addr6(0, 0xff), port(90)), join(addr6(1, 1), port(80)), web)
	keep6 := s.set("keep6", types(ruleset.IPv6Addr, ruleset.InetService), types(ruleset.IPv6Addr))
	keep6.Add(join(addr6(0, 1), port(80)), nil, addr6(1, 2), web)
	zones := s.set("zones", types(ruleset.IfName), types(ruleset.Verdict))
	zones.Origin = s.origin("zones")
	zones.AddVerdict(name("eth0"), nil, drop(), ruleset.NoOrigin)
	zones.AddVerdict(name("eth1"), nil, goTo("from_lan"), mail)
	zones.AddVerdict(name("eth2"), nil, accept(), ruleset.NoOrigin)
	sources := s.interval("sources", types(ruleset.IPv4Addr), types(ruleset.Verdict))
	sources.AddVerdict(ip(0x0a000000), ip(0x0affffff), jump("from_lan"), ruleset.NoOrigin)
	pairs := s.set("pairs", types(ruleset.IfName, ruleset.IfName), types(ruleset.Verdict))
	pairs.AddVerdict(join(name("eth0"), name("eth1")), nil, jump("from_lan"), web)
}

func (s *sample) everyMatch() {
	c := s.chain("matches", nil)
	one := func(m ...ruleset.Match) { s.rule(c, "match", drop(), m...) }
	one(equal(ruleset.IIfName, name("eth0")...))
	one(equal(ruleset.IIf, 0, 0, 0, 0))
	one(prefix(ruleset.OIfName, ruleset.Equal, 24, 'b', 'r', '-'))
	one(prefix(ruleset.IIfName, ruleset.NotEqual, 24, 'b', 'r', '-'))
	one(ipv6())
	one(equal(ruleset.L4Proto, 47))
	one(ipv4(), equal(ruleset.IPSaddr, 10, 0, 0, 1))
	one(ipv4(), prefix(ruleset.IPDaddr, ruleset.NotEqual, 16, 10, 1, 0, 0))
	one(ipv4(), prefix(ruleset.IPSaddr, ruleset.Equal, 13, 10, 8, 0, 0))
	one(ipv4(), ruleset.Match{Fields: fields(ruleset.IPDaddr), Op: ruleset.Between, Value: ip(0x0a000005), High: ip(0x0a000009)})
	one(ipv6(), equal(ruleset.IP6Saddr, addr6(1, 1)...))
	one(ipv6(), prefix(ruleset.IP6Daddr, ruleset.Equal, 64, addr6(1, 0)...))
	one(ipv6(), prefix(ruleset.IP6Saddr, ruleset.NotEqual, 61, addr6(1, 0)...))
	one(tcp(), ruleset.Match{Fields: fields(ruleset.SrcPort), Op: ruleset.Between, Value: port(1), High: port(256)})
	one(equal(ruleset.L4Proto, 17), equal(ruleset.DstPort, 0, 53))
	one(equal(ruleset.L4Proto, 17), prefix(ruleset.DstPort, ruleset.NotEqual, 0, 0, 53))
	one(ipv4(), equal(ruleset.L4Proto, 1), equal(ruleset.ICMPTypeField, 8))
	one(ipv6(), equal(ruleset.L4Proto, 58), equal(ruleset.ICMPv6TypeField, 128))
	one(anyOf(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
	one(ipv6(), equal(ruleset.IP6HopLimit, 255), equal(ruleset.L4Proto, 58), equal(ruleset.ICMPv6TypeField, 135))
	one(anyOf(ruleset.CtStateField, ruleset.CtInvalid))
	one(anyOf(ruleset.CtStatusField, ruleset.CtDNAT))
	one(anyOf(ruleset.CtStatusField, ruleset.CtConfirmed))
	one(equal(ruleset.CtDirection, ruleset.CtReply))
	one(tcp(), equal(ruleset.CtOrigProtoDst, 0, 80))
	one(equal(ruleset.FibDaddrType, 0, 0, 0, ruleset.RTNLocal))
	one(equal(ruleset.FibSaddrType, 0, 0, 0, ruleset.RTNLocal))
	one(prefix(ruleset.FibDaddrIifType, ruleset.NotEqual, 0, 0, 0, 0, ruleset.RTNLocal))
	one(ipv4(), tcp(), in("open", ruleset.IPDaddr, ruleset.DstPort, ruleset.CtOrigProtoDst))
	one(ruleset.Match{Fields: fields(ruleset.IIfName), Op: ruleset.NotIn, Set: "links"})
	one(ipv4(), equal(ruleset.L4Proto, 1), in("pings", ruleset.ICMPTypeField))
	one(ipv6(), equal(ruleset.L4Proto, 58), in("pings6", ruleset.ICMPv6TypeField))
	one(ipv4(), in("nets", ruleset.IPSaddr))
	one(ipv6(), in("nets6", ruleset.IP6Daddr))
	one(in("protocols", ruleset.L4Proto), in("empty", ruleset.SrcPort))
	one(ipv4(), tcp(), in("clients", ruleset.IPSaddr, ruleset.DstPort))
	one(ipv4(), in("flows", ruleset.IPSaddr, ruleset.L4Proto, ruleset.DstPort))
}

func (s *sample) everyAction() {
	lan := s.chain("from_lan", nil)
	s.rule(lan, "forward lan", ruleset.Action{}).Counter = "forward_guests"
	s.rule(lan, "forward lan", ruleset.Action{Kind: ruleset.Return}, ipv4())
	s.rule(lan, "forward lan", accept())
	forward := s.chain("forward", hook(ruleset.Forward))
	s.rule(forward, "zones", vmap("zones", ruleset.IIfName))
	s.rule(forward, "zones", vmap("pairs", ruleset.IIfName, ruleset.OIfName)).Counter = "forward_guests"
	s.rule(forward, "zones", vmap("sources", ruleset.IPSaddr), ipv4())
	s.rule(forward, "forward guests", jump("matches"))
	s.rule(forward, "forward guests", reject("tcp reset"), tcp())
	s.rule(forward, "forward guests", reject("admin-prohibited"), ipv4())
	s.rule(forward, "forward guests", reject("port-unreachable"))
	input := s.chain("from_outside", hook(ruleset.Input))
	s.rule(input, "", goTo("matches"))
	output := s.chain("to_outside", hook(ruleset.Output))
	s.rule(output, "output", accept())
	pre := s.chain("before_routing", natHook(ruleset.Prerouting, -100))
	s.rule(pre, "masquerade lan", drop(), equal(ruleset.FibSaddrOIfName, name("eth0")...), prefix(ruleset.FibDaddrOIfName, ruleset.NotEqual, 24, 'b', 'r', '-'))
	s.rule(pre, "port_forward", dnat(ruleset.IPv4, "tcp4", ruleset.DstPort), ipv4(), tcp())
	s.rule(pre, "port_forward", dnat(ruleset.IPv4, "keep4", ruleset.DstPort), ipv4(), tcp())
	s.rule(pre, "port_forward", dnat(ruleset.IPv6, "tcp6", ruleset.IP6Daddr, ruleset.DstPort), ipv6(), tcp())
	s.rule(pre, "port_forward", dnat(ruleset.IPv6, "keep6", ruleset.IP6Daddr, ruleset.DstPort), ipv6(), tcp())
	post := s.chain("after_routing", natHook(ruleset.Postrouting, 100))
	s.rule(post, "hairpin", ruleset.Action{Kind: ruleset.SNATToDest, Family: ruleset.IPv4}, ipv4())
	s.rule(post, "hairpin", ruleset.Action{Kind: ruleset.SNATToDest, Family: ruleset.IPv6}, ipv6())
	masquerade := func(n ruleset.NAT, m ...ruleset.Match) {
		s.rule(post, "masquerade lan", ruleset.Action{Kind: ruleset.Masquerade, NAT: n}, m...).Counter = "masquerade_lan"
	}
	masquerade(ruleset.NAT{PortMin: 1000, PortMax: 2000, FullyRandom: true}, tcp())
	masquerade(ruleset.NAT{PortMin: 1000, PortMax: 2000}, tcp())
	masquerade(ruleset.NAT{PortMin: 1000, PortMax: 2000, Random: true}, tcp())
	masquerade(ruleset.NAT{Random: true})
	masquerade(ruleset.NAT{FullyRandom: true})
	masquerade(ruleset.NAT{Random: true, FullyRandom: true})
	masquerade(ruleset.NAT{})
	guard := s.chain("leak_guard", &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Postrouting, Priority: 110})
	s.rule(guard, "masquerade lan", drop(), anyOf(ruleset.CtStateField, ruleset.CtInvalid))
	s.rule(guard, "masquerade lan", drop(), prefix(ruleset.FibSaddrOifType, ruleset.NotEqual, 0, 0, 0, 0, ruleset.RTNLocal))
}

func (s *sample) everyAddress() {
	c := s.chain("addresses", hook(ruleset.Forward))
	set := func(family ruleset.Match, f ...ruleset.Field) {
		s.rule(c, "port_forward web", ruleset.Action{}, family).Do = []ruleset.Statement{{Kind: ruleset.SetAddress, Fields: f}}
	}
	set(ipv4(), ruleset.IPSaddr)
	set(ipv4(), ruleset.IPSaddr, ruleset.CtOrigIPSaddr)
	set(ipv4(), ruleset.IPSaddr, ruleset.CtOrigIPDaddr)
	set(ipv4(), ruleset.IPDaddr, ruleset.CtReplyIPDaddr)
	set(ipv6(), ruleset.IP6Saddr)
	set(ipv6(), ruleset.IP6Saddr, ruleset.CtOrigIP6Daddr)
	set(ipv6(), ruleset.IP6Daddr, ruleset.CtOrigIP6Saddr)
	set(ipv6(), ruleset.IP6Daddr, ruleset.CtReplyIP6Daddr)
}
