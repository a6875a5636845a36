package backendtest

import (
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func wantIsDeterministic(s *suite) {
	a := s.want(s.everything())
	s.same("twice the same policy", plan.Diff(a, s.want(s.everything())))
	shuffled := s.everything()
	for i, j := 0, len(shuffled.Chains)-1; i < j; i, j = i+1, j-1 {
		shuffled.Chains[i], shuffled.Chains[j] = shuffled.Chains[j], shuffled.Chains[i]
	}
	for i, j := 0, len(shuffled.Sets)-1; i < j; i, j = i+1, j-1 {
		shuffled.Sets[i], shuffled.Sets[j] = shuffled.Sets[j], shuffled.Sets[i]
	}
	b := s.want(shuffled)
	s.same("the order of chains and sets", plan.Diff(a, b))
	if a.Digest() != b.Digest() {
		s.Error("the digest depends on the order of chains and sets")
	}
	if a.Generation != 0 {
		s.Error("a wanted snapshot has a generation")
	}
}

func lifecycle(s *suite) {
	if h := s.have(); !h.Empty() || h.Generation != s.probe() {
		s.Errorf("a new host has something, or another generation: %d, %d", h.Generation, s.probe())
	}
	s.commit(plan.Diff(s.have(), &plan.Snapshot{})) // to delete nothing
	want := s.want(gateway().Ruleset)
	s.apply(gateway().Ruleset)
	g := s.probe()
	if c := plan.Diff(s.have(), want); !c.Empty() {
		s.same("applied again", c)
	} else {
		s.commit(c)
	}
	if s.probe() != g {
		s.Error("an empty change makes a generation")
	}
	s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
	if !s.have().Empty() {
		s.Error("something is left after all was deleted")
	}
	if s.probe() == g {
		s.Error("a change makes no generation")
	}
	s.apply(gateway().Ruleset)
}

func everything(s *suite) {
	s.apply(s.everything())
	s.apply(gateway().Ruleset)
	s.apply(s.everything())
}

func oneChain(s *suite) {
	s.apply(gateway().Ruleset)
	sent := s.send()
	rs := gateway()
	forward := rs.findChain("forward")
	forward.Rules = append(forward.Rules[:1:1], forward.Rules[2:]...)
	if c := s.apply(rs.Ruleset); len(c.Chains) != 1 || len(c.Sets)+len(c.Counters) != 0 {
		s.Errorf("changes: %d chains, %d sets, %d counters; want one chain", len(c.Chains), len(c.Sets), len(c.Counters))
	}
	out := rs.findChain("output")
	rs.rule(out, "more", accept(), ipv6())
	out.Rules[1], out.Rules[2] = out.Rules[2], out.Rules[1]
	s.apply(rs.Ruleset)
	if n := s.sent(); n < sent {
		s.Errorf("the counter fell from %d to %d", sent, n)
	}
	s.send()
}

func chainAttributes(s *suite) {
	s.apply(gateway().Ruleset)
	rs := gateway()
	rs.findChain("output").Hook.Priority = 5
	rs.findChain("dstnat_all").Hook.Priority = -90
	s.apply(rs.Ruleset)
	// A chain that was jumped to is attached, and one that was attached is
	// jumped to.
	rs = gateway()
	rs.findChain("from_lan").Hook = hook(ruleset.Input)
	rs.findChain("forward").Hook = nil
	rs.Sets[2] = ruleset.NewSet("zones", types(ruleset.IfName), types(ruleset.Verdict))
	rs.Sets[2].AddVerdict(name("eth0"), nil, drop(), ruleset.NoOrigin)
	rs.rule(rs.findChain("from_lan"), "x", jump("forward"))
	s.apply(rs.Ruleset)
	s.apply(gateway().Ruleset)
}

func elements(s *suite) {
	s.apply(gateway().Ruleset)
	rs := gateway()
	ports := ruleset.NewSet("ports", types(ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	ports.Counted = true
	for i := range 20 {
		switch i {
		case 3: // it goes
			continue
		case 5: // another value
			ports.Add(port(1000+i), nil, join(ip(0x0a000009), port(80+i)), uint32(i%2))
		case 7: // another entry
			ports.Add(port(1000+i), nil, join(ip(0x0a000001), port(80+i)), uint32((i+1)%2))
		case 9: // no entry
			ports.Add(port(1000+i), nil, join(ip(0x0a000001), port(80+i)), ruleset.NoOrigin)
		default:
			ports.Add(port(1000+i), nil, join(ip(0x0a000001), port(80+i)), uint32(i%2))
		}
	}
	ports.Add(port(999), nil, join(ip(0x0a000001), port(1)), 0) // it comes
	rs.replace(ports)
	c := s.apply(rs.Ruleset)
	if len(c.Chains) != 0 || len(c.Sets) != 1 || len(c.Sets[0].Removed) != 4 || len(c.Sets[0].Added) != 4 {
		s.Errorf("not by element: %+v %+v", c.Chains, c.Sets)
	}
	s.apply(gateway().Ruleset)
}

// ranges walks through sets of ranges, of which each has what the one before
// had in other places: touching it, within it, around it.
func ranges(s *suite) {
	rs := gateway()
	for _, list := range [][][2]int{
		{{10, 19}},
		{{10, 19}, {20, 29}},
		{{20, 29}},
		{{0, 19}, {20, 29}},
		{{0, 9}, {10, 29}},
		{{5, 25}},
		{{0, 0xffff}},
		{{0, 0}, {1, 1}, {2, 2}, {0xffff, 0xffff}},
		{{1, 0xfffe}},
		{{0, 0x7fff}, {0x8000, 0xffff}},
		{{0, 0x7ffe}, {0x7fff, 0xffff}},
		{{0x8000, 0x8000}},
		{},
		{{0xffff, 0xffff}},
		{{0, 9}, {20, 29}, {40, 49}},
		{{10, 19}, {30, 39}, {50, 59}},
	} {
		set := ruleset.NewSet("ranges", types(ruleset.InetService), types(ruleset.IPv4Addr))
		set.Interval = true
		for _, r := range list {
			set.Add(port(r[0]), port(r[1]), ip(0x0a000001), uint32(r[0]%2))
		}
		rs.replace(set)
		s.apply(rs.Ruleset)
	}
	s.apply(gateway().Ruleset)
}

func concatenated(s *suite) {
	rs := gateway()
	set := func(list ...[4]uint32) *ruleset.Set {
		out := ruleset.NewSet("clients", types(ruleset.IPv4Addr, ruleset.InetService), nil)
		out.Interval = true
		for _, r := range list {
			out.Add(join(ip(r[0]), port(int(r[2]))), join(ip(r[1]), port(int(r[3]))), nil, 0)
		}
		return out
	}
	rs.Sets = append(rs.Sets, set([4]uint32{0, 255, 80, 89}))
	rs.rule(rs.findChain("forward"), "clients", accept(), ipv4(), tcp(), in("clients", ruleset.IPSaddr, ruleset.DstPort))
	s.apply(rs.Ruleset)
	for _, next := range []*ruleset.Set{
		set([4]uint32{0, 127, 80, 89}, [4]uint32{128, 255, 80, 89}),
		set([4]uint32{0, 255, 80, 84}, [4]uint32{0, 255, 85, 89}, [4]uint32{7, 7, 1, 1}),
		set([4]uint32{0, 0xffffffff, 0, 0xffff}),
		set(),
		set([4]uint32{64, 191, 80, 89}),
	} {
		rs.replace(next)
		s.apply(rs.Ruleset)
	}
}

func verdictMaps(s *suite) {
	for _, chains := range [][]string{{"a"}, {"a", "b"}, {"b", "c"}, {}, {"c"}} {
		rs := gateway()
		zones := ruleset.NewSet("zones", types(ruleset.IfName), types(ruleset.Verdict))
		for i, c := range chains {
			rs.rule(rs.chain(c, nil), "forward "+c, accept())
			// The names stay and lead elsewhere.
			zones.AddVerdict(name(fmt.Sprintf("eth%d", i)), nil, goTo(c), ruleset.NoOrigin)
			zones.AddVerdict(name(fmt.Sprintf("wan%d", i)), nil, jump(c), ruleset.NoOrigin)
		}
		rs.replace(zones)
		s.apply(rs.Ruleset)
	}
	s.apply(gateway().Ruleset)
	s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
}

func setAttributes(s *suite) {
	s.apply(gateway().Ruleset)
	sent := s.send()
	change := func(what string, set *ruleset.Set) {
		s.Helper()
		rs := gateway()
		rs.replace(set)
		c := s.apply(rs.Ruleset)
		if len(c.Sets) != 1 || c.Sets[0].Kind != plan.Replace {
			s.Errorf("%s: %+v, want the set to be replaced", what, c.Sets)
		}
		s.apply(gateway().Ruleset)
	}
	plain := ruleset.NewSet("ports", types(ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	plain.Add(port(80), nil, join(ip(1), port(80)), 0)
	change("elements that do not count", plain)
	hashed := ruleset.NewSet("ranges", types(ruleset.InetService), types(ruleset.IPv4Addr))
	hashed.Add(port(80), nil, ip(1), 0)
	change("a hash instead of ranges", hashed)
	ported := ruleset.NewSet("ranges", types(ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	ported.Interval = true
	ported.Add(port(80), port(90), join(ip(1), port(80)), 0)
	rs := gateway()
	rs.replace(ported)
	s.apply(rs.Ruleset)
	s.apply(gateway().Ruleset)
	zones := ruleset.NewSet("zones", types(ruleset.IfName), types(ruleset.Verdict))
	zones.Origin.Entry = "another"
	zones.AddVerdict(name("eth0"), nil, jump("from_lan"), 0)
	change("another comment of a verdict map", zones)
	if n := s.sent(); n < sent {
		s.Errorf("the counter fell from %d to %d", sent, n)
	}
}

func counters(s *suite) {
	s.apply(gateway().Ruleset)
	sent := s.send()
	rs := gateway()
	rs.counter("another")
	rs.findChain("forward").Rules[2].Counter = "another"
	rs.findChain("output").Rules[1].Action = drop()
	s.apply(rs.Ruleset)
	s.apply(gateway().Ruleset)
	if n := s.sent(); n < sent {
		s.Errorf("the counter fell from %d to %d", sent, n)
	}
	rs = gateway()
	rs.Counters = rs.Counters[1:]
	rs.findChain("output").Rules[0].Counter = ""
	s.apply(rs.Ruleset)
	s.apply(gateway().Ruleset)
	if n := s.sent(); n != 0 && sent > 0 && n >= sent {
		s.Errorf("a new counter starts at %d", n)
	}
	s.send()
}

// comments goes to the limit of what an object can be called, and beyond.
func comments(s *suite) {
	for _, n := range []int{1, 2, backend.MaxEntry - 1, backend.MaxEntry} {
		s.apply(commented(strings.Repeat("x", n)).Ruleset)
	}
	for _, c := range []string{"", "a b", "port_forward web (tcp 80-90)", "é", "a\tb"} {
		s.apply(commented(c).Ruleset)
	}
	rs := commented(strings.Repeat("x", backend.MaxEntry+1))
	_, err := s.Want(rs.Ruleset)
	s.refused(err, rs.Sets[0].Origin)
	rs = gateway()
	rs.Chains = append(rs.Chains, rs.findChain("forward"))
	_, err = s.Want(rs.Ruleset)
	s.refused(err, rs.findChain("forward").Origin)
}

// commented gives every object the same comment.
func commented(entry string) *sample {
	rs := gateway()
	o := rs.origin(entry)
	for _, set := range rs.Sets {
		set.Origin = o
	}
	for _, c := range rs.Counters {
		c.Origin = o
	}
	for i := range rs.Origins {
		rs.Origins[i] = o
	}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			r.Origin = o
		}
	}
	return rs
}

func rollback(s *suite) {
	s.apply(gateway().Ruleset)
	before := s.have()
	s.apply(s.everything())
	s.commit(plan.Diff(s.have(), before))
	s.holds(before)
	s.holds(s.want(gateway().Ruleset))
	for i := range 3 {
		rs := gateway()
		rs.findChain("forward").Rules = nil
		rs.Sets[i].Counted = !rs.Sets[i].Counted
		before := s.have()
		s.apply(rs.Ruleset)
		s.commit(plan.Diff(s.have(), before))
		s.holds(before)
	}
	// All of it, from nothing and to nothing.
	full := s.have()
	s.commit(plan.Diff(full, &plan.Snapshot{}))
	s.commit(plan.Diff(s.have(), full))
	s.holds(full)
}
