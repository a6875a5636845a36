package link

import (
	"net/netip"
	"slices"
	"testing"
)

// Of several default routes the host uses those of the lowest metric, each
// family its own; tables that only a rule leads to do not count.
func TestDefaultInterfaces(t *testing.T) {
	facts := Facts{Defaults: []DefaultRoute{
		{Family: IPv4, Interface: "vpn", Table: 1000},
		{Family: IPv4, Interface: "wan1", Metric: 100, Table: MainTable},
		{Family: IPv4, Interface: "wan0", Metric: 100, Table: MainTable},
		{Family: IPv4, Interface: "backup", Metric: 200, Table: MainTable},
		{Family: IPv6, Interface: "wan1", Metric: 1024, Table: MainTable},
		{Family: IPv6, Interface: "tunnel", Metric: 2048, Table: MainTable},
	}}
	if got, want := facts.DefaultInterfaces(), []string{"wan0", "wan1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (Facts{}).DefaultInterfaces(); len(got) != 0 {
		t.Errorf("without routes: %v", got)
	}
}

// The default route's next hop in any table, lowest metric first; else that of
// other routes; else the link itself, where it has two ends.
func TestNextHop(t *testing.T) {
	addr := netip.MustParseAddr
	facts := Facts{
		Links: []Link{{Name: "wan0"}, {Name: "wan1"}, {Name: "ppp0", PointToPoint: true, Addresses: []Address{{Prefix: netip.MustParsePrefix("192.0.2.9/32")}}}, {Name: "lan"}},
		Defaults: []DefaultRoute{
			{Family: IPv4, Interface: "wan0", Gateway: addr("192.0.2.9"), Metric: 1, Protocol: ProtocolOwn},
			{Family: IPv4, Interface: "wan0", Gateway: addr("192.0.2.1"), Metric: 5, Table: 1000},
			{Family: IPv4, Interface: "wan0", Gateway: addr("192.0.2.2"), Metric: 50, Table: MainTable},
		},
		Hops: []Hop{
			{Family: IPv4, Interface: "wan0", Gateway: addr("192.0.2.3")},
			{Family: IPv4, Interface: "wan1", Gateway: addr("198.51.100.1"), OnLink: true},
		},
	}
	for _, c := range []struct {
		family  Family
		name    string
		gateway netip.Addr
		onLink  bool
		ok      bool
	}{
		{IPv4, "wan0", addr("192.0.2.1"), false, true},
		{IPv4, "wan1", addr("198.51.100.1"), true, true},
		{IPv4, "ppp0", netip.Addr{}, false, true},
		{IPv6, "ppp0", netip.Addr{}, false, false},
		{IPv6, "wan0", netip.Addr{}, false, false},
		{IPv4, "lan", netip.Addr{}, false, false},
		{IPv4, "gone", netip.Addr{}, false, false},
	} {
		gateway, onLink, ok := facts.NextHop(c.family, c.name)
		if gateway != c.gateway || onLink != c.onLink || ok != c.ok {
			t.Errorf("%s of %s: %v %v %v", c.family, c.name, gateway, onLink, ok)
		}
	}
}
