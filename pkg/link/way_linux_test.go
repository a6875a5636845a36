package link

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// The way to an address is the most specific route's; where there is none, that
// is an error and no guess.
func TestWay(t *testing.T) {
	freshNetNS(t)
	for i, link := range []string{"wan0", "lan0"} {
		index := addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: link}})
		addAddress(t, index, &netlink.Addr{IPNet: network(t, []string{"203.0.113.2/24", "192.168.1.1/24"}[i])})
	}
	wan, err := netlink.LinkByName("wan0")
	must(t, err)
	if got, err := Way(netip.MustParseAddr("198.51.100.9")); err == nil {
		t.Errorf("without a route the way is %s", got)
	}
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wan.Attrs().Index, Gw: netip.MustParseAddr("203.0.113.1").AsSlice()}))
	for to, want := range map[string]string{"192.168.1.5": "lan0", "203.0.113.3": "wan0", "198.51.100.9": "wan0"} {
		if got, err := Way(netip.MustParseAddr(to)); err != nil || got != want {
			t.Errorf("the way to %s is %s, %v, want %s", to, got, err, want)
		}
	}
}
