package simulate_test

import (
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// TestRandom sends random packets through every policy there is, on hosts that are
// made up for them, and looks at what must hold of any outcome.
func TestRandom(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../compile/testdata/*.yaml", "../../examples/*.yaml"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	seen := map[simulate.Verdict]int{}
	gateways := 0
	for _, name := range files {
		p, err := policy.Load([]string{name}, policy.LoadOptions{})
		if err != nil {
			continue // some say no more than that they are wrong, and some are tests
		}
		host, err := (*policytest.Host)(nil).Build(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		routes, err := host.Read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		facts := engine.CompileFacts(routes.Facts)
		compiled, err := compile.Compile(p, facts)
		if err != nil {
			continue
		}
		gateways++
		resolved := facts.Resolve(p)
		g := simulate.New(compiled.Ruleset, resolved, routes.Facts, routes)
		r := rand.New(rand.NewPCG(7, uint64(len(name))))
		addresses := addressesOf(resolved, routes.Facts.Local)
		for range 300 {
			q := random(r, resolved, addresses)
			out, err := g.Send(q)
			if err != nil {
				continue
			}
			seen[out.Verdict]++
			holds(t, name, q, out)
		}
	}
	for _, v := range []simulate.Verdict{simulate.Forwarded, simulate.Delivered, simulate.Dropped, simulate.Rejected, simulate.Unrouted} {
		if seen[v] < 20 {
			t.Errorf("%d packets came to %s: %v", seen[v], v, seen)
		}
	}
	if gateways < 80 {
		t.Errorf("only %d policies were looked at", gateways)
	}
}

// addressesOf are addresses that a policy says something about, and others.
func addressesOf(p *policy.Policy, own []netip.Prefix) []netip.Addr {
	list := []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2001:db8:f::1"), netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("10.9.9.9")}
	add := func(addresses []policy.Address) {
		for _, a := range addresses {
			if a.Low.IsValid() {
				list = append(list, a.Low, a.Low.Next(), a.High)
			}
		}
	}
	for _, z := range p.Zones {
		add(z.Networks)
	}
	for _, x := range p.OneToOne {
		list = append(list, x.Outside.Addr(), x.Inside.Addr())
	}
	for _, x := range p.PortForward {
		add(x.Address)
		list = append(list, x.To.Addr)
	}
	for _, a := range own {
		list = append(list, a.Addr())
	}
	return list
}

func random(r *rand.Rand, p *policy.Policy, addresses []netip.Addr) simulate.Packet {
	q := simulate.Packet{Source: addresses[r.IntN(len(addresses))], Destination: addresses[r.IntN(len(addresses))]}
	zone := func() string {
		if len(p.Zones) == 0 || r.IntN(4) == 0 {
			return ""
		}
		return p.Zones[r.IntN(len(p.Zones))].Name
	}
	if q.From = zone(); r.IntN(8) == 0 {
		q.From, q.Source = "gateway", netip.Addr{}
	}
	if r.IntN(4) == 0 {
		q.To = zone()
	}
	q.Protocol = []uint8{6, 17, 1, 58, 47, 132}[r.IntN(6)]
	if simulate.HasPorts(q.Protocol) {
		q.DestinationPort = []uint16{22, 25, 53, 80, 443, 8080, 1000}[r.IntN(7)]
		if r.IntN(2) == 0 {
			q.SourcePort = uint16(1 + r.IntN(65535))
		}
	}
	q.ICMPType = []uint8{8, 128, 3, 0}[r.IntN(4)]
	q.State = []uint32{0, 0, 0, ruleset.CtEstablished, ruleset.CtInvalid, ruleset.CtUntracked, ruleset.CtRelated}[r.IntN(7)]
	return q
}

// holds says what must hold of any outcome.
func holds(t *testing.T, name string, q simulate.Packet, out *simulate.Outcome) {
	t.Helper()
	now := out.Arrived
	for i, s := range out.Steps {
		before := simulate.Ends{Source: s.Source, Destination: s.Destination, SourcePort: s.SourcePort, DestinationPort: s.DestinationPort}
		if i > 0 && before != now {
			t.Errorf("%s: %+v: step %d begins with %+v, and the one before ended with %+v", name, q, i, before, now)
			return
		}
		now = s.After
		if s.By == simulate.ByRule && (s.Rule == nil || s.Chain == nil || s.Origin == nil) {
			t.Errorf("%s: %+v: step %d has no rule", name, q, i)
		}
		if s.Matters && s.Does == "" {
			t.Errorf("%s: %+v: step %d matters and does nothing: %+v", name, q, i, s)
		}
	}
	passes := out.Verdict.Passes()
	switch {
	case passes && out.Hint != "", !passes && (out.Flow != nil || out.Answer != nil):
		t.Errorf("%s: %+v: %s, and %q, %+v, %+v", name, q, out.Verdict, out.Hint, out.Flow, out.Answer)
	case !passes && out.Hint == "":
		t.Errorf("%s: %+v: %s by %s, and no word on what helps", name, q, out.Verdict, out.By.Entry)
	case out.Verdict == simulate.Forwarded && out.Out == "":
		t.Errorf("%s: %+v: left by no interface", name, q)
	}
	if out.Flow != nil && q.State == 0 && out.Flow.Original != out.Arrived {
		t.Errorf("%s: %+v: conntrack holds %+v", name, q, out.Flow)
	}
	if a := out.Answer; a != nil && a.Verdict.Passes() && len(a.Steps) > 0 && !changesAddress(a.Steps[len(a.Steps)-1]) {
		if last := a.Steps[len(a.Steps)-1].After; last != a.Received {
			t.Errorf("%s: %+v: the answer comes back as %+v, and was to be %+v", name, q, last, a.Received)
		}
	}
}

// changesAddress says whether a rule writes an address that conntrack does not
// know of, which a step does not tell.
func changesAddress(s simulate.Step) bool {
	if s.Rule == nil {
		return false
	}
	for _, do := range s.Rule.Do {
		if do.Kind == ruleset.SetAddress {
			return true
		}
	}
	return false
}
