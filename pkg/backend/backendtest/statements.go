package backendtest

import (
	"context"
	"errors"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func (s *sample) helper(name, helper string, protocol uint8, family ruleset.Family) {
	s.Helpers = append(s.Helpers, &ruleset.Helper{
		Name: name, Helper: helper, Protocol: protocol, Family: family, Origin: s.origin("helper " + name),
	})
}

func (s *sample) timeout(name string, protocol uint8, family ruleset.Family, policy ...ruleset.TimeoutState) {
	s.Timeouts = append(s.Timeouts, &ruleset.Timeout{
		Name: name, Protocol: protocol, Family: family, Policy: policy, Origin: s.origin("timeout " + name),
	})
}

func (s *sample) flowtable(name string, devices ...string) *ruleset.Flowtable {
	f := &ruleset.Flowtable{Name: name, Priority: 5, Devices: devices, Origin: s.origin("flowtable " + name)}
	s.Flowtables = append(s.Flowtables, f)
	return f
}

// dynamic adds a set that rules fill.
func (s *sample) dynamic(name string, size uint32, key ...ruleset.Type) *ruleset.Set {
	set := s.set(name, key, nil)
	set.Dynamic, set.Size = true, size
	return set
}

// do adds a rule with statements.
func (s *sample) do(c *ruleset.Chain, entry string, a ruleset.Action, m []ruleset.Match, do ...ruleset.Statement) *ruleset.Rule {
	r := s.rule(c, entry, a, m...)
	r.Do = do
	return r
}

func countOver(n uint32, set string, key ...ruleset.Field) ruleset.Statement {
	return ruleset.Statement{Kind: ruleset.CountOver, Count: n, Set: set, Fields: key}
}

func setHelper(name string) ruleset.Statement {
	return ruleset.Statement{Kind: ruleset.SetHelper, Object: name}
}

func setTimeout(name string) ruleset.Statement {
	return ruleset.Statement{Kind: ruleset.SetTimeout, Object: name}
}

// everyObject adds every kind of object but the flowtable, which not every
// kernel has, and sets that rules fill.
func (s *sample) everyObject() {
	s.helper("ftp", "ftp", 6, ruleset.Inet)
	s.helper("sip4", "sip", 17, ruleset.IPv4)
	s.helper("irc", "irc", 6, ruleset.Inet) // of which there is one for IPv4 alone
	s.timeout("web", 6, ruleset.Inet, ruleset.TimeoutState{State: "established", Seconds: 600}, ruleset.TimeoutState{State: "syn_sent", Seconds: 20})
	s.timeout("dns", 17, ruleset.IPv4, ruleset.TimeoutState{State: "replied", Seconds: 20}, ruleset.TimeoutState{State: "unreplied", Seconds: 10})
	clients := s.dynamic("clients_at_once", 65535, ruleset.IPv4Addr)
	clients.Origin = s.origin("masquerade lan")
	s.dynamic("clients_rate", 1000, ruleset.IPv6Addr).Timeout = 2
	s.dynamic("clients_too_fast", 1000, ruleset.IPv4Addr, ruleset.InetService).Timeout = 86400 + 2*3600 + 3*60 + 4
	s.dynamic("all_at_once", 1, ruleset.CtDir)
}

// everyStatement has every kind of statement in chains of the hooks that take
// it.
func (s *sample) everyStatement() {
	raw := s.chain("raw", &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Prerouting, Priority: -300})
	s.do(raw, "statement", ruleset.Action{}, []ruleset.Match{ipv4(), tcp()}, ruleset.Statement{Kind: ruleset.NoTrack})
	mangle := s.chain("mangle", &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward, Priority: -150})
	one := func(do ...ruleset.Statement) {
		s.do(mangle, "statement", ruleset.Action{}, []ruleset.Match{ipv4(), tcp()}, do...)
	}
	for _, kind := range []ruleset.StatementKind{ruleset.SetMark, ruleset.SetCtMark} {
		one(ruleset.Statement{Kind: kind, Value: 7, Mask: 0xffffffff})
		one(ruleset.Statement{Kind: kind, Value: 0x12340000, Mask: 0xffff0000})
		one(ruleset.Statement{Kind: kind, Value: 0x10, Mask: 0x10})
		one(ruleset.Statement{Kind: kind, Mask: 0xff})
	}
	one(ruleset.Statement{Kind: ruleset.SetMaxSeg, Value: 1400})
	one(ruleset.Statement{Kind: ruleset.SetMaxSeg})
	for level := range uint32(8) {
		one(ruleset.Statement{Kind: ruleset.Log, Log: ruleset.LogTo{Level: level}})
	}
	one(ruleset.Statement{Kind: ruleset.Log, Log: ruleset.LogTo{Prefix: "ipmasq: lan ", Level: 6}})
	one(ruleset.Statement{Kind: ruleset.Log, Log: ruleset.LogTo{Prefix: "lan", HasGroup: true}})
	one(ruleset.Statement{Kind: ruleset.Log, Log: ruleset.LogTo{Group: 65535, HasGroup: true}})
	for _, seconds := range []uint64{1, 60, 3600, 86400, 604800} {
		one(ruleset.Statement{Kind: ruleset.RateUnder, Rate: ruleset.Rate{Packets: 10, Seconds: seconds, Burst: 5}})
		one(ruleset.Statement{Kind: ruleset.RateOver, Rate: ruleset.Rate{Packets: 1, Seconds: seconds, Burst: 1}})
	}
	post := s.chain("attributes", natHook(ruleset.Postrouting, 90))
	s.do(post, "statement", drop(), []ruleset.Match{ipv4()}, countOver(20, "clients_at_once", ruleset.IPSaddr)).Counter = "masquerade_lan"
	s.do(post, "statement", drop(), nil, countOver(1000, "all_at_once", ruleset.CtDirection))
	s.do(post, "statement", ruleset.Action{Kind: ruleset.Return}, []ruleset.Match{ipv6()}, ruleset.Statement{
		Kind: ruleset.RateUnder, Rate: ruleset.Rate{Packets: 10, Seconds: 1, Burst: 20}, Set: "clients_rate", Fields: fields(ruleset.IP6Saddr),
	}, ruleset.Statement{Kind: ruleset.Log, Log: ruleset.LogTo{Prefix: "new: ", Level: 5}})
	s.do(post, "statement", drop(), []ruleset.Match{ipv4(), tcp()}, ruleset.Statement{
		Kind: ruleset.RateOver, Rate: ruleset.Rate{Packets: 10, Seconds: 60, Burst: 20}, Set: "clients_too_fast",
		Fields: fields(ruleset.IPSaddr, ruleset.DstPort),
	})
	s.do(post, "statement", ruleset.Action{Kind: ruleset.Masquerade}, []ruleset.Match{tcp()}, setTimeout("web"), setHelper("ftp"))
	s.do(post, "statement", accept(), []ruleset.Match{ipv4(), equal(ruleset.L4Proto, 17)}, setTimeout("dns"), setHelper("sip4"))
	s.do(post, "statement", ruleset.Action{}, []ruleset.Match{ipv4(), tcp()}, setHelper("irc"))
	route := s.chain("route", &ruleset.Hook{Type: ruleset.TypeRoute, Point: ruleset.Output, Priority: -150})
	s.do(route, "statement", ruleset.Action{}, nil, ruleset.Statement{Kind: ruleset.SetMark, Value: 1, Mask: 0xffffffff})
}

