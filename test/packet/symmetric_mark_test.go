package packet

import (
	"strings"
	"testing"
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
