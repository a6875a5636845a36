package link

import (
	"slices"
	"testing"
)

func TestRADefaultRouteLinks(t *testing.T) {
	facts := Facts{Defaults: []DefaultRoute{
		{Family: IPv6, Interface: "wan1", Protocol: ProtocolRA},
		{Family: IPv6, Interface: "wan0", Protocol: ProtocolRA, Table: MainTable},
		{Family: IPv6, Interface: "wan1", Protocol: ProtocolRA, Metric: 7},
		{Family: IPv6, Interface: "wan2", Protocol: ProtocolStatic},
		{Family: IPv4, Interface: "wan3", Protocol: ProtocolRA},
	}}
	if got, want := facts.RADefaultRouteLinks(), []string{"wan0", "wan1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLinkByName(t *testing.T) {
	facts := Facts{Links: []Link{{Name: "lo", Index: 1}, {Name: "lan0", Index: 2}}}
	if l, ok := facts.Link("lan0"); !ok || l.Index != 2 {
		t.Errorf("got %v, %v", l, ok)
	}
	if _, ok := facts.Link("lan"); ok {
		t.Error("found a link that is not there")
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		IPv4.String():           "IPv4",
		IPv6.String():           "IPv6",
		ProtocolRA.String():     "ra",
		ProtocolDHCP.String():   "dhcp",
		ProtocolStatic.String(): "static",
		ProtocolKernel.String(): "kernel",
		ProtocolBoot.String():   "boot",
		Protocol(186).String():  "186",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSameNetNS(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1:4:7@x", "1:4:7@x", true},
		{"1:4@x", "1:4@x", true},
		{"1:4:7@x", "1:4@x", true},
		{"1:4:7@x", "1:4:8@x", false},
		{"1:4:7@x", "1:4:7@y", false},
		{"1:4:7@x", "2:4:7@x", false},
		{"1:4:7@x", "1:5@x", false},
		{"", "1:4:7@x", false},
	} {
		if SameNetNS(c.a, c.b) != c.want || SameNetNS(c.b, c.a) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}