// attributed is a gateway whose chain "output" uses objects.
func attributed() *sample {
	s := gateway()
	s.helper("ftp", "ftp", 6, ruleset.Inet)
	s.timeout("web", 6, ruleset.Inet, ruleset.TimeoutState{State: "established", Seconds: 600})
	s.dynamic("at_once", 100, ruleset.CtDir)
	s.dynamic("wide", 100, ruleset.IPv6Addr)
	c := s.findChain("forward")
	s.do(c, "attributes", ruleset.Action{}, []ruleset.Match{tcp()}, setTimeout("web"), setHelper("ftp"))
	s.do(c, "attributes", drop(), nil, countOver(10, "at_once", ruleset.CtDirection))
	return s
}

// objects come, change, and go, with and without the rules that use them.
func objects(s *suite) {
	s.apply(gateway().Ruleset)
	c := s.apply(attributed().Ruleset)
	if len(c.Objects) != 2 || c.Objects[0].Kind != plan.Add || c.Objects[1].Kind != plan.Add {
		s.Errorf("%+v, want two new objects", c.Objects)
	}
	for _, change := range []func(rs *sample){
		func(rs *sample) { rs.Timeouts[0].Policy[0].Seconds = 601 },
		func(rs *sample) { rs.Timeouts[0].Policy[0].State = "close_wait" },
		func(rs *sample) {
			rs.Timeouts[0].Policy = append(rs.Timeouts[0].Policy, ruleset.TimeoutState{State: "last_ack", Seconds: 30})
		},
		func(rs *sample) { rs.Timeouts[0].Policy = nil },
		func(rs *sample) { rs.Timeouts[0].Family = ruleset.IPv4 },
		func(rs *sample) { rs.Helpers[0].Helper, rs.Helpers[0].Protocol = "tftp", 17 },
		func(rs *sample) { rs.Helpers[0].Family = ruleset.IPv6 },
	} {
		rs := attributed()
		change(rs)
		before := s.have()
		c := s.apply(rs.Ruleset)
		if len(c.Objects) != 1 || c.Objects[0].Kind != plan.Replace || len(c.Chains)+len(c.Sets) != 0 {
			s.Errorf("%+v, want one object to be replaced", c.Objects)
		}
		if before.Digest() == s.have().Digest() {
			s.Error("another object gives the same digest")
		}
		s.commit(plan.Diff(s.have(), before))
		s.holds(before)
	}
	// Protocols of which nft(8) does not know.
	rs := attributed()
	for name, protocol := range map[string]uint8{"icmp": 1, "icmpv6": 58, "udplite": 136} {
		state := "timeout"
		if protocol == 136 {
			state = "replied"
		}
		rs.timeout(name, protocol, ruleset.Inet, ruleset.TimeoutState{State: state, Seconds: 30})
		rs.do(rs.findChain("forward"), "attributes", ruleset.Action{}, []ruleset.Match{equal(ruleset.L4Proto, protocol)}, setTimeout(name))
	}
	s.apply(rs.Ruleset)
	s.apply(gateway().Ruleset)
	s.apply(attributed().Ruleset)
	s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
	if !s.have().Empty() {
		s.Error("something is left after all was deleted")
	}
}

