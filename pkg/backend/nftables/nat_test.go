//go:build linux

package nftables_test

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// TestOfItself loads ranges of one value each, which nft(8) takes for half a
// range where they are not written as one.
func TestOfItself(t *testing.T) {
	t.Parallel()
	addresses := ruleset.NewRangeMap("addresses", []ruleset.Type{ruleset.IPv4Addr}, []ruleset.Type{ruleset.IPv4Addr})
	addresses.Interval = true
	addresses.Add([]byte{10, 0, 0, 0}, []byte{10, 0, 0, 0}, []byte{192, 0, 2, 0, 192, 0, 2, 0}, ruleset.NoOrigin)
	blocks := ruleset.NewRangeMap("blocks", []ruleset.Type{ruleset.IPv4Addr}, []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService})
	blocks.Add([]byte{10, 0, 0, 0}, nil, []byte{192, 0, 2, 0, 0, 80, 0, 0, 192, 0, 2, 0, 0, 80, 0, 0}, ruleset.NoOrigin)
	rs := &ruleset.Ruleset{Sets: []*ruleset.Set{addresses, blocks}}
	var text strings.Builder
	if err := nftables.Text(&text, rs); err != nil {
		t.Fatal(err)
	}
	h, other := newHost(t), newHost(t)
	lab.Require(t, lab.Binary("nft"))
	want := h.want(t, rs)
	h.reach(t, want)
	other.load(t, text.String())
	if c := plan.Diff(other.have(t), want); !c.Empty() {
		t.Errorf("nft(8) makes another table of Text than Commit: %s\n%s", c.Summary(), text.String())
	}
}

// TestUnsaid refuses what nft(8) could not load, list or mean.
func TestUnsaid(t *testing.T) {
	t.Parallel()
	ports := []ruleset.Type{ruleset.IPv6Addr, ruleset.InetService}
	sets := []*ruleset.Set{
		ruleset.NewRangeMap("picked", []ruleset.Type{ruleset.Number}, []ruleset.Type{ruleset.IPv4Addr}),
		ruleset.NewRangeMap("blocks", []ruleset.Type{ruleset.IPv6Addr}, ports),
		ruleset.NewSet("names", []ruleset.Type{ruleset.IfName}, nil),
		ruleset.NewSet("targets", []ruleset.Type{ruleset.Number}, []ruleset.Type{ruleset.IPv4Addr, ruleset.InetService}),
	}
	field := func(f ruleset.Field) []ruleset.Field { return []ruleset.Field{f} }
	for want, r := range map[string]ruleset.Rule{
		"a map of ranges by number": {Action: ruleset.Action{Kind: ruleset.SNAT, Family: ruleset.IPv4, Map: "picked", Pick: ruleset.Pick{Of: 2}}},
		"IPv6 addresses and ports":  {Action: ruleset.Action{Kind: ruleset.SNAT, Family: ruleset.IPv6, Map: "blocks", Fields: field(ruleset.IP6Saddr)}},
		"ports beside a map":        {Action: ruleset.Action{Kind: ruleset.SNAT, Family: ruleset.IPv4, Map: "targets", Pick: ruleset.Pick{Of: 2}, NAT: ruleset.NAT{PortMin: 1, PortMax: 2}}},
		`no map "none"`:             {Action: ruleset.Action{Kind: ruleset.DNAT, Family: ruleset.IPv4, Map: "none"}},
		"looks up no name":          {Matches: []ruleset.Match{{Fields: field(ruleset.FibDaddrOIfName), Op: ruleset.In, Set: "names"}}},
		"in host byte order":        {Matches: []ruleset.Match{{Fields: field(ruleset.MetaMark), Op: ruleset.Between, Value: make([]byte, 4), High: make([]byte, 4)}}},
	} {
		rs := &ruleset.Ruleset{Sets: sets, Chains: []*ruleset.Chain{{Name: "x", Rules: []*ruleset.Rule{&r}}}}
		if _, err := nftables.New(nil).Want(rs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is refused with %v", want, err)
		}
	}
}
