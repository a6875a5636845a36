package gallery

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// home is a policy of a small network.
const home = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}
`

// bridged is the same with a bridge inside.
var bridged = replaced(home, "eth1", "br0")

func bridgedLAN() []lab.GatewayOption {
	return []lab.GatewayOption{lab.BridgedLAN(), lab.Interfaces(lab.Names{LAN: "br0"})}
}

// writes is a remedy that nobody but the user can carry out: another policy.
func writes(policy string) func(t *testing.T, g *gateway) {
	return func(t *testing.T, g *gateway) { g.write(t, policy); g.run(t, 0, "apply", g.file()) }
}

// sysctls sets settings of the gateway: name, value, and so on.
func sysctls(pairs ...string) func(t *testing.T, g *gateway) {
	return func(_ *testing.T, g *gateway) {
		for i := 0; i < len(pairs); i += 2 {
			g.GW.Sysctl(pairs[i], pairs[i+1])
		}
	}
}

var linkExhibits = []exhibit{
	{
		name: "IPv4 forwarding off", policy: home, breaks: sysctls("net.ipv4.ip_forward", "0"),
		passes: out(), first: "forwarding-off", severity: "broken", evidence: "sysctl net.ipv4.ip_forward is 0",
	},
	{
		name: "IPv6 forwarding off", policy: home, breaks: sysctls("net.ipv6.conf.all.forwarding", "0"),
		passes: outv6(), first: "forwarding-off", severity: "broken", evidence: "sysctl net.ipv6.conf.all.forwarding is 0",
	},
	{
		name: "IPv4 forwarding off on a link", policy: home, breaks: sysctls("net.ipv4.conf.eth1.forwarding", "0"),
		passes: out(), first: "forwarding-off-link", severity: "broken", evidence: "sysctl net.ipv4.conf.eth1.forwarding is 0",
	},
	{
		name: "forwarding off on a link with a dot in its name", policy: replaced(home, "eth1", "eth1.7"),
		options: []lab.GatewayOption{lab.Interfaces(lab.Names{LAN: "eth1.7"})},
		breaks:  sysctls("net/ipv4/conf/eth1.7/forwarding", "0"),
		passes:  out(), first: "forwarding-off-link", severity: "broken", evidence: "sysctl net/ipv4/conf/eth1.7/forwarding is 0",
	},
	{
		name: "IPv6 turned off on a link", policy: home, breaks: sysctls("net.ipv6.conf.eth1.disable_ipv6", "1"),
		passes: outv6(), first: "ipv6-disabled", severity: "broken", evidence: "sysctl net.ipv6.conf.eth1.disable_ipv6 is 1",
		mend: func(_ *testing.T, g *gateway) { g.GW.Addr("eth1", "fd00:1::1/64") },
	},
	{
		name: "link is no IPv6 router", policy: home, breaks: sysctls("net.ipv6.conf.eth1.forwarding", "0"),
		first: "ipv6-no-router", severity: "risk", evidence: "sysctl net.ipv6.conf.eth1.forwarding is 0",
	},
	{
		name: "uplink's name mistyped", policy: replaced(home, "eth0", "etho"),
		passes: out(), first: "uplink-missing", severity: "broken", evidence: "links of the host: ", mend: writes(home),
	},
	{
		name: "uplink gone", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.DeleteLink("eth0") },
		first: "uplink-missing", severity: "broken", evidence: "zone wan is on eth0",
		mend: func(_ *testing.T, g *gateway) { g.GW.Stub("eth0") },
	},
	{
		name: "one of two uplinks missing", policy: replaced(home, "[eth0]", "[eth0, ppp0]"),
		first: "uplink-missing", severity: "risk", evidence: "zone wan is on ppp0", mend: writes(home),
	},
	{
		name: "inside's name mistyped", policy: replaced(home, "eth1", "eht1"),
		passes: out(), first: "zone-without-link", severity: "broken", evidence: "zone lan is on eht1", mend: writes(home),
	},
	{
		name: "port of a bridge in a zone", options: bridgedLAN(), policy: replaced(home, "eth1", "p1"),
		passes: out(), first: "port-of-bridge", severity: "broken", evidence: "the master of p1 is br0", mend: writes(bridged),
	},
	{
		name: "uplink down", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.Down("eth0") },
		passes: out(), first: "link-down", severity: "broken", evidence: "eth0 does not have the flag UP",
		mend: func(_ *testing.T, g *gateway) { g.GW.Route("default", viaISP) },
	},
	{
		name: "inside down", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.Down("eth1") },
		passes: out(), first: "link-down", severity: "broken", evidence: "eth1 does not have the flag UP",
	},
	{
		name: "uplink without carrier", policy: replaced(home, "eth0", "eth8"),
		build: func(_ *testing.T, g *gateway) {
			g.Link(g.GW, "eth8", g.ISP, "eth8")
			g.GW.Addr("eth8", "198.18.0.2/30", "2001:db8:8::2/64")
			g.ISP.Addr("eth8", "198.18.0.1/30", "2001:db8:8::1/64")
			g.GW.Route("default", "198.18.0.1")
			g.GW.Route("default", "2001:db8:8::1")
		},
		breaks: func(_ *testing.T, g *gateway) { g.ISP.Down("eth8") },
		passes: out(), first: "no-carrier", severity: "broken", evidence: "eth8 is UP and not LOWER_UP",
		mend: func(_ *testing.T, g *gateway) { g.ISP.Up("eth8") },
	},
	{
		name: "inside without carrier", policy: replaced(home, "eth1", "eth8"),
		build: func(_ *testing.T, g *gateway) {
			g.GW.DelAddr("eth1", "192.168.1.1/24")
			g.GW.DelAddr("eth1", "fd00:1::1/64")
			g.Link(g.GW, "eth8", g.DMZ, "eth8")
			g.GW.Addr("eth8", "192.168.1.1/24", "fd00:1::1/64")
		},
		breaks: func(_ *testing.T, g *gateway) { g.DMZ.Down("eth8") },
		first:  "no-carrier", severity: "risk", evidence: "eth8 is UP and not LOWER_UP",
		mend: func(_ *testing.T, g *gateway) { g.DMZ.Up("eth8") },
	},
	{
		name: "target behind a link without carrier", policy: replaced(home, "eth1", "eth8"),
		build: func(_ *testing.T, g *gateway) {
			g.GW.DelAddr("eth1", "192.168.1.1/24")
			g.GW.DelAddr("eth1", "fd00:1::1/64")
			g.Link(g.GW, "eth8", g.DMZ, "eth8")
			g.GW.Addr("eth8", "192.168.1.1/24", "fd00:1::1/64")
		},
		breaks: func(t *testing.T, g *gateway) {
			g.DMZ.Down("eth8")
			unanswered(server, lab.GatewayUplink+":80")(t, g)
		},
		first: "no-carrier", severity: "broken", evidence: "192.168.1.10 on eth8 is ",
		mend: func(_ *testing.T, g *gateway) { g.DMZ.Up("eth8") },
	},
	{
		name: "uplink of a small MTU", policy: home, breaks: func(_ *testing.T, g *gateway) { g.GW.SetMTU("eth0", 1492) },
		first: "mtu-small", severity: "risk", evidence: "the MTU of eth0 is 1492",
		mend: writes(replaced(home, "[eth0]", "[eth0], mss_clamp: pmtu")),
	},
	{
		name: "bridge's own traffic filtered", options: bridgedLAN(), policy: bridged,
		build: func(t *testing.T, g *gateway) {
			lab.Require(t, lab.BrNetfilter())
			sysctls("net.bridge.bridge-nf-call-iptables", "0", "net.bridge.bridge-nf-call-ip6tables", "0")(t, g)
		},
		breaks: sysctls("net.bridge.bridge-nf-call-iptables", "1"),
		passes: ping(lan1, lab.LAN2, ""), first: "bridged-filtered", severity: "broken", evidence: "sysctl net.bridge.bridge-nf-call-iptables is 1",
	},
	{
		name: "services of the loopback open to the uplink", policy: home, breaks: sysctls("net.ipv4.conf.eth0.route_localnet", "1"),
		first: "route-localnet", severity: "risk", evidence: "sysctl net.ipv4.conf.eth0.route_localnet is 1",
	},
	{
		name: "services of the loopback open to all", policy: home, breaks: sysctls("net.ipv4.conf.all.route_localnet", "1"),
		first: "route-localnet", severity: "risk", evidence: "sysctl net.ipv4.conf.all.route_localnet is 1",
	},
}

func TestLinks(t *testing.T) { show(t, linkExhibits) }

// Why a link that is no router is worth a word: what it tells its neighbours.
func TestNoRouter(t *testing.T) {
	t.Parallel()
	const advertisement, routerFlag = 136, 0x80 // RFC 4861 4.4
	g := newGateway(t)
	g.write(t, home)
	g.run(t, 0, "apply", g.file())
	for _, value := range []string{"1", "0"} {
		g.GW.Sysctl("net.ipv6.conf.eth1.forwarding", value)
		g.LAN1.FlushNeighbors("eth0")
		seen := g.LAN1.Capture("eth0", func(p *lab.Packet) bool {
			return !p.Outgoing && p.Proto == 58 && p.ICMPType == advertisement && p.Src.String() == lab.GatewayLANv6
		})
		if err := ping(lan1, lab.GatewayLANv6, "")(g, lab.Patience); err != nil {
			t.Fatal(err)
		}
		packets, err := seen.Wait(1, lab.Patience)
		if err != nil {
			t.Fatal(err)
		}
		const behindHeader = 40 + 4
		if flag := packets[0].IP[behindHeader]&routerFlag != 0; flag != (value == "1") {
			t.Errorf("forwarding is %s, and the gateway says that it is a router: %v", value, flag)
		}
	}
}
