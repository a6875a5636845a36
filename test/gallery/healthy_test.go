package gallery

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

func replaced(policy, old, new string) string { return strings.ReplaceAll(policy, old, new) }

// waiting is counting with nothing that comes in from outside.
func waiting() string {
	before, _, _ := strings.Cut(counting, "port_forward:")
	return before + "gateway: {conntrack: {accounting: true}}\n"
}

// libvirtRules are those of libvirt's network "default", as its nftables backend
// makes them.
const libvirtRules = `
table ip libvirt_network {
	chain forward {
		type filter hook forward priority filter; policy accept;
		counter jump guest_cross
		counter jump guest_input
		counter jump guest_output
	}
	chain guest_output {
		ip saddr 192.168.122.0/24 iif "virbr0" counter accept
		iif "virbr0" counter reject
	}
	chain guest_input {
		oif "virbr0" ip daddr 192.168.122.0/24 ct state established,related counter accept
		oif "virbr0" counter reject
	}
	chain guest_cross {
		iif "virbr0" oif "virbr0" counter accept
	}
	chain guest_nat {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 counter return
		ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 counter return
		meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
		meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
		ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade
	}
}
`

// libvirtTables are the same as its older backend has them.
const libvirtTables = `*filter
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWX - [0:0]
:LIBVIRT_INP - [0:0]
:LIBVIRT_OUT - [0:0]
-A INPUT -j LIBVIRT_INP
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
-A OUTPUT -j LIBVIRT_OUT
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 67 -j ACCEPT
-A LIBVIRT_OUT -o virbr0 -p udp -m udp --dport 68 -j ACCEPT
COMMIT
*nat
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s 192.168.122.0/24 -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s 192.168.122.0/24 -d 255.255.255.255/32 -j RETURN
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p tcp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p udp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
`

// tailscaleTables are Tailscale's, which accepts subnet routes and serves some.
const tailscaleTables = `*filter
:ts-forward - [0:0]
:ts-input - [0:0]
-A INPUT -j ts-input
-A FORWARD -j ts-forward
-A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
-A ts-forward -s 100.64.0.0/10 -o tailscale0 -j DROP
-A ts-forward -o tailscale0 -j ACCEPT
-A ts-input -s 100.101.102.103/32 -i lo -j ACCEPT
-A ts-input -s 100.115.92.0/23 ! -i tailscale0 -j RETURN
-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP
-A ts-input -i tailscale0 -j ACCEPT
-A ts-input -p udp -m udp --dport 41641 -j ACCEPT
COMMIT
*nat
:ts-postrouting - [0:0]
-A POSTROUTING -j ts-postrouting
-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
COMMIT
`

// libvirt makes the bridge of a host without a running machine.
func libvirt(t *testing.T, g *gateway) {
	t.Helper()
	g.GW.Bridge("virbr0")
	g.GW.Addr("virbr0", "192.168.122.1/24")
}

func tailscale(t *testing.T, g *gateway) {
	t.Helper()
	g.GW.Stub("tailscale0")
	g.GW.SetMTU("tailscale0", 1280)
	g.GW.Addr("tailscale0", "100.101.102.103/32", "fd7a:115c:a1e0::3/128")
	g.GW.Route("100.100.100.100/32", "dev tailscale0 table 52")
	g.GW.Route("100.64.0.0/10", "dev tailscale0 table 52")
	g.GW.Route("fd7a:115c:a1e0::/48", "dev tailscale0 table 52")
	for _, family := range []string{"-4", "-6"} {
		g.GW.Run(t, "ip", family, "rule", "add", "pref", "5210", "fwmark", "0x80000/0xff0000", "lookup", "main")
		g.GW.Run(t, "ip", family, "rule", "add", "pref", "5230", "fwmark", "0x80000/0xff0000", "lookup", "default")
		g.GW.Run(t, "ip", family, "rule", "add", "pref", "5250", "fwmark", "0x80000/0xff0000", "unreachable")
		g.GW.Run(t, "ip", family, "rule", "add", "pref", "5270", "lookup", "52")
	}
	restores("iptables-nft-restore", tailscaleTables)(t, g)
}

// feeds gives a program rules.
func feeds(program, rules string, args ...string) func(t *testing.T, g *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		lab.Require(t, lab.Binary(program))
		g.GW.Feed(t, rules, program, args...)
	}
}

