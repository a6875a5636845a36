package iptables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func ifname(name string) []byte { return append([]byte(name), make([]byte, 16-len(name))...) }

// excludes is a chain of forward with a rule for what comes from none of some
// addresses, and one behind it.
func excludes(addresses int, a ruleset.Action) *ruleset.Ruleset {
	set := ruleset.NewSet("banned", []ruleset.Type{ruleset.IPv4Addr}, nil)
	first := netip.MustParseAddr("10.0.0.1")
	for range addresses {
		set.Add(first.AsSlice(), nil, nil, ruleset.NoOrigin)
		first = first.Next()
	}
	return &ruleset.Ruleset{
		Sets: []*ruleset.Set{set},
		Chains: []*ruleset.Chain{
			{Name: "forward", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward}, Rules: []*ruleset.Rule{
				{ID: "1", Action: a, Matches: []ruleset.Match{
					{Fields: []ruleset.Field{ruleset.L4Proto}, Value: []byte{6}},
					{Fields: []ruleset.Field{ruleset.IPSaddr}, Op: ruleset.NotIn, Set: "banned"},
				}},
				{ID: "2", Action: ruleset.Action{Kind: ruleset.Drop}},
			}},
			{Name: "other", Rules: []*ruleset.Rule{{ID: "3", Action: ruleset.Action{Kind: ruleset.Drop}}}},
		},
	}
}

// chainsOf gives the lines of each chain of filter.
func chainsOf(t *testing.T, rs *ruleset.Ruleset) map[string][]string {
	t.Helper()
	made := translate(rs, kernel{})
	tables, refused := made.tables, made.refused
	if len(refused) > 0 {
		t.Fatal(refused[0])
	}
	out := map[string][]string{}
	for _, tab := range tables {
		for _, c := range tab.chains {
			for _, l := range c.lines {
				if tab.family == ruleset.IPv4 {
					out[c.name] = append(out[c.name], l.text)
				}
			}
		}
	}
	return out
}

// What fits in a line stays there; more turns back in a chain, and where the
// target goes elsewhere for good, it meets the rest of the rules in another one.
func TestExcludes(t *testing.T) {
	t.Parallel()
	few := chainsOf(t, excludes(maxExcluded, ruleset.Action{Kind: ruleset.Accept}))
	if lines := few["IPMASQ-forward"]; len(lines) != 2 || strings.Count(lines[0], "! ") != maxExcluded {
		t.Errorf("%q", few)
	}
	const n = maxExcluded + 1
	many := chainsOf(t, excludes(n, ruleset.Action{Kind: ruleset.Accept}))
	lines := many["IPMASQ-forward"]
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "-p tcp -j "+prefix+"but_") || lines[1] != "-j DROP" {
		t.Fatalf("%q", many)
	}
	but := many[targetOf(lines[0])]
	if len(but) != n+1 || but[0] != "-s 10.0.0.1/32 -p tcp -j RETURN" || but[n] != "-p tcp -j ACCEPT" {
		t.Errorf("%q", but)
	}
	away := chainsOf(t, excludes(n, ruleset.Action{Kind: ruleset.Goto, Chain: "other"}))
	lines = away["IPMASQ-forward"]
	if len(lines) != n+2 || lines[n] != "-p tcp -g IPMASQ-other" || !strings.HasPrefix(lines[n+1], "-g "+prefix+"rest_") {
		t.Fatalf("%q", away)
	}
	rest := targetOf(lines[n+1])
	if want := fmt.Sprintf("-s 10.0.0.%d/32 -p tcp -g %s", n, rest); lines[n-1] != want {
		t.Errorf("%q, want %q", lines[n-1], want)
	}
	if got := away[rest]; len(got) != 1 || got[0] != "-j DROP" {
		t.Errorf("the rest is %q", got)
	}
}

// Two conditions on one interface, which iptables has one option for.
func TestExcludesInterfaces(t *testing.T) {
	t.Parallel()
	rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{{Name: "forward", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward}, Rules: []*ruleset.Rule{
		{ID: "1", Action: ruleset.Action{Kind: ruleset.Accept}, Matches: []ruleset.Match{
			{Fields: []ruleset.Field{ruleset.IIfName}, Value: []byte("br-"), Bits: 24},
			{Fields: []ruleset.Field{ruleset.IIfName}, Op: ruleset.NotEqual, Value: []byte("br-lan"), Bits: 48},
			{Fields: []ruleset.Field{ruleset.OIfName}, Op: ruleset.NotEqual, Value: ifname("eth0")},
			{Fields: []ruleset.Field{ruleset.OIfName}, Op: ruleset.NotEqual, Value: ifname("eth1")},
		}},
	}}}}
	got := chainsOf(t, rs)
	lines := got["IPMASQ-forward"]
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "-i br-+ -j ") {
		t.Fatalf("%q", got)
	}
	but := got[targetOf(lines[0])]
	want := "-i br-lan+ -j RETURN|-o eth0 -j RETURN|-o eth1 -j RETURN|-j ACCEPT"
	if strings.Join(but, "|") != want {
		t.Errorf("%q, want %q", but, want)
	}
}
