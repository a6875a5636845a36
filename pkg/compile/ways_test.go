package compile_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func compiled(t *testing.T, text string, facts compile.Facts) *ruleset.Ruleset {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := compile.Compile(p, facts)
	if err != nil {
		t.Fatal(err)
	}
	return r.Ruleset
}

// What is behind interfaces is told where rules ask which way leads there, and
// nowhere else.
func TestWays(t *testing.T) {
	t.Parallel()
	const zones = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, 10.0.0.0/9, 10.128.0.0/9]}
  guests: {interfaces: [eth1], networks: [192.168.2.0/24]}
  wan: {interfaces: ["ppp*"]}
masquerade: [{from: [lan, guests], to: wan}]
`
	if rs := compiled(t, zones, compile.Facts{}); len(rs.Ways) > 0 {
		t.Errorf("no rule asks, and there are %v", rs.Ways)
	}
	rs := compiled(t, zones+"forward: {rules: [{from: wan, to: lan, protocol: tcp, ports: 80, action: accept, synproxy: true}]}\n", compile.Facts{})
	var got strings.Builder
	for _, w := range rs.Ways {
		fmt.Fprintln(&got, w.Interface, w.Wildcard, w.Addresses, w.Any, w.Zones)
	}
	want := `eth1 false [[{10.0.0.0 10.255.255.255} {192.168.1.0 192.168.2.255}] []] [false false] [guests lan]
ppp true [[] []] [true true] [wan]
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// The outside addresses that a flow may have been sent to are those that the
// entries name, else those of the host.
func TestKnownDestinations(t *testing.T) {
	t.Parallel()
	facts := compile.Facts{Links: []compile.Link{{Name: "eth0", Addresses: []compile.Addr{
		netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("127.0.0.1/8"),
	}}}}
	for more, want := range map[string]string{"": "[{203.0.113.2 203.0.113.2}]", ", address: 203.0.113.7": "[{203.0.113.7 203.0.113.7}]"} {
		rs := compiled(t, `
zones: {lan: {interfaces: [eth1], networks: [192.168.1.0/24]}, wan: {interfaces: [eth0]}}
port_forward: [{from: wan, protocol: tcp, ports: 80, to: 192.168.1.10, hairpin: {source: outside}`+more+"}]\n", facts)
		found := 0
		for _, c := range rs.Chains {
			for _, r := range c.Rules {
				if r.Action.Kind != ruleset.SNATToDest {
					continue
				}
				if found++; fmt.Sprint(r.Known) != want {
					t.Errorf("with %q: %v, want %s", more, r.Known, want)
				}
			}
		}
		if found == 0 {
			t.Errorf("with %q there is no rule", more)
		}
	}
}
