package link

import (
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What is read with the routes is what Read reads.
func TestReadRoutesFacts(t *testing.T) {
	linked(t)
	batch(t, []string{"route add default via 192.0.2.2", "rule add pref 900 fwmark 1 lookup 100", "rule add pref 901 fwmark 2 lookup 100 protocol 105",
		"route add default via 192.0.2.18 table 100"})
	if facts := read(t); !reflect.DeepEqual(readFIB(t).Facts, facts) || len(facts.ForeignRules) != 1 || len(facts.Own.Rules) != 1 {
		t.Errorf("got  %+v\nwant %+v", readFIB(t).Facts, facts)
	}
}

// Two uplinks, the second behind a higher metric, and a third that a mark leads
// to: a packet may leave by each of them.
func TestLeavesOfTwoUplinks(t *testing.T) {
	linked(t)
	batch(t, []string{
		"route add default via 192.0.2.18 metric 200", "route add default via 192.0.2.2 metric 100",
		"route add default via 192.0.2.34 table 100", "rule add pref 900 fwmark 0x10000000/0xf0000000 lookup 100",
		"-6 route add default via 2001:db8:ffff:1::2 metric 200", "-6 route add default via 2001:db8:ffff::2 metric 100",
		"-6 route add default via 2001:db8:ffff:2::2 table 100", "-6 rule add pref 900 from 2001:db8:9::/48 lookup 100",
		"-6 rule add pref 901 iif l4 lookup 101", "-6 route add default dev l4 table 101",
	})
	routes := readFIB(t)
	for to, want := range map[string]string{
		"198.51.100.1": "l0 l1 l2", "2001:db8:1::1": "l0 l1 l2 l4",
		"192.0.2.3": "l0 l2", "2001:db8:ffff:1::9": "l1 l2 l4",
		"192.0.2.17": "", "2001:db8:ffff:1::1": "", "127.0.0.1": "", "::1": "",
	} {
		if got := routes.Leaves(netip.MustParseAddr(to)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s leaves by %v, want %s", to, got, want)
		}
	}
}

// Kinds as the kernel tells them apart.
func TestKinds(t *testing.T) {
	linked(t)
	// Else the detection of duplicates may be over before the routes are read.
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/l1/dad_transmits", []byte("1000"), 0))
	batch(t, []string{
		"route add local 198.18.0.0/24 dev lo", "route add unreachable 198.19.0.0/24", "route add default via 192.0.2.2",
		"addr add 203.0.113.1/32 dev l0", "addr add 203.0.113.1/32 dev l1",
		"-6 addr add 2001:db8:ffff:9::1/64 dev l1", // without nodad: tentative
		"-6 route add unreachable 2001:db8:a::/48", "-6 route add prohibit 2001:db8:b::/48", "-6 route add blackhole 2001:db8:c::/48",
		"-6 route add 2001:db8:d::/48 dev l2",
	})
	routes := readFIB(t)
	for a, want := range map[string]uint32{
		"192.0.2.1": KindLocal, "192.0.2.15": KindBroadcast, "192.0.2.2": KindUnicast, "127.1.2.3": KindLocal,
		"198.18.0.77": KindLocal, "198.19.0.1": KindUnicast, "8.8.8.8": KindUnicast,
		"224.0.0.1": KindMulticast, "255.255.255.255": KindBroadcast, "0.0.0.0": KindBroadcast, "::ffff:192.0.2.1": KindLocal,
		"2001:db8:ffff:1::1": KindLocal, "2001:db8:ffff:1::2": KindUnicast, "2001:db8:d::1": KindUnicast, "::1": KindLocal,
		"2001:db8:a::1": KindUnreachable, "2001:db8:b::1": KindProhibit, "2001:db8:c::1": KindBlackhole, "2001:db8:e::1": KindUnreachable,
		"ff02::1": KindMulticast, "::": KindUnspecified,
	} {
		at := netip.MustParseAddr(a)
		if got := routes.Kind(at); got != want || routes.Local(at) != (want == KindLocal) {
			t.Errorf("%s is of kind %d, want %d", a, got, want)
		}
	}
	for _, c := range []struct {
		address, iface string
		local, holds   bool
	}{
		{"192.0.2.1", "l0", true, true}, {"192.0.2.1", "l1", false, false}, {"192.0.2.2", "l0", false, false},
		{"203.0.113.1", "l0", true, true}, {"203.0.113.1", "l1", false, true},
		{"198.18.0.1", "lo", true, false}, {"198.18.0.1", "l0", false, false},
		{"2001:db8:ffff:1::1", "l1", true, true}, {"2001:db8:ffff:1::1", "l0", false, false},
		{"2001:db8:ffff:9::1", "l1", false, false},
	} {
		at := netip.MustParseAddr(c.address)
		if local, holds := routes.LocalOn(at, c.iface), routes.Holds(c.iface, at); local != c.local || holds != c.holds {
			t.Errorf("%s on %s: local %v, held %v", c.address, c.iface, local, holds)
		}
	}
}
