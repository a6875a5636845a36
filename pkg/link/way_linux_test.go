package link

import (
	"errors"
	"net/netip"
	"os"
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

// Where a packet goes is asked with all that rules of routing look at.
func TestPassageLeaves(t *testing.T) {
	freshNetNS(t)
	for i, link := range []string{"wan0", "lan0"} {
		index := addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: link}})
		addAddress(t, index, &netlink.Addr{IPNet: network(t, []string{"203.0.113.2/24", "192.168.1.1/24"}[i])})
	}
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	ip(t, "route add default via 203.0.113.1")
	ip(t, "rule add ipproto tcp dport 25 prohibit")
	ip(t, "rule add from 192.168.1.66 blackhole")
	for _, c := range []struct {
		source string
		port   uint16
		out    string
	}{{"192.168.1.5", 80, "wan0"}, {"192.168.1.5", 25, ""}, {"192.168.1.66", 80, ""}} {
		p := Passage{In: "lan0", Source: netip.MustParseAddr(c.source), Destination: netip.MustParseAddr("198.51.100.9"), Protocol: 6, DestinationPort: c.port}
		out, err := p.Leaves()
		if out != c.out || (c.out == "") != errors.Is(err, ErrRefused) {
			t.Errorf("%+v leaves by %q, %v, want %q", p, out, err, c.out)
		}
	}
}
