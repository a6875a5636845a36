package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The mark and the table are those that the policy names.
func TestSymmetricMarkAndTable(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	g := applied(t, topo, symmetricZones("", `, symmetric: {gateway: [192.0.2.1, "2001:db8:2::1"], mark: 0x200/0xff00, table: 77}`))
	// Somebody else counts answers by that mark.
	g.GW.Feed(t, "table inet other {\n counter v4 { }\n counter v6 { }\n chain forward {\n type filter hook forward priority 5\n"+
		" oifname eth3 meta mark & 0xff00 == 0x200 meta nfproto ipv4 counter name v4\n oifname eth3 meta mark & 0xff00 == 0x200 meta nfproto ipv6 counter name v6\n }\n}\n", "nft", "-f", "-")
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) {
		reaches(t, g, ip)
		counter := map[bool]string{false: "v4", true: "v6"}[ip.v6()]
		if out := g.GW.Run(t, "nft", "list", "counter", "inet", "other", counter); strings.Contains(out, "packets 0 ") {
			t.Errorf("no answer had the mark:\n%s", out)
		}
		// Without the table the answers go astray.
		flag := map[bool]string{false: "-4", true: "-6"}[ip.v6()]
		g.GW.Run(t, "ip", flag, "route", "flush", "table", "77")
		tcp(g.Server, ip.uplink2, 81).dropped(t)
		g.ipmasq(t, 0, "apply", g.dir+"/policy.yaml")
		tcp(g.Server, ip.uplink2, 81).sees(t, ip.outside)
	})
	leaks.none(t)
	g.GW.Run(t, "nft", "delete", "table", "inet", "other")
	g.delete(t)
}

// Marks of rules stand beside those by which answers find their uplink: outgoing
// flows take the way of their rule's mark, answers that of the flow, and the
// bits of each are as if the other were not there.
func TestSymmetricWithMarksOfRules(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	g := applied(t, topo, symmetricZones("", viaISP2)+`
forward:
  rules:
    - {name: shell, from: lan, protocol: tcp, ports: 22, action: accept, mark: 0x1/0xf}
    - {name: web, from: wan2, to: lan, protocol: tcp, ports: 80, action: accept, mark: 0x2/0xf}
`)
	g.GW.Feed(t, "table inet other {\n counter v4 { }\n counter v6 { }\n counter wrong { }\n chain forward {\n type filter hook forward priority 5\n"+
		" iifname eth3 oifname eth1 meta mark & 0xf == 2 tcp dport 80 meta nfproto ipv4 counter name v4\n"+
		" iifname eth3 oifname eth1 meta mark & 0xf == 2 tcp dport 80 meta nfproto ipv6 counter name v6\n"+
		" iifname eth1 ct direction reply meta mark & 0xf != 0 counter name wrong\n iifname eth0 meta mark & 0xf != 0 counter name wrong\n }\n}\n", "nft", "-f", "-")
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) {
		version, next, counter := "-4", lab.ISP2, "v4"
		if ip.v6() {
			version, next, counter = "-6", lab.ISP2v6, "v6"
		}
		g.GW.Run(t, "ip", version, "rule", "add", "fwmark", "0x1/0xf", "table", "100")
		g.GW.Run(t, "ip", version, "route", "add", "default", "via", next, "table", "100")
		reaches(t, g, ip)
		carries(t, opens(t, g.LAN1, at(ip.outside, 22), ip.uplink2))
		if out := g.GW.Run(t, "nft", "list", "counter", "inet", "other", counter); strings.Contains(out, "packets 0 ") {
			t.Errorf("nothing had the mark of its rule:\n%s", out)
		}
	})
	if out := g.GW.Run(t, "nft", "list", "counter", "inet", "other", "wrong"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("answers, or what came in elsewhere, had a mark:\n%s", out)
	}
	leaks.none(t)
	g.GW.Run(t, "nft", "delete", "table", "inet", "other")
	g.delete(t)
}
