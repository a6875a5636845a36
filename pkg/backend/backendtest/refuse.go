package backendtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// attempt commits a ruleset that should be refused, and checks that it leaves
// things as they were.
func (s *suite) attempt(rs *ruleset.Ruleset) error {
	s.Helper()
	before, generation := s.have(), s.probe()
	want, err := s.Want(rs)
	if err != nil {
		return err
	}
	changes := plan.Diff(before, want)
	dry := s.Commit(context.Background(), changes, true)
	err = s.Commit(context.Background(), changes, false)
	// A kernel that has nothing of ours finds at the commit alone what it
	// looks for when all rules are in place.
	if fmt.Sprint(dry) != fmt.Sprint(err) && (dry != nil || !before.Empty()) {
		s.Errorf("a dry run says %v, the commit %v", dry, err)
	}
	s.same("after a refusal", plan.Diff(before, s.have()))
	if g := s.probe(); err != nil && g != generation {
		s.Errorf("a refused change turned generation %d to %d", generation, g)
	}
	return err
}

func stale(s *suite) {
	ctx := context.Background()
	empty := s.have()
	want := s.want(gateway().Ruleset)
	s.commit(plan.Diff(empty, want))
	for _, dry := range []bool{true, false} {
		if err := s.Commit(ctx, plan.Diff(empty, s.want(s.everything())), dry); !errors.Is(err, backend.ErrStale) {
			s.Errorf("got %v, want ErrStale", err)
		}
		if err := s.Commit(ctx, plan.Diff(&plan.Snapshot{}, s.want(s.everything())), dry); !errors.Is(err, backend.ErrStale) {
			s.Errorf("from nowhere: got %v, want ErrStale", err)
		}
	}
	s.holds(want)
	// What cannot be taken is stale first.
	rs := gateway()
	rs.rule(rs.findChain("forward"), "wrong", jump("nowhere"))
	wrong, err := s.Want(rs.Ruleset)
	if err != nil {
		return // the backend finds it out before the kernel could
	}
	if err := s.Commit(ctx, plan.Diff(empty, wrong), false); !errors.Is(err, backend.ErrStale) {
		s.Errorf("got %v, want ErrStale", err)
	}
	s.holds(want)
}

func dryRun(s *suite) {
	s.apply(gateway().Ruleset)
	before, generation := s.have(), s.probe()
	for _, to := range []*plan.Snapshot{s.want(s.everything()), {}} {
		if err := s.Commit(context.Background(), plan.Diff(before, to), true); err != nil {
			s.Errorf("dry run: %v", err)
		}
		s.holds(before)
	}
	if g := s.probe(); g != generation {
		s.Errorf("a dry run turned generation %d to %d", generation, g)
	}
}

func race(s *suite) {
	for round := range 10 {
		have := s.have()
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			rs := gateway()
			rs.rule(rs.findChain("forward"), fmt.Sprintf("round %d of %d", round, i), accept())
			changes := plan.Diff(have, s.want(rs.Ruleset))
			wg.Go(func() { errs[i] = s.Commit(context.Background(), changes, false) })
		}
		wg.Wait()
		first := 0
		if errs[0] != nil {
			first = 1
		}
		if errs[first] != nil || !errors.Is(errs[1-first], backend.ErrStale) {
			s.Fatalf("two commits from one generation: %v, %v", errs[0], errs[1])
		}
	}
}

func neighbours(s *suite) {
	n, ok := s.Backend.(Neighbor)
	if !ok {
		s.Skip("this backend has no neighbours")
	}
	n.Disturb(s)
	if !s.have().Empty() {
		s.Error("somebody else's rules were taken for ours")
	}
	s.apply(gateway().Ruleset)
	have := s.have()
	n.Disturb(s)
	err := s.Commit(context.Background(), plan.Diff(have, s.want(s.everything())), false)
	if !errors.Is(err, backend.ErrStale) {
		s.Errorf("somebody else changed something: got %v, want ErrStale", err)
	}
	s.holds(have)
	s.apply(s.everything())
	s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
	if got := n.Disturbed(s); got != 2 {
		s.Errorf("%d of somebody else's 2 objects are left", got)
	}
}

