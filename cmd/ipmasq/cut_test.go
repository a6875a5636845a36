package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/engine"
)

// Flows that are cut in words: reasons and flows up to a number of each, and
// nothing where there are none.
func TestPrintCut(t *testing.T) {
	printed := func(cut engine.Cut) string {
		var b strings.Builder
		printCut(&b, cut, "would cut")
		return b.String()
	}
	if got := printed(engine.Cut{}); got != "" {
		t.Errorf("of none: %q", got)
	}
	flow := engine.CutFlow{Flow: conntrack.Flow{Protocol: conntrack.ProtocolTCP,
		Original: conntrack.Tuple{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), SourcePort: 4000, DestinationPort: 80}}}
	got := printed(engine.Cut{Total: 3, Flows: []engine.CutFlow{flow}, By: []engine.CutBy{
		{Entry: "port_forward web", Why: "would go to 10.0.0.7:80", Flows: 2}, {Entry: "masquerade lan-wan", Why: "is not translated", Flows: 1},
	}})
	want := "would cut 3 flows: 2 of port_forward web, which would go to 10.0.0.7:80; 1 untranslated of masquerade lan-wan\n" +
		"  tcp 192.0.2.1:4000 > 192.0.2.2:80\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	many := engine.Cut{Total: 100}
	for i := range 50 {
		many.By = append(many.By, engine.CutBy{Entry: fmt.Sprintf("snat s%d", i), Why: "would be dropped", Flows: 2})
		many.Flows = append(many.Flows, flow, flow)
	}
	got = printed(many)
	if strings.Count(got, "would be dropped") != reasonsShown || !strings.Contains(got, "; the rest for 30 other reasons\n") ||
		strings.Count(got, "\n  tcp ") != cutsShown || !strings.HasSuffix(got, "\n  ... and 90 more\n") {
		t.Errorf("of many:\n%s", got)
	}
}

// What came in the way is said, with what to do about it.
func TestWarnCut(t *testing.T) {
	for _, c := range []struct {
		cut  engine.Cut
		want string
	}{
		{engine.Cut{Total: 1}, ""},
		{engine.Cut{Problem: errors.New("x"), Retries: true}, "ipmasq: warning: the policy is in force, but not all is done about the flows that it contradicts: x\nipmasq: hint: apply again to cut them; "},
		{engine.Cut{Problem: errors.New("x")}, "ipmasq: warning: the policy is in force, but some flows may go on as they were translated before: x\nipmasq: hint: ipmasq connections list "},
	} {
		var b strings.Builder
		(&program{stderr: &b}).warnCut(c.cut)
		if got := b.String(); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
