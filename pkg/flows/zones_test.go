package flows_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestZones holds the zone of an interface and address against the chain that
// the rules lead a packet to which comes from there.
func TestZones(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../compile/testdata/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d policies: %v", len(files), err)
	}
	f := gateway()
	// Whatever comes in may come from there, so that nothing is dropped as forged.
	names := []string{"eth0", "eth1", "eth2", "eth3", "ppp0", "br-x", "br-office", "wg0", "wwan0"}
	routes := &table{to: []way{{netip.MustParsePrefix("0.0.0.0/0"), names}, {netip.MustParsePrefix("::/0"), names}}}
	placed := 0
	for _, name := range files {
		p, err := policy.Load([]string{name}, policy.LoadOptions{})
		if err != nil {
			continue
		}
		facts := compileFacts(f)
		r, err := compile.Compile(p, facts)
		if err != nil {
			continue
		}
		j := flows.NewJudge(r.Ruleset, facts.Resolve(p), f, routes)
		for _, iface := range names {
			for _, text := range []string{
				"192.168.1.10", "192.168.1.205", "192.168.2.10", "10.0.0.5", "10.0.0.130", "10.0.1.5", "10.9.0.1", "172.16.0.1", "8.8.8.8",
				"fd00::5", "fd00:1::5", "fd00:2::5", "2001:db8:1::5", "2001:db8:f::1",
			} {
				a := netip.MustParseAddr(text)
				to := netip.MustParseAddr("9.9.9.9")
				if a.Is6() {
					to = netip.MustParseAddr("2001:db8:ffff::9")
				}
				want := ""
				for _, step := range j.Steps(&explain.Packet{In: iface, Out: "eth9", Source: a, Destination: to, Protocol: 253, State: ruleset.CtNew}) {
					if zone, ok := strings.CutPrefix(step.Chain.Name, "forward_from_"); ok {
						want = zone
					}
				}
				if got := j.Zone(iface, a); got != want {
					t.Errorf("%s: %s on %s is in zone %q, and the rules say %q", filepath.Base(name), text, iface, got, want)
				}
				if want != "" {
					placed++
				}
			}
		}
	}
	if placed < 1000 {
		t.Errorf("%d addresses are in a zone", placed)
	}
}
