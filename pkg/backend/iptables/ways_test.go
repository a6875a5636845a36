package iptables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func ranges(list ...string) []ruleset.AddrRange {
	var out []ruleset.AddrRange
	for _, text := range list {
		p := netip.MustParsePrefix(text)
		out = append(out, ruleset.AddrRange{Low: p.Addr(), High: lastOf(p)})
	}
	return out
}

func behind(iface, zone string, list ...string) ruleset.Way {
	name, wildcard := strings.CutSuffix(iface, "+")
	return ruleset.Way{Interface: name, Wildcard: wildcard, Zones: []string{zone}, Addresses: [2][]ruleset.AddrRange{ranges(list...)}, Any: [2]bool{len(list) == 0}}
}

// Which addresses the way leads to by an interface, as the policy has it.
func TestWays(t *testing.T) {
	t.Parallel()
	lan, dmz := behind("eth1", "lan", "192.168.0.0/16"), behind("eth2", "dmz", "192.168.2.0/24")
	wan, wan2, guests := behind("eth0", "wan"), behind("eth3", "wan2"), behind("wlan+", "guests")
	for _, c := range []struct {
		ways     []ruleset.Way
		patterns string
		want     string
	}{
		{[]ruleset.Way{lan, wan}, "eth1", "in 192.168.0.0-192.168.255.255"},
		{[]ruleset.Way{lan, wan}, "eth0", "not in 192.168.0.0-192.168.255.255"},
		{[]ruleset.Way{lan, dmz, wan}, "eth1", "in 192.168.0.0-192.168.1.255 192.168.3.0-192.168.255.255"},
		{[]ruleset.Way{lan, dmz, wan}, "eth2", "in 192.168.2.0-192.168.2.255"},
		{[]ruleset.Way{lan, dmz, wan}, "eth1 eth2", "in 192.168.0.0-192.168.255.255 192.168.2.0-192.168.2.255"},
		{[]ruleset.Way{lan, wan, wan2}, "eth0 eth3", "not in 192.168.0.0-192.168.255.255"},
		{[]ruleset.Way{lan, wan, wan2}, "eth0", "give some to wan2"},
		{[]ruleset.Way{lan, wan, guests}, "eth0", "give some to guests"},
		{[]ruleset.Way{lan, wan, guests}, "eth1", "in 192.168.0.0-192.168.255.255"},
		{[]ruleset.Way{lan, wan, guests}, "wlan0", "and goes by the `networks`"}, // of no zone of its own
		{[]ruleset.Way{lan, behind("eth2", "lan", "192.168.0.0/16"), wan}, "eth1", "in 192.168.0.0-192.168.255.255"},
		{[]ruleset.Way{lan, behind("eth2", "other", "192.168.0.0/16"), wan}, "eth1", "other has the same as lan"},
		{nil, "eth0", "and goes by the `networks`"},
	} {
		tr := &translator{rules: &ruleset.Ruleset{Ways: c.ways}, family: ruleset.IPv4}
		w, err := tr.wayBy(strings.Fields(c.patterns))
		got := "in"
		if w.not {
			got = "not in"
		}
		for _, r := range w.ranges {
			got += fmt.Sprintf(" %s-%s", r.Low, r.High)
		}
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("by %s: %s, want %s", c.patterns, got, c.want)
		}
	}
}
