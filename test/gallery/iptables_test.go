package gallery

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// onIPTables is home on the other backend, whose jumps stand in the chains that
// others use too: the ones before them have the first word, and those behind do
// not see what we accept.
const onIPTables = home + "gateway: {backend: iptables, conntrack: {accounting: true}}\n"

// webShut has the policy let nobody see the web.
const webShut = onIPTables + "forward:\n  rules:\n    - {name: no-web, from: lan, to: wan, protocol: tcp, ports: 80, action: drop}\n"

// iptables is the variant that holds ipmasq's rules where a policy names that
// backend.
func (g *gateway) iptables() string {
	if g.variant != "" {
		return g.variant
	}
	return "iptables"
}

// xt runs a command of that variant.
func xt(args ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		lab.Require(t, lab.Binary(g.iptables()))
		g.GW.Run(t, g.iptables(), args...)
	}
}

// restored has that variant read rules.
func restored(rules string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) { restores(g.iptables()+"-restore", rules)(t, g) }
}

// dockerStarts is what Docker makes when it starts: its jumps come first.
func dockerStarts() string {
	return replaced(replaced(dockerRules("ACCEPT"), "-A FORWARD", "-I FORWARD"), "-A PREROUTING", "-I PREROUTING")
}

const fail2ban = "*filter\n:f2b-sshd - [0:0]\n-I INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n-A f2b-sshd -s 198.51.100.66/32 -j REJECT\n-A f2b-sshd -j RETURN\nCOMMIT\n"

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
		name: "a drop of others' before our jump", policy: onIPTables, passes: out(), first: "foreign-first", severity: "broken", evidence: "rule: iifname \"eth1\"",
		breaks: xt("-I", "FORWARD", "-i", "eth1", "-j", "DROP"),
	},
	{
		name: "a DNAT of others' before our jump", policy: onIPTables, passes: web(lab.GatewayUplink), first: "foreign-first", severity: "broken", evidence: "port_forward web",
		breaks: xt("-t", "nat", "-I", "PREROUTING", "-i", "eth0", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "192.168.1.77"),
	},
	{
		name: "nat of others' that passes over ours", policy: onIPTables, passes: web(lab.GatewayUplink), first: "foreign-first", severity: "broken", evidence: "port_forward web",
		breaks: xt("-t", "nat", "-I", "PREROUTING", "-i", "eth0", "-j", "ACCEPT"),
	},
	{
		name: "an accept of others' before our jump", policy: webShut, first: "foreign-first", severity: "risk", evidence: "what leads to ipmasq's rules there is rule 2",
		breaks: all(xt("-I", "FORWARD", "-i", "eth1", "-j", "ACCEPT"), func(t *testing.T, g *gateway) { g.Server.ServeTCP(":80") }, reaches(out4)),
		mend: func(t *testing.T, g *gateway) {
			if c, err := g.LAN1.DialTCP(lab.Silence, out4+":80"); err == nil {
				_ = c.Close()
				t.Error("the policy is not asked")
			}
		},
	},
	{
		name: "fail2ban bans before our jump", policy: replaced(homeInput, "ports: 3128", "ports: [22, 3128]") + "gateway: {backend: iptables}\n", first: "foreign-first", severity: "risk", evidence: "f2b-sshd",
		breaks: restored(fail2ban),
	},
	{
		name: "Docker starts, and puts its jumps first", policy: onIPTables, first: "foreign-first", severity: "risk", evidence: "DOCKER-USER",
		breaks: all(docker0, restored(dockerStarts())),
	},
	{
		name: "Docker starts, and has the port of ours", policy: onIPTables, first: "foreign-first", severity: "broken", evidence: "port_forward web",
		breaks: all(docker0, restored(replaced(dockerStarts(), "--dport 8080", "--dport 80")), published(false)), mend: published(true),
	},
	{
		name: "Docker starts anew beside docker: accept", policy: home + "gateway: {backend: iptables, docker: accept, conntrack: {accounting: true}}\n", first: "foreign-first", severity: "note", evidence: "DOCKER-USER",
		build: all(docker0, restored(dockerRules("DROP"))), passing: true,
		breaks: all(restored("*filter\n-D FORWARD -j DOCKER-USER\n-I FORWARD -j DOCKER-USER\nCOMMIT\n"), blocked(out4)),
	},
	{
		// Its number counts our jump, which is not to be deleted in its place.
		name: "a drop of others' in mangle, behind our jump", policy: onIPTables, passes: out(), first: "foreign-drop", severity: "broken", evidence: "chain ip mangle PREROUTING",
		breaks: xt("-t", "mangle", "-A", "PREROUTING", "-i", "eth1", "-s", "192.168.1.0/24", "-j", "DROP"),
		mend:   func(t *testing.T, g *gateway) { g.run(t, 0, "plan", g.file()) }, // what leads to our rules is first still
	},
	{
		// What the policy accepts passes here first, behind our jump or not.
		name: "a drop of others' in raw, behind our jump", policy: onIPTables, passes: out(), first: "foreign-drop", severity: "broken", evidence: "chain ip raw PREROUTING",
		breaks: xt("-t", "raw", "-A", "PREROUTING", "-i", "eth1", "-j", "DROP"),
		mend:   func(t *testing.T, g *gateway) { g.run(t, 0, "plan", g.file()) },
	},
	{
		name: "rules left in nftables", policy: onIPTables, first: "rules-elsewhere", severity: "risk", evidence: "the policy is in the chains IPMASQ-* of iptables-",
		breaks: all(nft("table inet ipmasq {\n chain forward { type filter hook forward priority 0; tcp dport 80 drop; }\n}\n"), blocked(out4)), mend: reaches(out4),
	},
	{
		name: "another state folder, of iptables", policy: onIPTables, breaks: moves("state", "other"),
		first: "other-state", severity: "broken", evidence: "rules: in the chains IPMASQ-* of iptables-", mend: writes(onIPTables),
	},
}

func TestSharedChains(t *testing.T) {
	show(t, sharedHealthy)
	show(t, sharedExhibits)
}
