package backendtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// steps is how many random changes a random walk makes.
const steps = 25

// random walks from one random ruleset to the next, each time there, back to
// what was read, and there again.
func random(s *suite) {
	const seed = 20
	s.apply(s.part(randomRuleset(rand.New(rand.NewPCG(seed, 0)))))
	sent := s.send()
	for step := uint64(1); step <= steps; step++ {
		before := s.have()
		s.apply(s.part(randomRuleset(rand.New(rand.NewPCG(seed, step)))))
		back := plan.Diff(s.have(), before)
		s.commit(back)
		s.readBack(back)
		s.holds(before)
		s.apply(s.part(randomRuleset(rand.New(rand.NewPCG(seed, step)))))
		if n := s.sent(); n < sent {
			s.Errorf("step %d: the counter fell from %d to %d", step, sent, n)
		}
		if s.Failed() {
			s.Fatalf("at step %d of seed %d", step, seed)
		}
	}
	s.send()
}

// dice makes a random ruleset. Names are few, so that much of what one ruleset
// has the next has too, or something else of that name.
type dice struct {
	*rand.Rand
	*sample
	entries []uint32
	targets []string // chains that can be jumped to
}

func randomRuleset(r *rand.Rand) *ruleset.Ruleset {
	d := &dice{Rand: r, sample: newSample()}
	d.counter("sent")
	for i := range 5 {
		d.entries = append(d.entries, d.entry(fmt.Sprintf("entry %d", i)))
		if d.likely(3) {
			d.counter(fmt.Sprintf("counter%d", i))
		}
	}
	out := d.chain("output", hook(ruleset.Output))
	d.rule(out, "counter sent", ruleset.Action{}).Counter = "sent"
	for i := range 6 {
		if d.likely(4) {
			d.targets = append(d.targets, fmt.Sprintf("chain%d", i))
		}
	}
	d.objects()
	sets := d.sets()
	for i, name := range d.targets {
		d.rules(d.chain(name, nil), sets, d.targets[i+1:])
	}
	d.rules(d.chain("forward", &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward, Priority: d.IntN(2)}), sets, d.targets)
	return d.Ruleset
}

// objects adds objects, and sets that rules fill.
func (d *dice) objects() {
	for _, name := range []string{"ftp", "sip"} {
		if d.likely(2) {
			d.helper(name, []string{"ftp", "sip"}[d.IntN(2)], 6, []ruleset.Family{ruleset.IPv4, ruleset.Inet}[d.IntN(2)])
		}
		if d.likely(2) {
			d.timeout(name, 6, ruleset.Inet, ruleset.TimeoutState{State: "established", Seconds: uint32(1 + d.IntN(2))})
		}
		if d.likely(2) {
			d.dynamic("filled_"+name, uint32(1+d.IntN(2)), ruleset.IPv4Addr)
		}
	}
}

// statements gives some that refer to what there is.
func (d *dice) statements() []ruleset.Statement {
	var out []ruleset.Statement
	for _, h := range d.Helpers {
		if !d.likely(4) {
			out = append(out, setHelper(h.Name))
		}
	}
	for _, x := range d.Timeouts {
		if !d.likely(4) {
			out = append(out, setTimeout(x.Name))
		}
	}
	for _, set := range d.Sets {
		if set.Dynamic && !d.likely(3) {
			out = append(out, countOver(uint32(d.IntN(2)), set.Name, ruleset.IPSaddr))
		}
	}
	if !d.likely(6) {
		out = append(out, ruleset.Statement{Kind: ruleset.SetMark, Value: uint32(d.IntN(2)), Mask: 1})
	}
	return out
}

// likely is true in all but one of n cases.
func (d *dice) likely(n int) bool { return d.IntN(n) > 0 }

func (d *dice) origin() uint32 {
	if d.likely(3) {
		return d.entries[d.IntN(len(d.entries))]
	}
	return ruleset.NoOrigin
}

