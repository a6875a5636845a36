package gallery

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// ip has the gateway run ip(8), once for each line.
func ip(lines ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		for _, line := range lines {
			g.GW.Run(t, "ip", strings.Fields(line)...)
		}
	}
}

// policyRoutingExhibits are about rules of routing, and routes that refuse.
var policyRoutingExhibits = []exhibit{
	{
		name: "rule of the main table deleted", policy: home, breaks: ip("rule delete lookup main"),
		passes: out(), first: "main-table-unused", severity: "broken", evidence: "is in the main table, by eth",
	},
	{
		name: "rule of the IPv6 main table deleted", policy: home, breaks: ip("-6 rule add pref 50 from 2001:db8:99::/64 lookup 77", "-6 rule delete pref 32766"),
		passes: outv6(), first: "main-table-unused", severity: "broken", evidence: "is in the main table, by eth",
	},
	{
		name: "blackhole for a target", policy: home, breaks: ip("route add blackhole 192.168.1.10/32"),
		passes: web(lab.GatewayUplink), first: "route-refuses", severity: "broken", evidence: "blackhole 192.168.1.10/32 decides for 192.168.1.10",
	},
	{
		name: "blackhole for a part of the inside", policy: home, breaks: ip("route add prohibit 192.168.1.128/25"),
		first: "route-refuses", severity: "risk", evidence: "prohibit 192.168.1.128/25",
	},
	{
		name: "routes that refuse before the default route", policy: home, breaks: ip("route add unreachable 0.0.0.0/1", "route add unreachable 128.0.0.0/1"),
		passes: out(), first: "route-refuses", severity: "broken", evidence: "unreachable 0.0.0.0/1",
	},
	{
		name: "rule that prohibits what comes from inside", policy: home, breaks: ip("rule add pref 100 from 192.168.1.0/24 prohibit"),
		passes: out(), first: "rule-refuses", severity: "broken", evidence: "rule 100: from 192.168.1.0/24 prohibit",
	},
	{
		name: "rule to a table that refuses", policy: home,
		breaks: ip("route add unreachable default table 100", "rule add pref 100 from 192.168.1.0/24 iif eth1 lookup 100"),
		passes: out(), first: "rule-refuses", severity: "broken", evidence: "unreachable default table 100",
	},
	{
		name: "rule of IPv6 that refuses what comes by a link", policy: home, breaks: ip("-6 rule add pref 100 iif eth1 unreachable"),
		passes: outv6(), first: "rule-refuses", severity: "broken", evidence: "rule 100: from all iif eth1 unreachable",
	},
	{
		name: "rule to another uplink", options: []lab.GatewayOption{lab.SecondUplink()}, policy: home,
		breaks: ip("route add default via 192.0.2.1 dev eth3 table 100", "rule add pref 100 from 192.168.1.0/24 lookup 100"),
		passes: out(), first: "rule-leads-elsewhere", severity: "broken", evidence: "rule 100: from 192.168.1.0/24 lookup 100",
	},
}

func TestPolicyRouting(t *testing.T) {
	show(t, policyRoutingExhibits)
	show(t, []exhibit{
		{
			name: "one host by another uplink of the zone", options: []lab.GatewayOption{lab.SecondUplink()}, policy: replaced(home, "[eth0]", "[eth0, eth3]"),
			build: ip("route add default via 192.0.2.1 dev eth3 table 100", "rule add pref 100 from 192.168.1.11 lookup 100"), passes: out(),
		},
		{
			name: "one host shut out, and networks that are nobody's", policy: home,
			build: ip("route add blackhole 192.168.1.66/32", "route add blackhole 10.0.0.0/8", "route add unreachable 172.16.0.0/12"), passes: out(),
		},
	})
}
