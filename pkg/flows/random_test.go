package flows_test

import (
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestOwnFlows takes random packets through the policies of package compile. The
// flow that such a packet begins has to fit, and its entry is the one that
// translated it; the same flow with another target or source has not.
func TestOwnFlows(t *testing.T) {
	t.Parallel()
	f := onPPP()
	accepted, translated := 0, 0
	everyPolicy(t, f, func(name string, j *flows.Judge) {
		a, b := ownFlows(t, name, j, routesOf(f), 6000)
		accepted, translated = accepted+a, translated+b
	})
	t.Logf("%d flows passed, %d of them translated", accepted, translated)
	if translated < 5000 {
		t.Errorf("%d flows were translated; the packets are too far from the policies", translated)
	}
}

// onPPP is the gateway with a third uplink, over which both families have their
// default route.
func onPPP() link.Facts {
	f := gateway()
	f.Links = append(f.Links, link.Link{Name: "ppp0", Index: 7, Up: true, Kind: "ppp", PointToPoint: true,
		Addresses: []link.Address{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}, {Prefix: netip.MustParsePrefix("2001:db8:c::1/64")}}})
	f.Defaults = []link.DefaultRoute{{Family: link.IPv4, Interface: "ppp0", Table: link.MainTable}, {Family: link.IPv6, Interface: "ppp0", Table: link.MainTable}}
	return f
}

// everyPolicy calls a function with the judge of each policy of package compile,
// until one has failed.
func everyPolicy(t *testing.T, f link.Facts, do func(name string, j *flows.Judge)) {
	t.Helper()
	files, err := filepath.Glob("../compile/testdata/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d policies: %v", len(files), err)
	}
	for _, name := range files {
		p, err := policy.Load([]string{name}, policy.LoadOptions{})
		if err != nil {
			continue // some say no more than that they are wrong
		}
		facts := compileFacts(f)
		r, err := compile.Compile(p, facts)
		if err != nil {
			continue
		}
		do(filepath.Base(name), flows.NewJudge(r.Ruleset, facts.Resolve(p), f, routesOf(f)))
		if t.Failed() {
			return
		}
	}
}

func ownFlows(t *testing.T, name string, j *flows.Judge, routes *table, n int) (accepted, translated int) {
	r := rand.New(rand.NewPCG(uint64(n), 5))
	pick := func(list []string) netip.Addr { return netip.MustParseAddr(list[r.IntN(len(list))]) }
	ends := [2][]string{
		{"192.168.1.10", "192.168.1.200", "192.168.2.10", "192.168.2.20", "10.0.0.1", "10.9.0.1", "8.8.8.8", "198.18.0.20", "192.0.2.1", "203.0.113.1", "203.0.113.10", "192.168.1.1", "192.0.2.9", "127.0.0.1"},
		{"fd00:1::5", "fd00:2::5", "2001:db8:c::1", "2001:db8:f::1", "2001:db8:5::5", "fd00::1", "::1", "fd00:1::1"},
	}
	ports := []uint16{22, 25, 53, 80, 81, 443, 500, 2000, 3128, 5060, 8000, 8001, 8005, 8080, 8101, 40000}
	for range n {
		list := ends[r.IntN(2)]
		p := explain.Packet{
			Source: pick(list), Destination: pick(list), Protocol: []uint8{6, 6, 17, 1, 47, 132}[r.IntN(6)],
			TCPFlags: ruleset.TCPSyn, State: ruleset.CtNew,
		}
		switch p.Protocol {
		case 1:
			if p.ICMPType = 8; p.Source.Is6() {
				p.Protocol, p.ICMPType = 58, 128
			}
		case 47:
		default:
			p.SourcePort, p.DestinationPort = ports[r.IntN(len(ports))], ports[r.IntN(len(ports))]
		}
		if routes.Kind(p.Source) != ruleset.RTNLocal {
			p.In = routes.Leaves(p.Source)[0]
		} else if p.Source.IsLoopback() != p.Destination.IsLoopback() {
			continue
		}
		if p.Source == p.Destination || p.In != "" && p.Destination.IsLoopback() {
			continue
		}
		w := j.Walk(&p)
		if traced := j.Traced(&p); traced != w {
			t.Errorf("%s: %+v: a walk that is traced gives\n%+v, and one that is not\n%+v", name, p, traced, w)
			return
		}
		if w.Verdict != ruleset.Accept || w.Unrouted {
			continue
		}
		accepted++
		f := conntrack.Flow{
			Protocol: p.Protocol,
			Original: conntrack.Tuple{Source: p.Source, Destination: p.Destination, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort, ICMPType: p.ICMPType},
			Reply:    conntrack.Tuple{Source: p.Destination, Destination: p.Source, SourcePort: p.DestinationPort, DestinationPort: p.SourcePort},
		}
		if w.DNAT.Kind != ruleset.Continue {
			f.Reply.Source, f.Reply.SourcePort = w.DNAT.Address, w.DNAT.Port
		}
		if w.SNAT.Kind != ruleset.Continue {
			f.Reply.Destination, f.Reply.DestinationPort = w.SNAT.Address, w.SNAT.Port
		}
		got := j.Judge(&f)
		if !got.Fits || got.Foreign {
			t.Errorf("%s: in by %q, out by %q: %s: %s", name, p.In, w.Out, f, judged(got))
		}
		changed := f.Reply.Source != p.Destination || f.Reply.Destination != p.Source
		if !changed {
			continue
		}
		translated++
		if !got.Ours || got.Origin.Entry == "" {
			t.Errorf("%s: in by %q, out by %q: %s: %s, and it was translated by %v, %v", name, p.In, w.Out, f, judged(got), w.DNAT.Origin, w.SNAT.Origin)
		}
		f.Reply.Source, f.Reply.SourcePort = p.Destination, p.DestinationPort
		f.Reply.Destination, f.Reply.DestinationPort = p.Source, p.SourcePort
		if got := j.Judge(&f); got.Fits {
			t.Errorf("%s: in by %q, out by %q: %s without its translation: %s", name, p.In, w.Out, f, judged(got))
		}
		if t.Failed() {
			return
		}
	}
	return
}