func refusedRule(s *suite) {
	for _, c := range []struct {
		name  string
		spoil func(*sample) *ruleset.Rule
	}{
		{"no such chain", func(rs *sample) *ruleset.Rule { return rs.rule(rs.findChain("forward"), "wrong", jump("nowhere")) }},
		{"no such set", func(rs *sample) *ruleset.Rule {
			return rs.rule(rs.findChain("from_lan"), "wrong", accept(), ipv4(), in("nothing", ruleset.IPSaddr))
		}},
		{"no such map", func(rs *sample) *ruleset.Rule {
			return rs.rule(rs.findChain("dstnat_all"), "wrong", dnat(ruleset.IPv4, "nothing", ruleset.DstPort), ipv4(), tcp())
		}},
		{"no such counter", func(rs *sample) *ruleset.Rule {
			r := rs.rule(rs.findChain("forward"), "wrong", accept())
			r.Counter = "nothing"
			return r
		}},
		{"another key", func(rs *sample) *ruleset.Rule {
			return rs.rule(rs.findChain("forward"), "wrong", vmap("zones", ruleset.IPSaddr, ruleset.IPDaddr), ipv4())
		}},
		{"wrong hook", func(rs *sample) *ruleset.Rule {
			return rs.rule(rs.findChain("dstnat_all"), "wrong", ruleset.Action{Kind: ruleset.Masquerade})
		}},
		{"jump to a base chain", func(rs *sample) *ruleset.Rule {
			return rs.rule(rs.findChain("from_lan"), "wrong", jump("forward"))
		}},
	} {
		for _, first := range []bool{true, false} {
			rs := gateway()
			if first {
				s.commit(plan.Diff(s.have(), &plan.Snapshot{}))
			} else {
				s.apply(gateway().Ruleset)
			}
			r := c.spoil(rs)
			rs.rule(rs.findChain("forward"), "innocent", accept())
			s.Logf("%s: %v", c.name, s.refused(s.attempt(rs.Ruleset), r.Origin))
		}
	}
}

// refusedChange takes away what a rule that stays needs.
func refusedChange(s *suite) {
	s.apply(gateway().Ruleset)
	rs := gateway()
	rs.Sets = rs.Sets[1:]
	s.refused(s.attempt(rs.Ruleset), rs.findChain("dstnat_all").Rules[0].Origin)
	rs = gateway()
	rs.Counters = rs.Counters[:1]
	s.refused(s.attempt(rs.Ruleset), rs.findChain("forward").Rules[1].Origin)
}

func refusedChain(s *suite) {
	rs := gateway()
	c := rs.chain("wrong", natHook(ruleset.Forward, 0))
	s.Log(s.refused(s.attempt(rs.Ruleset), c.Origin))
	s.apply(gateway().Ruleset)
	s.refused(s.attempt(rs.Ruleset), c.Origin)
	rs = gateway()
	c = rs.chain(strings.Repeat("x", 300), nil)
	s.refused(s.attempt(rs.Ruleset), c.Origin)
}

// many is how many elements a set has in which one is wrong: they take several
// messages.
const many = 5000

func refusedElement(s *suite) {
	for _, at := range []int{0, 1, 1700, many - 1} {
		rs := gateway()
		set := rs.set("many", types(ruleset.InetService), types(ruleset.IPv4Addr))
		for i := range many {
			set.Add(port(2*i), nil, ip(i), rs.entry(fmt.Sprintf("element %d", i)))
		}
		twin := rs.entry("twin")
		set.Add(port(2*at), nil, ip(0x7f000001), twin)
		// Nothing tells the two apart but their values.
		s.Log(s.refused(s.attempt(rs.Ruleset), rs.Origins[twin], rs.Origins[set.OriginAt(at)]))
		// The same value twice is two elements too.
		set = rs.set("many", types(ruleset.InetService), nil)
		rs.Sets = append(rs.Sets[:3:3], set)
		for i := range many {
			set.Add(port(2*i), nil, nil, rs.entry(fmt.Sprintf("element %d", i)))
		}
		set.Add(port(2*at), nil, nil, twin)
		s.refused(s.attempt(rs.Ruleset), rs.Origins[twin], rs.Origins[set.OriginAt(at)])
	}
}

func refusedRange(s *suite) {
	for _, at := range []int{0, 1, 1700, many - 1} {
		rs := gateway()
		set := rs.interval("many", types(ruleset.InetService), nil)
		for i := range many {
			set.Add(port(10*i), port(10*i+5), nil, rs.entry(fmt.Sprintf("element %d", i)))
		}
		wide := rs.entry("wide")
		set.Add(port(10*at+3), port(10*at+7), nil, wide)
		s.Log(s.refused(s.attempt(rs.Ruleset), rs.Origins[wide], rs.Origins[set.OriginAt(at)]))
	}
}

func refusedVerdict(s *suite) {
	for _, interval := range []bool{false, true} {
		for _, at := range []int{0, 1, 1700, many - 1} {
			rs := gateway()
			set := rs.set("many", types(ruleset.InetService), types(ruleset.Verdict))
			set.Interval = interval
			for i := range many {
				to := "from_lan"
				if i == at {
					to = "nowhere"
				}
				set.AddVerdict(port(10*i), port(10*i+5), goTo(to), rs.entry(fmt.Sprintf("element %d", i)))
			}
			s.Log(s.refused(s.attempt(rs.Ruleset), rs.Origins[set.OriginAt(at)]))
		}
	}
}