func (d *dice) sets() []*ruleset.Set {
	first := len(d.Sets) // behind those that rules fill
	shapes := []struct {
		name     string
		key      []ruleset.Type
		data     []ruleset.Type
		interval bool
	}{
		{"addresses", types(ruleset.IPv4Addr), nil, false},
		{"nets", types(ruleset.IPv4Addr), nil, true},
		{"ports", types(ruleset.InetService), nil, true},
		{"map", types(ruleset.IPv4Addr), types(ruleset.IPv4Addr), false},
		{"netmap", types(ruleset.IPv4Addr), types(ruleset.IPv4Addr, ruleset.InetService), true},
		{"verdicts", types(ruleset.IPv4Addr), types(ruleset.Verdict), false},
		{"netverdicts", types(ruleset.IPv4Addr), types(ruleset.Verdict), true},
		{"pairs", types(ruleset.IPv4Addr, ruleset.InetService), nil, true},
	}
	for _, sh := range shapes {
		if !d.likely(5) {
			continue
		}
		set := d.set(sh.name, sh.key, sh.data)
		set.Interval, set.Counted = sh.interval, !d.likely(4)
		if !d.likely(6) {
			set.Interval = false
		}
		if !d.likely(4) {
			set.Origin.Entry = fmt.Sprintf("entry %d", d.IntN(5)) // that of some elements too
		}
		d.fill(set)
	}
	return d.Sets[first:]
}

// fill adds disjoint elements. Their bounds come from few values, so that they
// touch and overlap those of other rulesets; the first and the last value are
// among them.
func (d *dice) fill(set *ruleset.Set) {
	if !d.likely(8) {
		return
	}
	space := 40
	bounds := map[int]bool{}
	for range 2 + d.IntN(60) {
		bounds[d.IntN(space)] = true
	}
	at := make([]int, 0, len(bounds))
	for b := range bounds {
		at = append(at, b)
	}
	slices.Sort(at)
	for i := range at {
		low, high := at[i], at[i]
		if set.Interval && d.likely(2) && i+1 < len(at) {
			high = at[i+1] - 1 // up to the next
		}
		d.element(set, scale(low, space), scale(high, space))
	}
}

// scale spreads a space of few values over 16 bits, ends included.
func scale(v, space int) int {
	if v == space-1 {
		return 0xffff
	}
	return v
}

func (d *dice) element(set *ruleset.Set, low, high int) {
	key := func(v int) []byte {
		if set.Key[0] == ruleset.InetService {
			return port(v)
		}
		if v == 0xffff {
			return ip(uint32(math.MaxUint32))
		}
		return ip(v)
	}
	k, h := key(low), key(high)
	if len(set.Key) == 2 {
		k, h = join(k, port(low)), join(h, port(0xffff))
	}
	switch {
	case set.IsVerdictMap():
		v := drop()
		if n := len(d.targets); n > 0 && d.likely(2) {
			v = jump(d.targets[d.IntN(n)])
		}
		set.AddVerdict(k, h, v, d.origin())
	case len(set.Data) == 2:
		set.Add(k, h, join(ip(d.IntN(2)), port(d.IntN(2))), d.origin())
	case len(set.Data) == 1:
		set.Add(k, h, ip(d.IntN(2)), d.origin())
	default:
		set.Add(k, h, nil, d.origin())
	}
}

func (d *dice) rules(c *ruleset.Chain, sets []*ruleset.Set, targets []string) {
	for range d.IntN(5) {
		matches := []ruleset.Match{ipv4(), tcp()}
		action := accept()
		switch d.IntN(4) {
		case 0:
			matches = append(matches, prefix(ruleset.IPSaddr, ruleset.Equal, 8*d.IntN(4)+d.IntN(2)*3, 0, 0, 0, 0))
		case 1:
			if len(targets) > 0 {
				action = jump(targets[d.IntN(len(targets))])
			}
		default:
			if len(sets) == 0 {
				break
			}
			set := sets[d.IntN(len(sets))]
			key := fields(ruleset.IPDaddr)
			if set.Key[0] == ruleset.InetService {
				key = fields(ruleset.DstPort)
			}
			if len(set.Key) == 2 {
				key = append(key, ruleset.DstPort)
			}
			switch {
			case set.IsVerdictMap() && c.Name == "forward": // elsewhere it may make a loop
				action = vmap(set.Name, key...)
			case set.Data == nil:
				matches = append(matches, in(set.Name, key...))
			}
		}
		r := d.rule(c, fmt.Sprintf("entry %d", d.IntN(5)), action, matches...)
		r.Do = d.statements()
		if n := len(d.Counters); d.likely(2) {
			r.Counter = d.Counters[d.IntN(n)].Name
		}
	}
}
