package gallery

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// retried is longer than a client waits before it sends a SYN again.
const retried = 3 * time.Second

// unanswered has clients try at the same time, and none of them get through.
func unanswered(from func(*gateway) *lab.Host, addresses ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		var group sync.WaitGroup
		for _, a := range addresses {
			group.Go(func() {
				if c, err := from(g).DialTCP(retried, a); err == nil {
					_ = c.Close()
					t.Errorf("%s answers, so that nothing is broken", a)
				}
			})
		}
		group.Wait()
	}
}

func server(g *gateway) *lab.Host { return g.Server }
func lan1(g *gateway) *lab.Host   { return g.LAN1 }
func lan2(g *gateway) *lab.Host   { return g.LAN2 }

// again applies another policy, and leaves open what is.
func again(policy string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		g.write(t, policy)
		g.run(t, 0, "apply", "--keep-flows", g.file())
	}
}

// opens holds a connection open until the test ends.
func opens(from func(*gateway) *lab.Host, to func(*gateway) *lab.Host, address string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		to(g).ServeTCP(fmt.Sprintf(":%d", netip.MustParseAddrPort(address).Port()))
		c, err := from(g).DialTCP(lab.Patience, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

const home6 = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "fd00:1::10"}
`

var flowExhibits = []exhibit{
	{
		name: "target that has no route", policy: replaced(home, "to: 192.168.1.10}", "to: 10.77.0.5}"), first: "target-unrouted", severity: "broken", evidence: "none leads to 10.77.0.5",
		build: func(t *testing.T, g *gateway) { g.GW.Run(t, "ip", "route", "add", "unreachable", "10.0.0.0/8") },
		mend:  func(t *testing.T, g *gateway) { g.GW.Route("10.77.0.5/32", "192.168.1.10") },
	},
	{
		name: "target mistyped", policy: replaced(home, "to: 192.168.1.10}", "to: 192.168.11.10}"), first: "target-unrouted", severity: "broken", evidence: "route: 192.168.11.10 leaves by eth0",
		mend: func(t *testing.T, g *gateway) { g.write(t, home); g.run(t, 0, "apply", g.file()) },
	},
	{
		name: "target is off", policy: replaced(home, "to: 192.168.1.10}", "to: 192.168.1.77}"), first: "target-silent", severity: "broken", evidence: "nobody answers ARP",
		breaks: all(askedOnAndOn, unanswered(server, lab.GatewayUplink+":80")),
		mend:   func(t *testing.T, g *gateway) { g.write(t, home); g.run(t, 0, "apply", g.file()) },
	},
	{
		name: "target is off, IPv6", policy: replaced(home6, "fd00:1::10\"}", "fd00:1::77\"}"), first: "target-silent", severity: "broken", evidence: "nobody answers neighbour discovery",
		breaks: all(askedOnAndOn, unanswered(server, "["+lab.GatewayUplinkv6+"]:80")),
		mend:   func(t *testing.T, g *gateway) { g.write(t, home6); g.run(t, 0, "apply", g.file()) },
	},
	{
		name: "target's default route leads elsewhere", policy: home, first: "target-answers-elsewhere", severity: "broken", evidence: "SYN_SENT [UNREPLIED]",
		breaks: all(func(_ *testing.T, g *gateway) { g.LAN1.ServeTCP(":80"); g.LAN1.DelRoute("default", lab.GatewayLAN) }, unanswered(server, lab.GatewayUplink+":80")),
		mend: func(t *testing.T, g *gateway) { // as the second remedy has it
			g.write(t, replaced(home, "to: 192.168.1.10}", "to: 192.168.1.10, masquerade: true}"))
			g.run(t, 0, "apply", g.file())
			published(true)(t, g)
		},
	},
	{
		name: "target's default route leads elsewhere, IPv6, and it is asked", policy: home6, args: []string{"--probe"}, first: "target-answers-elsewhere", severity: "broken",
		evidence: "probe: a connection of the gateway's own to [fd00:1::10]:80 is accepted",
		breaks:   all(func(_ *testing.T, g *gateway) { g.LAN1.ServeTCP(":80"); g.LAN1.DelRoute("default", lab.GatewayLANv6) }, unanswered(server, "["+lab.GatewayUplinkv6+"]:80")),
		mend: func(t *testing.T, g *gateway) {
			g.LAN1.Route("default", lab.GatewayLANv6)
			c, err := g.Server.DialTCP(lab.Patience, "["+lab.GatewayUplinkv6+"]:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		},
	},
	{
		name: "target written down with a wrong MAC", policy: home, first: "neighbour-fixed", severity: "broken", evidence: "192.168.1.10 on eth1 is PERMANENT, 02:00:00:00:00:99",
		breaks: all(ip("neigh replace 192.168.1.10 lladdr 02:00:00:00:00:99 dev eth1 nud permanent"), unanswered(server, lab.GatewayUplink+":80")),
		passes: web(lab.GatewayUplink),
	},
	{
		name: "IPv6 target written down with a wrong MAC", policy: home6, first: "neighbour-fixed", severity: "broken", evidence: "fd00:1::10 on eth1 is PERMANENT",
		breaks: all(ip("neigh replace fd00:1::10 lladdr 02:00:00:00:00:99 dev eth1 nud permanent"), unanswered(server, "["+lab.GatewayUplinkv6+"]:80")),
	},
	{
		name: "next hop written down with a wrong MAC", policy: home, first: "neighbour-fixed", severity: "broken", evidence: "203.0.113.1 on eth0 is PERMANENT",
		breaks: all(ip("neigh replace 203.0.113.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"), unanswered(lan1, lab.Outside+":80", lab.Outside+":443", "198.51.100.77:443")),
		passes: out(),
	},
	{
		name: "nothing listens at the target", policy: home, args: []string{"--probe"}, first: "target-refuses", severity: "broken",
		evidence: "probe: a connection of the gateway's own to 192.168.1.10:80 is refused",
		mend:     func(_ *testing.T, g *gateway) { g.LAN1.ServeTCP(":80") },
	},
	{
		name: "no hairpin", policy: replaced(home, "protocol: tcp, ports: 80, to: 192.168.1.10", "protocol: udp, ports: 5353, to: 192.168.1.10, hairpin: false"), first: "hairpin", severity: "broken",
		evidence: "has no hairpin for zone lan",
		breaks: func(t *testing.T, g *gateway) {
			if err := g.LAN2.SendUDP("", lab.GatewayUplink+":5353", "anybody?"); err != nil {
				t.Fatal(err)
			}
		},
		mend: func(t *testing.T, g *gateway) {
			g.write(t, replaced(home, "protocol: tcp, ports: 80", "protocol: udp, ports: 5353"))
			g.run(t, 0, "apply", g.file())
		},
	},
	{
		name: "the next hop is gone", policy: home, first: "gateway-silent", severity: "broken", evidence: "203.0.113.1 on eth0 is ",
		breaks: func(t *testing.T, g *gateway) {
			g.ISP.Down("eth0")
			g.GW.FlushNeighbors("eth0")
			g.GW.Up("eth0")
			g.Neighbor.Up("eth0")
			_ = g.GW.SendUDP("", lab.Outside+":53", "anybody?")
		},
		mend: func(t *testing.T, g *gateway) {
			g.ISP.Up("eth0")
			if _, err := g.GW.Ping(lab.ISP, lab.Patience, lab.PingOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "the provider drops what is from this address", policy: home, first: "uplink-silent", severity: "broken", evidence: "[UNREPLIED]",
		breaks: all(func(t *testing.T, g *gateway) {
			g.ISP.Feed(t, "table ip x {\n chain f { type filter hook forward priority 0; ip saddr 203.0.113.2 drop; }\n}\n", "nft", "-f", "-")
		}, unanswered(lan1, lab.Outside+":80", lab.Outside+":443", "198.51.100.77:443")),
		mend: func(t *testing.T, g *gateway) {
			g.ISP.Run(t, "nft", "flush", "ruleset")
			g.Server.ServeTCP(":80")
			reaches(out4)(t, g)
		},
	},
	{
		name: "flow older than the rules", options: []lab.GatewayOption{lab.InsideRoutes()}, first: "flows-untranslated", severity: "broken", evidence: "is not translated, and masquerade lan-wan",
		breaks: all(func(_ *testing.T, g *gateway) { g.Forwarding(true) }, tracked, opens(lan1, server, lab.Outside+":80"), again(home)),
	},
	{
		name: "flow older than the rules, IPv6", options: []lab.GatewayOption{lab.InsideRoutes()}, first: "flows-untranslated", severity: "broken", evidence: "is not translated, and masquerade lan-wan",
		breaks: all(func(_ *testing.T, g *gateway) { g.Forwarding(true) }, tracked, opens(lan1, server, "["+lab.Outsidev6+"]:80"), again(home)),
	},
	{
		name: "flow of a port forward that leads elsewhere now", policy: home, first: "flows-stale", severity: "risk", evidence: "would go to 192.168.1.11:80",
		breaks: all(opens(server, lan1, lab.GatewayUplink+":80"), again(replaced(home, "to: 192.168.1.10}", "to: 192.168.1.11}"))),
	},
	{
		name: "flow that is forbidden now", policy: home, first: "flows-stale", severity: "risk", evidence: "would be rejected, by forward no-web",
		breaks: all(opens(lan1, server, lab.Outside+":80"), again(home+"forward:\n  rules:\n    - {name: no-web, from: lan, to: wan, protocol: tcp, ports: 80, action: reject}\n")),
	},
	{
		name: "FTP without its helper", policy: home, first: "helper-missing", severity: "risk", evidence: "has no helper, and goes by masquerade lan-wan",
		breaks: opens(lan1, server, lab.Outside+":21"),
		mend: func(t *testing.T, g *gateway) {
			g.write(t, replaced(home, "{from: lan, to: wan}", "{from: lan, to: wan, helpers: [ftp]}"))
			g.run(t, 0, "apply", g.file())
			g.run(t, 0, "connections kill", "--yes", "--destination-port", "21")
		},
	},
	{
		name: "TFTP without its helper", policy: home, first: "helper-missing", severity: "risk", evidence: ":69",
		breaks: func(t *testing.T, g *gateway) {
			if err := g.LAN1.SendUDP("", lab.Outside+":69", "\x00\x01file\x00octet\x00"); err != nil {
				t.Fatal(err)
			}
		},
		mend: func(t *testing.T, g *gateway) {
			g.write(t, replaced(home, "{from: lan, to: wan}", "{from: lan, to: wan, helpers: [tftp]}"))
			g.run(t, 0, "apply", g.file())
			g.run(t, 0, "connections kill", "--yes", "--destination-port", "69")
		},
	},
	{
		name: "leaks that were stopped", policy: home, first: "leaks-stopped", severity: "note", evidence: "1 packet of masquerade lan-wan",
		breaks: func(_ *testing.T, g *gateway) {
			g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 4000, DstPort: 80, Flags: lab.RST}.Bytes())
			g.Settle()
		},
		byHand: "the counter stays",
	},
	{
		name: "somebody drops ICMP", policy: home, first: "pmtu-blocked", severity: "risk", evidence: "drop",
		breaks: nft("table inet guard {\n chain f { type filter hook forward priority -10; meta l4proto { icmp, ipv6-icmp } counter drop; }\n}\n"),
	},
	{
		name: "somebody drops ICMP, and the uplink takes less", policy: home, first: "pmtu-blocked", severity: "broken", evidence: "eth0 takes 1400 bytes, eth1 1500",
		breaks: all(func(_ *testing.T, g *gateway) { g.GW.SetMTU("eth0", 1400) }, restores("iptables-nft-restore", "*filter\n-A OUTPUT -p icmp -m icmp --icmp-type 3 -j DROP\nCOMMIT\n")),
	},
}

// tracked has conntrack look at packets before there is any policy.
func tracked(t *testing.T, g *gateway) {
	g.GW.Feed(t, "table inet watcher {\n chain f { type filter hook forward priority 0; ct state new counter; }\n}\n", "nft", "-f", "-")
}

func TestFlows(t *testing.T) { show(t, flowExhibits) }

// busy are healthy gateways with traffic.
var busy = []exhibit{
	{name: "with flows of all kinds", policy: home, breaks: all(opens(lan1, server, lab.Outside+":80"), opens(lan2, server, "["+lab.Outsidev6+"]:443"),
		opens(server, lan1, lab.GatewayUplink+":80"), func(t *testing.T, g *gateway) {
			c, err := g.LAN2.DialTCP(lab.Patience, lab.GatewayUplink+":80") // by hairpin
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		})},
	{name: "with a target that is asked", policy: home, args: []string{"--probe"}, breaks: func(_ *testing.T, g *gateway) { g.LAN1.ServeTCP(":80") }},
}

func TestBusy(t *testing.T) { show(t, busy) }

// askedOnAndOn has the gateway ask for a neighbour for longer than the test takes.
// After three seconds it would forget that nobody answers, until it asks again.
func askedOnAndOn(_ *testing.T, g *gateway) {
	g.GW.Sysctl("net.ipv4.neigh.eth1.mcast_solicit", "100")
	g.GW.Sysctl("net.ipv6.neigh.eth1.mcast_solicit", "100")
}