// refusedObject wants what is not there, or is of another kind.
func refusedObject(s *suite) {
	s.apply(attributed().Ruleset)
	rs := attributed()
	rs.helper("odd", "not-a-helper", 6, ruleset.Inet)
	r := s.refused(s.attempt(rs.Ruleset), rs.Helpers[1].Origin)
	if !errors.Is(r, backend.ErrNotSupported) {
		s.Errorf("got %v, want ErrNotSupported", r)
	}
	for _, do := range []ruleset.Statement{
		setHelper("web"), setHelper("nothing"), setTimeout("ftp"), countOver(1, "nothing", ruleset.CtDirection),
		countOver(1, "ports", ruleset.DstPort), countOver(1, "wide", ruleset.CtDirection),
		{Kind: ruleset.Offload, Object: "nothing"},
	} {
		rs = attributed()
		r := rs.do(rs.findChain("forward"), "wrong", ruleset.Action{}, []ruleset.Match{tcp()}, do)
		s.Log(s.refused(s.attempt(rs.Ruleset), r.Origin))
	}
	// What a rule that stays needs.
	rs = attributed()
	rs.Helpers = nil
	s.refused(s.attempt(rs.Ruleset), rs.findChain("forward").Rules[3].Origin)
	// What no kernel is asked.
	for _, spoil := range []func(*sample) ruleset.Origin{
		func(rs *sample) ruleset.Origin { rs.helper("ftp", "ftp", 6, ruleset.Inet); return rs.Helpers[1].Origin },
		func(rs *sample) ruleset.Origin {
			set := rs.dynamic("endless", 0, ruleset.IPv4Addr)
			set.Origin = rs.origin("endless")
			return set.Origin
		},
		func(rs *sample) ruleset.Origin {
			return rs.do(rs.findChain("output"), "wrong", accept(), nil, ruleset.Statement{
				Kind: ruleset.RateUnder, Rate: ruleset.Rate{Packets: 1, Seconds: 1},
			}).Origin
		},
		func(rs *sample) ruleset.Origin {
			rs.perSource(0)
			rules := rs.findChain("forward").Rules
			return rules[len(rules)-1].Origin
		},
		func(rs *sample) ruleset.Origin {
			rs.perSource(9)
			return rs.do(rs.findChain("forward"), "wrong", drop(), []ruleset.Match{ipv4()}, countOver(1, "rate", ruleset.IPSaddr)).Origin
		},
	} {
		rs := attributed()
		o := spoil(rs)
		_, err := s.Want(rs.Ruleset)
		s.Log(s.refused(err, o))
	}
}

