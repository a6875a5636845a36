package gallery

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// onIPTables is home on the other backend, whose jumps stand in the chains that
// others use too: the ones before them have the first word, and those behind do
// not see what we accept.
const onIPTables = home + "gateway: {backend: iptables, conntrack: {accounting: true}}\n"

// xt runs a command of the variant that is called iptables.
func xt(args ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		lab.Require(t, lab.Binary("iptables"))
		g.GW.Run(t, "iptables", args...)
	}
}

var sharedHealthy = []exhibit{
	{
		name: "a drop of others' behind our jump", policy: onIPTables, passes: out(),
		breaks: all(xt("-A", "FORWARD", "-i", "eth1", "-j", "DROP"), xt("-P", "FORWARD", "DROP")),
	},
	{
		name: "a DNAT of others' behind our jump", policy: onIPTables, passes: web(lab.GatewayUplink),
		breaks: xt("-t", "nat", "-A", "PREROUTING", "-i", "eth0", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "192.168.1.77"),
	},
}

var sharedExhibits = []exhibit{
	{
		name: "a drop of others' before our jump", policy: onIPTables, passes: out(), first: "rules-drifted", severity: "broken", evidence: "chain ipv4 filter FORWARD",
		breaks: xt("-I", "FORWARD", "-i", "eth1", "-j", "DROP"),
	},
	{
		name: "a DNAT of others' before our jump", policy: onIPTables, passes: web(lab.GatewayUplink), first: "rules-drifted", severity: "broken", evidence: "chain ipv4 nat PREROUTING",
		breaks: xt("-t", "nat", "-I", "PREROUTING", "-i", "eth0", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "192.168.1.77"),
	},
	{
		// Its number counts our jump, which is not to be deleted in its place.
		name: "a drop of others' in mangle, behind our jump", policy: onIPTables, passes: out(), first: "foreign-drop", severity: "broken", evidence: "chain ip mangle PREROUTING",
		breaks: xt("-t", "mangle", "-A", "PREROUTING", "-i", "eth1", "-s", "192.168.1.0/24", "-j", "DROP"),
	},
}

func TestSharedChains(t *testing.T) {
	show(t, sharedHealthy)
	show(t, sharedExhibits)
}
