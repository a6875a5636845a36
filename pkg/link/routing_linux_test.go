package link

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ip(t testing.TB, words string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", words, err, out)
	}
	return string(out)
}

// uplink is a namespace with an interface wan0 that has addresses of both
// families.
func uplink(t *testing.T) {
	t.Helper()
	freshNetNS(t)
	index := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan0"}, PeerName: "far0"})
	ip(t, "link set far0 up") // for carrier
	addAddress(t, index, &netlink.Addr{IPNet: network(t, "192.0.2.2/24")})
	addAddress(t, index, &netlink.Addr{IPNet: network(t, "2001:db8::2/64"), Flags: unix.IFA_F_NODAD})
}

const ownTable = 0x69706d01

func sample() Routing {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	return Routing{
		Rules: []Rule{
			{IPv4, 901, 0x10000000, 0xf0000000, ownTable},
			{IPv6, 901, 0x10000000, 0xf0000000, ownTable},
		},
		Routes: []Route{
			{Family: IPv4, Table: ownTable, To: prefix("192.0.2.0/24"), Interface: "wan0"},
			{Family: IPv4, Table: ownTable, To: AnyAddress(IPv4), Gateway: addr("192.0.2.1"), Interface: "wan0"},
			{Family: IPv4, Table: 77, To: AnyAddress(IPv4), Gateway: addr("203.0.113.1"), OnLink: true, Interface: "wan0"},
			{Family: IPv4, Table: 78, To: AnyAddress(IPv4), Gateway: addr("fe80::1"), Interface: "wan0"},
			{Family: IPv4, Table: 79, To: AnyAddress(IPv4), Interface: "wan0"},
			{Family: IPv6, Table: ownTable, To: prefix("2001:db8::/64"), Interface: "wan0"},
			{Family: IPv6, Table: ownTable, To: AnyAddress(IPv6), Gateway: addr("fe80::1"), Interface: "wan0"},
		},
	}
}

func read(t *testing.T) Facts {
	t.Helper()
	f, err := Read()
	must(t, err)
	return f
}

// What is made is what is read again, and nothing of anybody else's is taken
// for it; what is removed is gone, and may be gone already.
func TestRouting(t *testing.T) {
	uplink(t)
	ip(t, "rule add fwmark 0x10000000/0xf0000000 lookup 55 priority 900")
	ip(t, "route add default via 192.0.2.1 table 55")
	// Without the kernel's own routes of IPv6, which come when they like.
	state := func() string {
		return ip(t, "rule") + ip(t, "-4 route show table all") + ip(t, "-6 rule") + ip(t, "-6 route show table all proto 105")
	}
	before := state()
	r := sample()
	must(t, r.Add())
	must(t, r.Add())
	facts := read(t)
	if left := r.Without(facts.Own); !left.Empty() {
		t.Errorf("not there: %q", left.Lines())
	}
	if more := facts.Own.Without(r); !more.Empty() {
		t.Errorf("taken for ours: %q", more.Lines())
	}
	want := []Rule{{IPv4, 900, 0x10000000, 0xf0000000, 55}}
	if !slices.Equal(facts.ForeignRules, want) {
		t.Errorf("rules of others: %+v", facts.ForeignRules)
	}
	if !slices.Contains(facts.ForeignTables, TableOf{IPv4, 55}) || slices.Contains(facts.ForeignTables, TableOf{IPv4, ownTable}) {
		t.Errorf("tables of others: %+v", facts.ForeignTables)
	}
	if !slices.ContainsFunc(facts.Connected, func(x Route) bool { return x.To.String() == "192.0.2.0/24" && x.Interface == "wan0" }) {
		t.Errorf("connected: %+v", facts.Connected)
	}
	must(t, r.Remove())
	must(t, r.Remove())
	if after := state(); after != before {
		t.Errorf("was:\n%s\nis:\n%s", before, after)
	}
}

// A next hop that changes takes the place of the old one, which is no error to
// remove then.
func TestRouteReplaced(t *testing.T) {
	uplink(t)
	old := sample()
	must(t, old.Add())
	next := sample()
	next.Routes[1].Gateway = netip.MustParseAddr("192.0.2.7")
	next.Routes[6].Gateway = netip.MustParseAddr("fe80::7")
	must(t, next.Without(old).Add())
	must(t, old.Without(next).Remove())
	if facts := read(t); !next.Without(facts.Own).Empty() || !facts.Own.Without(next).Empty() {
		t.Errorf("%q", facts.Own.Lines())
	}
}

// Next hops of other routes are known once each, by their lowest metric.
func TestHops(t *testing.T) {
	uplink(t)
	for _, r := range []string{
		"198.51.100.0/24 via 192.0.2.1 metric 30", "198.51.100.0/25 via 192.0.2.1 metric 20",
		"203.0.113.0/24 via 192.0.2.9 metric 10 table 1000", "2001:db8:9::/48 via 2001:db8::1",
	} {
		ip(t, "route add "+r+" dev wan0")
	}
	facts := read(t)
	var got []string
	for _, h := range facts.Hops {
		got = append(got, h.Gateway.String())
	}
	if want := []string{"192.0.2.9", "192.0.2.1", "2001:db8::1"}; !slices.Equal(got, want) || facts.Hops[1].Metric != 20 {
		t.Errorf("%+v", facts.Hops)
	}
	if l, _ := facts.Link("lo"); l.PointToPoint {
		t.Error("lo is taken for a link with another end")
	}
}

// What the kernel refuses says which route.
func TestRoutingRefused(t *testing.T) {
	uplink(t)
	r := Routing{Routes: []Route{{Family: IPv4, Table: 77, To: AnyAddress(IPv4), Gateway: netip.MustParseAddr("10.9.9.9"), Interface: "wan0"}}}
	if err := r.Add(); err == nil || !strings.Contains(err.Error(), "default via 10.9.9.9 dev wan0 table 77 (IPv4): the next hop is in none of the networks of wan0") {
		t.Errorf("got %v", err)
	}
	r.Routes[0].Interface = "gone"
	if err := r.Add(); err == nil || !strings.Contains(err.Error(), "no such interface") {
		t.Errorf("got %v", err)
	}
	must(t, r.Remove())
}