// perSource adds a rate for each source, whose keys end after a time.
func (s *sample) perSource(seconds uint32) {
	s.dynamic("rate", 100, ruleset.IPv4Addr).Timeout = seconds
	s.do(s.findChain("forward"), "per source", drop(), []ruleset.Match{ipv4()}, ruleset.Statement{
		Kind: ruleset.RateOver, Rate: ruleset.Rate{Packets: 1, Seconds: 1, Burst: 5}, Set: "rate", Fields: fields(ruleset.IPSaddr),
	})
}

// dynamicSets are made anew where they are other sets, and left alone where
// the chains that use them change.
func dynamicSets(s *suite) {
	s.apply(attributed().Ruleset)
	rs := attributed()
	forward := rs.findChain("forward")
	forward.Rules = slices.Insert(forward.Rules, 0, &ruleset.Rule{ID: "first", Origin: rs.origin("first"), Action: accept(), Matches: []ruleset.Match{ipv6()}})
	if c := s.apply(rs.Ruleset); len(c.Sets) != 0 || len(c.Chains) != 1 {
		s.Errorf("a rule more: %+v %+v", c.Chains, c.Sets)
	}
	rs = attributed()
	for _, set := range rs.Sets {
		if set.Name == "at_once" {
			set.Size = 200
		}
	}
	s.apply(attributed().Ruleset)
	if c := s.apply(rs.Ruleset); len(c.Sets) != 1 || c.Sets[0].Kind != plan.Replace {
		s.Errorf("another size: %+v", c.Sets)
	}
	rs = attributed()
	rs.perSource(60)
	s.apply(rs.Ruleset)
	rs = attributed()
	rs.perSource(61)
	if c := s.apply(rs.Ruleset); len(c.Sets) != 1 || c.Sets[0].Kind != plan.Replace {
		s.Errorf("another timeout: %+v", c.Sets)
	}
	s.apply(gateway().Ruleset)
}

// flowtables are held, or refused as what the kernel lacks.
func flowtables(s *suite) {
	s.apply(gateway().Ruleset)
	rs := gateway()
	f := rs.flowtable("fast", "lo")
	rs.do(rs.findChain("forward"), "offload", ruleset.Action{}, []ruleset.Match{tcp()}, ruleset.Statement{Kind: ruleset.Offload, Object: "fast"})
	err := s.Commit(context.Background(), plan.Diff(s.have(), s.want(rs.Ruleset)), true)
	if errors.Is(err, backend.ErrNotSupported) {
		s.Log(s.refused(s.attempt(rs.Ruleset), f.Origin))
		return
	}
	s.apply(rs.Ruleset)
	f.Priority = -10
	if c := s.apply(rs.Ruleset); len(c.Objects) != 1 || c.Objects[0].Kind != plan.Replace {
		s.Errorf("another priority: %+v", c.Objects)
	}
	s.apply(gateway().Ruleset)
	s.apply(rs.Ruleset)
	s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
}
