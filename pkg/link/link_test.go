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