var healthyExhibits = []exhibit{
	{name: "plain", passes: out(), policy: counting},
	{name: "plain, with notes", passes: out(), policy: home},
	// What we have in the tables of iptables is ours, and not to be deleted.
	{name: "the iptables backend", passes: out(), policy: home + "gateway: {backend: iptables, conntrack: {accounting: true}}\n"},
	{name: "not applied yet", policy: counting, given: true},
	{name: "uplink by the default route", passes: out(), policy: replaced(counting, "{interfaces: [eth0]}", "{default_route: true}")},
	{
		name: "IPv4 alone", passes: out(), policy: replaced(counting, `, "fd00:1::/64"`, ""),
		build: func(_ *testing.T, g *gateway) {
			g.GW.DelRoute("default", viaISPv6)
			g.GW.DelAddr("eth0", "2001:db8:113::2/64")
			g.GW.DelAddr("eth1", "fd00:1::1/64")
		},
	},
	{name: "bridge", options: bridgedLAN(), policy: replaced(bridged, "masquerade:", "gateway: {conntrack: {accounting: true}}\nmasquerade:") + "forward:\n  rules:\n    - {from: lan, to: lan, action: accept}\n"},
	{name: "two uplinks", passes: out(), options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks + "gateway: {conntrack: {accounting: true}}\n",
		build: sysctls("net.ipv4.conf.all.rp_filter", "2")},
	{name: "daemon", passes: out(), policy: counting, breaks: func(t *testing.T, g *gateway) { g.daemon(t, g.program, g.state("")) }},
	{
		name: "a line that waits", passes: out(), options: []lab.GatewayOption{lab.SecondUplink()},
		policy: replaced(waiting(), "{interfaces: [eth0]}", "{interfaces: [eth0, eth3, wwan*]}"),
		build: func(t *testing.T, g *gateway) {
			g.GW.Route("default", "192.0.2.1 dev eth3 metric 900")
			sysctls("net.ipv4.conf.eth3.rp_filter", "1")(t, g)
		},
	},
	{
		name: "an address of its own alone", passes: out(), policy: counting, build: func(_ *testing.T, g *gateway) {
			g.GW.DelAddr("eth0", "203.0.113.2/24")
			g.GW.Addr("eth0", "203.0.113.2/32")
			g.GW.Route("default", "203.0.113.1 dev eth0 onlink")
		},
	},
	{name: "networks wider than the links'", passes: out(), policy: replaced(counting, "192.168.1.0/24", "192.168.0.0/16, 10.0.0.0/8")},
	{
		name: "networks behind a router", passes: ping(lan1, lab.Outside, "192.168.50.1"), policy: replaced(counting, "192.168.1.0/24", "192.168.1.0/24, 192.168.50.0/24"),
		build: func(_ *testing.T, g *gateway) {
			g.LAN1.Addr("lo", "192.168.50.1/32")
			g.GW.Route("192.168.50.0/24", "192.168.1.10 dev eth1")
		},
	},
	{
		name: "unique local addresses inside, IPv4 outside", passes: out(), policy: counting, build: func(_ *testing.T, g *gateway) {
			g.GW.DelRoute("default", viaISPv6)
			g.GW.DelAddr("eth0", "2001:db8:113::2/64")
		},
	},
	{
		name: "pool", passes: out(), policy: replaced(pool, "ADDRESSES", `[203.0.113.10-203.0.113.12, "2001:db8:113::10"]`) + "gateway: {conntrack: {accounting: true}}\n",
		build: func(_ *testing.T, g *gateway) {
			g.GW.Addr("eth0", "203.0.113.10/32", "203.0.113.11/32", "203.0.113.12/32", "2001:db8:113::10/128")
		},
	},
	{name: "port that nothing is plugged into", passes: out(), policy: replaced(counting, "[eth1]", "[eth1, eth8]"), build: func(_ *testing.T, g *gateway) {
		g.Link(g.GW, "eth8", g.DMZ, "eth8")
		g.DMZ.Down("eth8")
	}},
	{name: "libvirt", passes: out(), policy: counting, build: func(t *testing.T, g *gateway) { libvirt(t, g); feeds("nft", libvirtRules, "-f", "-")(t, g) }},
	{name: "libvirt, older", passes: out(), policy: counting, build: func(t *testing.T, g *gateway) { libvirt(t, g); restores("iptables-nft-restore", libvirtTables)(t, g) }},
	{name: "libvirt's bridge a zone", build: func(t *testing.T, g *gateway) { libvirt(t, g); feeds("nft", libvirtRules, "-f", "-")(t, g) },
		policy: replaced(counting, "  wan: {", "  vms: {interfaces: [virbr0], networks: [192.168.122.0/24]}\n  wan: {")},
	{name: "Tailscale", passes: out(), policy: counting, build: tailscale},
}

func TestHealthy(t *testing.T) { show(t, healthyExhibits) }
