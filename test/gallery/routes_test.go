package gallery

import (
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	viaISP   = "203.0.113.1"
	viaISPv6 = "2001:db8:113::1"
)

// pool is home with addresses of the gateway's own instead of a masquerade.
const pool = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
snat:
  - {name: pool, from: lan, to: wan, addresses: ADDRESSES}
`

// following has an uplink wherever the default route leads.
const following = `
zones:
  lan: {interfaces: [eth1]}
  wan: {default_route: true}
masquerade:
  - {from: lan, to: wan}
`

// uplinks has two of them, each answered by itself.
const uplinks = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0], symmetric: {gateway: [203.0.113.1, "2001:db8:113::1"]}}
  wan2: {interfaces: [eth3], symmetric: {gateway: [192.0.2.1, "2001:db8:2::1"]}}
masquerade:
  - {from: lan, to: [wan, wan2]}
port_forward:
  - {name: web, from: [wan, wan2], protocol: tcp, ports: 80, to: 192.168.1.10}
`

var routeExhibits = []exhibit{
	{
		name: "uplink without an IPv4 address", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.DelAddr("eth0", "203.0.113.2/24") },
		passes: out(), first: "no-address", severity: "broken", evidence: "eth0 holds 2001:db8:113::2/64",
		mend: func(_ *testing.T, g *gateway) { g.GW.Addr("eth0", "203.0.113.2/24"); g.GW.Route("default", viaISP) },
	},
	{
		name: "uplink without an IPv6 address", policy: replaced(home, `"fd00:1::/64"`, `"fd00:1::/64", "2001:db8:1::/64"`),
		build:  func(_ *testing.T, g *gateway) { g.GW.Addr("eth1", "2001:db8:1::1/64") },
		breaks: func(_ *testing.T, g *gateway) { g.GW.DelAddr("eth0", "2001:db8:113::2/64") },
		passes: outv6(), first: "no-address", severity: "risk", evidence: "eth0 holds 203.0.113.2/24",
		mend: func(_ *testing.T, g *gateway) {
			g.GW.Addr("eth0", "2001:db8:113::2/64")
			g.GW.Route("default", viaISPv6)
		},
	},
	{
		name: "inside without an address", policy: home,
		breaks: func(_ *testing.T, g *gateway) {
			g.GW.DelAddr("eth1", "192.168.1.1/24")
			g.GW.DelAddr("eth1", "fd00:1::1/64")
		},
		passes: out(), first: "no-address", severity: "broken", evidence: "eth1 holds",
		mend: func(_ *testing.T, g *gateway) { g.GW.Addr("eth1", "192.168.1.1/24") },
	},
	{
		name: "address that a neighbour has", policy: home,
		breaks: func(t *testing.T, g *gateway) {
			g.ISP.Addr("eth0", "2001:db8:113::77/64")
			sysctls("net.ipv6.conf.eth0.accept_dad", "1", "net.ipv6.conf.eth0.dad_transmits", "1")(t, g)
			g.GW.Run(t, "ip", "-6", "address", "add", "2001:db8:113::77/64", "dev", "eth0")
			until(t, "the address is found to be taken", func() bool {
				return strings.Contains(g.GW.Run(t, "ip", "-6", "address", "show", "dev", "eth0"), "dadfailed")
			})
		},
		first: "duplicate-address", severity: "broken", evidence: "2001:db8:113::77/64 on eth0 is dadfailed",
		mend: func(t *testing.T, g *gateway) {
			g.GW.Run(t, "ip", "-6", "address", "delete", "2001:db8:113::77/64", "dev", "eth0")
		},
	},
	{
		name: "no IPv4 default route", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.DelRoute("default", viaISP) },
		passes: out(), first: "no-default-route", severity: "broken", evidence: "no default of IPv4",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("default", viaISP) },
	},
	{
		name: "no IPv6 default route", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.DelRoute("default", viaISPv6) },
		passes: outv6(), first: "no-default-route", severity: "broken", evidence: "no default of IPv6",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("default", viaISPv6) },
	},
	{
		name: "IPv6 default route lost to forwarding", policy: home,
		breaks: func(t *testing.T, g *gateway) {
			sysctls("net.ipv6.conf.eth0.accept_ra", "1")(t, g)
			g.GW.DelRoute("default", viaISPv6)
		},
		first: "ipv6-default-lost", severity: "broken", evidence: "sysctl net.ipv6.conf.eth0.accept_ra is 1",
	},
	{
		name: "default route by another link", options: []lab.GatewayOption{lab.SecondUplink()}, policy: home,
		breaks: func(_ *testing.T, g *gateway) { g.GW.Route("default", "192.0.2.1 dev eth3") },
		passes: out(), first: "default-route-elsewhere", severity: "broken", evidence: "default via 192.0.2.1 dev eth3",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("default", viaISP) },
	},
	{
		name: "no default route to follow", policy: following, breaks: func(_ *testing.T, g *gateway) {
			g.GW.DelRoute("default", viaISP)
			g.GW.DelRoute("default", viaISPv6)
		},
		passes: out(), first: "no-default-route", severity: "broken", evidence: "no default of IPv4",
		mend: func(_ *testing.T, g *gateway) {
			g.GW.Route("default", viaISP)
			g.GW.Route("default", viaISPv6)
		},
	},
	{
		name: "default route by the inside", policy: following, breaks: func(_ *testing.T, g *gateway) { g.GW.Route("default", "192.168.1.10 dev eth1") },
		passes: out(), first: "default-route-elsewhere", severity: "broken", evidence: "default via 192.168.1.10 dev eth1",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("default", viaISP) },
	},
	{
		name: "routes of a VPN before the default route", policy: home, breaks: func(_ *testing.T, g *gateway) {
			g.GW.Stub("tun9")
			g.GW.Addr("tun9", "10.9.0.2/24")
			g.GW.Route("0.0.0.0/1", "10.9.0.1 dev tun9")
			g.GW.Route("128.0.0.0/1", "10.9.0.1 dev tun9")
		},
		passes: out(), first: "default-route-elsewhere", severity: "broken", evidence: "leaves by tun9",
		mend: func(_ *testing.T, g *gateway) { g.GW.DeleteLink("tun9") },
	},
	{
		name: "inside and outside in one network", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.Addr("eth1", "203.0.113.77/24") },
		first: "networks-overlap", severity: "broken", evidence: "eth1 holds 203.0.113.77/24",
		mend: func(_ *testing.T, g *gateway) { g.GW.DelAddr("eth1", "203.0.113.77/24") },
	},
	{
		name: "zone of another network than the link's", policy: replaced(home, "192.168.1.0/24", "192.168.11.0/24"),
		passes: out(), first: "network-in-no-zone", severity: "broken", evidence: "eth1 holds 192.168.1.1/24", mend: writes(home),
	},
	{
		name: "no route to a network inside", build: func(_ *testing.T, g *gateway) { g.LAN1.Addr("lo", "192.168.50.1/32") }, policy: replaced(home, "192.168.1.0/24", "192.168.1.0/24, 192.168.50.0/24"),
		passes: ping(lan1, lab.Outside, "192.168.50.1"), first: "inside-unrouted", severity: "risk", evidence: "leaves by eth0",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("192.168.50.0/24", "192.168.1.10 dev eth1") },
	},
	{
		name: "pool that the host does not hold", policy: replaced(pool, "ADDRESSES", "[203.0.113.10-203.0.113.12]"),
		passes: out(), first: "address-not-held", severity: "broken", evidence: "pool of snat pool",
	},
	{
		name: "IPv6 pool that the host does not hold", policy: replaced(pool, "ADDRESSES", `["2001:db8:113::10"]`),
		passes: outv6(), first: "address-not-held", severity: "broken", evidence: "2001:db8:113::10",
	},
	{
		name: "1:1 address that the host does not hold", policy: home + "one_to_one:\n  - {name: mail, zone: wan, outside: 203.0.113.20, inside: 192.168.1.11}\n",
		passes: ping(lan2, lab.Outside, ""), first: "address-not-held", severity: "broken", evidence: "203.0.113.20",
	},
	{
		name: "pool that is routed here, perhaps", policy: replaced(pool, "ADDRESSES", "[198.18.7.7]"),
		first: "address-not-held", severity: "risk", evidence: "198.18.7.7",
	},
	{
		name: "strict filter on the second uplink", options: []lab.GatewayOption{lab.SecondUplink()}, policy: replaced(home, "[eth0]", "[eth0, eth3]"),
		breaks: sysctls("net.ipv4.conf.eth3.rp_filter", "1"),
		passes: web(lab.GatewayUplink2), first: "rp-filter-strict", severity: "broken", evidence: "sysctl net.ipv4.conf.eth3.rp_filter is 1",
	},
	{
		name: "strict filter on a symmetric uplink", options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks,
		breaks: sysctls("net.ipv4.conf.eth3.rp_filter", "1"),
		passes: web(lab.GatewayUplink2), first: "rp-filter-strict", severity: "broken", evidence: "sysctl net.ipv4.conf.eth3.rp_filter is 1",
	},
	{
		name: "rule of a symmetric uplink gone", options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks,
		breaks: func(t *testing.T, g *gateway) {
			for line := range strings.Lines(g.GW.Run(t, "ip", "rule", "show")) {
				if pref, _, _ := strings.Cut(line, ":"); strings.Contains(line, "fwmark") {
					g.GW.Run(t, "ip", "rule", "delete", "pref", pref)
				}
			}
		},
		first: "routing-drift", severity: "broken", evidence: "missing: rule",
	},
}

func TestRoutes(t *testing.T) { show(t, routeExhibits) }

// until waits for what something outside has to bring about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(6 * lab.Patience)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
