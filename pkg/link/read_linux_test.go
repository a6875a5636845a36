package link

import (
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// freshNetNS locks the test to a thread in an empty network namespace, which
// ends with the test.
func freshNetNS(t testing.TB) {
	t.Helper()
	lab.New(t) // or there is nowhere to test
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addLink(t testing.TB, l netlink.Link) int {
	t.Helper()
	must(t, netlink.LinkAdd(l))
	l, err := netlink.LinkByName(l.Attrs().Name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	return l.Attrs().Index
}

func addAddress(t testing.TB, index int, a *netlink.Addr) {
	t.Helper()
	must(t, netlink.AddrAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}, a))
}

func network(t testing.TB, text string) *net.IPNet {
	t.Helper()
	n, err := netlink.ParseIPNet(text)
	must(t, err)
	return n
}

func TestRead(t *testing.T) {
	freshNetNS(t)
	bridge := addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	veth := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan0", MasterIndex: 0}, PeerName: "lan0"})
	peer, err := netlink.LinkByName("lan0")
	must(t, err)
	must(t, netlink.LinkSetMasterByIndex(peer, bridge))

	const noDAD = unix.IFA_F_NODAD
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "203.0.113.9/24")})
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "203.0.113.7/24")})
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "192.0.2.1/32"), Peer: network(t, "192.0.2.2/32")})
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "2001:db8::1/64"), Flags: noDAD})
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "2001:db8::2/64"), Flags: noDAD, ValidLft: 1000, PreferedLft: 0})
	addAddress(t, veth, &netlink.Addr{IPNet: network(t, "2001:db8::3/64")})

	route := func(r netlink.Route) {
		t.Helper()
		r.Type = unix.RTN_UNICAST
		must(t, netlink.RouteAdd(&r))
	}
	any4, any6 := network(t, "0.0.0.0/0"), network(t, "::/0")
	route(netlink.Route{Dst: any4, LinkIndex: veth, Gw: net.ParseIP("203.0.113.1"), Protocol: unix.RTPROT_DHCP, Priority: 100})
	route(netlink.Route{Dst: any4, LinkIndex: veth, Gw: net.ParseIP("203.0.113.2"), Protocol: unix.RTPROT_STATIC})
	route(netlink.Route{Dst: any4, LinkIndex: bridge, Scope: unix.RT_SCOPE_LINK, Protocol: unix.RTPROT_BOOT, Table: 1000})
	route(netlink.Route{Dst: any4, LinkIndex: veth, Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("2001:db8::ff")}, Priority: 300})
	route(netlink.Route{Dst: any4, Priority: 400, Protocol: unix.RTPROT_STATIC, MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: veth, Gw: net.ParseIP("203.0.113.4")}, {LinkIndex: veth, Gw: net.ParseIP("203.0.113.3")}}})
	route(netlink.Route{Dst: network(t, "0.0.0.0/1"), LinkIndex: veth, Gw: net.ParseIP("203.0.113.1")})
	must(t, netlink.RouteAdd(&netlink.Route{Dst: any4, Type: unix.RTN_UNREACHABLE, Priority: 999}))
	route(netlink.Route{Dst: any6, LinkIndex: veth, Gw: net.ParseIP("2001:db8::ff"), Protocol: unix.RTPROT_RA, Priority: 1024})
	must(t, netlink.RouteAdd(&netlink.Route{Dst: any6, Type: unix.RTN_UNREACHABLE, Priority: 9999}))
	must(t, netlink.LinkSetARPOff(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: bridge}}))
	must(t, netlink.RouteAdd(&netlink.Route{Dst: network(t, "198.18.0.0/24"), LinkIndex: veth, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST}))

	facts, err := Read()
	must(t, err)
	again, err := Read()
	must(t, err)
	if !reflect.DeepEqual(facts, again) {
		t.Errorf("two readings differ:\n%+v\n%+v", facts, again)
	}

	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	if l, ok := facts.Link("lo"); !ok || l.Up || l.Kind != "device" || l.Index != 1 || len(l.Addresses) != 0 {
		t.Errorf("lo: %+v", l)
	}
	if l, ok := facts.Link("lan0"); !ok || l.Up || l.Carrier || l.Kind != "veth" || l.Master != "br0" {
		t.Errorf("lan0: %+v", l)
	}
	if l, ok := facts.Link("br0"); !ok || !l.Up || l.Kind != "bridge" || l.Master != "" || !l.PointToPoint {
		t.Errorf("br0: %+v", l)
	}
	wan, ok := facts.Link("wan0")
	if !ok || !wan.Up || wan.Carrier || wan.PointToPoint {
		t.Errorf("wan0: %+v", wan)
	}
	wantAddresses := []Address{
		{Prefix: prefix("192.0.2.1/32"), Peer: prefix("192.0.2.2/32")},
		{Prefix: prefix("203.0.113.7/24"), Secondary: true},
		{Prefix: prefix("203.0.113.9/24")},
		{Prefix: prefix("2001:db8::1/64")},
		{Prefix: prefix("2001:db8::2/64"), Deprecated: true},
		{Prefix: prefix("2001:db8::3/64"), Tentative: true},
	}
	if !reflect.DeepEqual(wan.Addresses, wantAddresses) {
		t.Errorf("addresses %+v\nwant      %+v", wan.Addresses, wantAddresses)
	}
	wantLocal := []netip.Prefix{prefix("192.0.2.1/32"), prefix("198.18.0.0/24"), prefix("203.0.113.7/32"), prefix("203.0.113.9/32")}
	if !reflect.DeepEqual(facts.Local, wantLocal) {
		t.Errorf("local %v\nwant  %v", facts.Local, wantLocal)
	}
	wantDefaults := []DefaultRoute{
		{Family: IPv4, Interface: "wan0", Gateway: addr("203.0.113.2"), Metric: 0, Table: MainTable, Protocol: ProtocolStatic},
		{Family: IPv4, Interface: "br0", Gateway: netip.Addr{}, Metric: 0, Table: 1000, Protocol: ProtocolBoot},
		{Family: IPv4, Interface: "wan0", Gateway: addr("203.0.113.1"), Metric: 100, Table: MainTable, Protocol: ProtocolDHCP},
		{Family: IPv4, Interface: "wan0", Gateway: addr("2001:db8::ff"), Metric: 300, Table: MainTable, Protocol: ProtocolBoot},
		{Family: IPv4, Interface: "wan0", Gateway: addr("203.0.113.3"), Metric: 400, Table: MainTable, Protocol: ProtocolStatic},
		{Family: IPv4, Interface: "wan0", Gateway: addr("203.0.113.4"), Metric: 400, Table: MainTable, Protocol: ProtocolStatic},
		{Family: IPv6, Interface: "wan0", Gateway: addr("2001:db8::ff"), Metric: 1024, Table: MainTable, Protocol: ProtocolRA},
	}
	if !reflect.DeepEqual(facts.Defaults, wantDefaults) {
		t.Errorf("defaults %+v\nwant     %+v", facts.Defaults, wantDefaults)
	}
}

// Reading needs nothing: `ipmasq plan` and `init` run as anybody.
func TestReadWithoutCapabilities(t *testing.T) {
	freshNetNS(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&header, &none[0]))
	if facts, err := Read(); err != nil || len(facts.Links) != 1 || facts.Links[0].Name != "lo" {
		t.Fatalf("%+v, %v", facts, err)
	}
}

func BenchmarkRead(b *testing.B) {
	freshNetNS(b)
	for i := range 8 {
		index := addLink(b, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br" + string(rune('0'+i))}})
		addAddress(b, index, &netlink.Addr{IPNet: network(b, "10.0."+string(rune('0'+i))+".1/24")})
	}
	for b.Loop() {
		if _, err := Read(); err != nil {
			b.Fatal(err)
		}
	}
}
