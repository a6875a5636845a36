package iptables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/plan"
)

// Before filter changes, the chains behind POSTROUTING translate what either of
// the old and the new rules do.
func TestWiden(t *testing.T) {
	t.Parallel()
	const last = "-m comment --comment ipmasq -j RETURN"
	for name, c := range map[string]struct{ from, to, want []string }{
		"more":              {[]string{"-o a -j MASQUERADE", last}, []string{"-o a -j MASQUERADE", "-o b -j MASQUERADE", last}, []string{"snat: whole"}},
		"less":              {[]string{"-o a -j MASQUERADE", "-o b -j MASQUERADE", last}, []string{"-o b -j MASQUERADE", last}, nil},
		"another":           {[]string{"-o a -j MASQUERADE", last}, []string{"-o b -j MASQUERADE", last}, []string{"snat: -o b -j MASQUERADE, -o a -j MASQUERADE, " + last}},
		"an exception more": {[]string{"-o a -j MASQUERADE", last}, []string{"-d 10.0.0.0/8 -j RETURN", "-o a -j MASQUERADE", last}, nil},
		"an exception less": {[]string{"-d 10.0.0.0/8 -j RETURN", "-o a -j MASQUERADE", last}, []string{"-o a -j MASQUERADE", last}, []string{"snat: whole"}},
		"a zone more": {[]string{"-i x+ -g IPMASQ-x", last}, []string{"-i y -g IPMASQ-y", "-i x+ -g IPMASQ-x", last},
			[]string{"snat: -i y -j IPMASQ-y, -i x+ -g IPMASQ-x, " + last, "x: stays", "y: whole"}},
		"turned": {[]string{"-o a -j MASQUERADE", "-o b -j MASQUERADE"}, []string{"-o b -j MASQUERADE", "-o a -j MASQUERADE"}, []string{"snat: whole"}},
	} {
		side := func(rules []string, filter string) *plan.Snapshot {
			lists := map[string][]string{
				"nat POSTROUTING": {"1 -m comment --comment ipmasq -j IPMASQ-snat"}, "nat IPMASQ-snat": rules,
				"nat PREROUTING": {"1 -m comment --comment ipmasq -j IPMASQ-dnat"}, "nat IPMASQ-dnat": {"-i " + filter + " -j RETURN"},
				"filter IPMASQ-forward": {"-i " + filter + " -j ACCEPT"},
			}
			for _, r := range rules {
				if _, to, ok := strings.Cut(r, "-g "); ok {
					lists["nat "+to] = []string{"-j MASQUERADE"}
				}
			}
			return chains(lists)
		}
		want := slices.DeleteFunc(slices.Clone(c.want), func(s string) bool { return strings.HasSuffix(s, "stays") })
		if got := iptables.Widened(plan.Diff(side(c.from, "a"), side(c.to, "b"))); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		// Where filter stays, nothing has to be wide.
		if got := iptables.Widened(plan.Diff(side(c.from, "a"), side(c.to, "a"))); len(got) > 0 {
			t.Errorf("%s: %q, and filter does not change", name, got)
		}
	}
}
