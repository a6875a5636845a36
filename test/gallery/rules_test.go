package gallery

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// blocked sees that a host of the LAN does not reach a port of the server's; on a
// healthy gateway, that it does.
func blocked(addresses ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		g.Server.ServeTCP(":80")
		if g.open {
			reaches(addresses...)(t, g)
			return
		}
		for _, a := range addresses {
			if c, err := g.LAN1.DialTCP(lab.Silence, a+":80"); err == nil {
				_ = c.Close()
				t.Errorf("%s answers, so that nothing is broken", a)
			}
		}
	}
}

// reaches sees that it does.
func reaches(addresses ...string) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		for _, a := range addresses {
			c, err := g.LAN1.DialTCP(lab.Patience, a+":80")
			if err != nil {
				t.Errorf("%s: %v", a, err)
				continue
			}
			_ = c.Close()
		}
	}
}

// published sees whether the port forward to lan1 is reached from outside.
func published(yes bool) func(*testing.T, *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		within, yes := lab.Silence, yes
		if !yes {
			g.LAN1.ServeTCP(":80")
			yes = g.open
		}
		if yes {
			within = lab.Patience
		}
		c, err := g.Server.DialTCP(within, lab.GatewayUplink+":80")
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != yes {
			t.Errorf("from outside: %v", err)
		}
	}
}

const (
	out4 = lab.Outside
	out6 = "[" + lab.Outsidev6 + "]"
)

// leftBehind is what an apply that was killed, of a policy from then, may leave.
const leftBehind = "*filter\n:IPMASQ-forward - [0:0]\n-I FORWARD -m comment --comment ipmasq -j IPMASQ-forward\n-A IPMASQ-forward -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n"

// left is about such rules of a variant: where ours are in the same, they take the
// place of some of them.
func left(in string) func(*exhibit, string) {
	return func(x *exhibit, used string) {
		x.evidence = "the policy is in the chains IPMASQ-* of " + used
		if used == in {
			x.first, x.severity, x.evidence = "rules-drifted", "broken", "chain ipv4 filter IPMASQ-forward"
		}
	}
}

// behind is about rules of a variant, in chains that begin with what leads to ours if
// that uses the variant too: what we accept or translate they do not see.
func behind(of string) func(*exhibit, string) {
	return func(x *exhibit, used string) {
		if used == of {
			x.first, x.mend = "", nil
		}
	}
}

// flushed has all rules of iptables, or of nftables, removed.
func flushed(t *testing.T, g *gateway) {
	if g.variant == "" {
		g.GW.Run(t, "nft", "flush", "ruleset")
		return
	}
	for _, family := range []string{"ip", "ip6"} { // as a service does that restores a file
		g.GW.Feed(t, "*raw\nCOMMIT\n*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n", family+strings.TrimPrefix(g.variant, "ip")+"-restore")
	}
}

const homeInput = home + `
input:
  default: drop
  rules:
    - {name: proxy, from: lan, protocol: tcp, ports: 3128, action: accept}
`

var ruleExhibits = []exhibit{
	{
		name: "table flushed", policy: home, first: "rules-missing", severity: "broken", evidence: "nothing of the policy",
		breaks: flushed,
		mend:   all(func(t *testing.T, g *gateway) { g.Server.ServeTCP(":80") }, reaches(out4, out6)),
	},
	{
		name: "rule deleted by hand", policy: home, first: "rules-drifted", severity: "broken", evidence: "chain nat_postrouting",
		breaks: func(t *testing.T, g *gateway) {
			if g.variant != "" {
				g.GW.Run(t, g.variant, "-t", "nat", "-F", "IPMASQ-snat")
				return
			}
			g.GW.Run(t, "nft", "flush", "chain", "inet", "ipmasq", "nat_postrouting")
		},
		there: func(x *exhibit, _ string) { x.evidence = "chain ipv4 nat IPMASQ-snat" },
	},
	{
		name: "rules left in iptables-legacy", policy: home, first: "rules-elsewhere", severity: "risk", evidence: "the policy is in the table inet ipmasq",
		breaks: all(restores("iptables-legacy-restore", leftBehind), blocked(out4)),
		mend:   reaches(out4), there: left("iptables-legacy"),
	},
	{
		name: "rules left in iptables-nft", policy: home, first: "rules-elsewhere", severity: "risk", evidence: "the policy is in the table inet ipmasq",
		breaks: all(restores("iptables-nft-restore", leftBehind), blocked(out4)),
		mend:   reaches(out4), there: left("iptables-nft"),
	},
	{
		name: "another address on the LAN", policy: home, first: "rules-behind", severity: "risk", evidence: "set inside_addresses_v4",
		breaks: func(_ *testing.T, g *gateway) { g.GW.Addr("eth1", "192.168.1.2/24") },
		there:  func(x *exhibit, _ string) { x.evidence = "chain ipv4 nat IPMASQ-dnat_from_lan" },
	},
	{
		name: "rule added by hand", policy: home, first: "rules-drifted", severity: "broken", evidence: "a rule of no entry is in the kernel, and in no policy",
		breaks: func(t *testing.T, g *gateway) {
			if g.variant != "" {
				g.GW.Run(t, g.variant, "-I", "IPMASQ-forward", "-i", "eth1", "-j", "DROP")
				return
			}
			g.GW.Run(t, "nft", "insert", "rule", "inet", "ipmasq", "forward", "iifname", "eth1", "drop")
		},
		mend: all(func(t *testing.T, g *gateway) { g.Server.ServeTCP(":80") }, reaches(out4)),
	},
	{
		name: "Docker on iptables-nft", policy: home, first: "foreign-drop", severity: "broken", evidence: "iptables-nft, chain ip filter FORWARD (hook forward, priority 0): policy drop",
		breaks: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), blocked(out4)), mend: reaches(out4), there: behind("iptables-nft"),
	},
	{
		name: "Docker on iptables-legacy", policy: home, first: "foreign-drop", severity: "broken", evidence: "iptables-legacy, chain ip filter FORWARD (hook forward, priority 0): policy drop, which ",
		breaks: all(docker0, restores("iptables-legacy-restore", dockerRules("DROP")), blocked(out4)), mend: reaches(out4), there: behind("iptables-legacy"),
	},
	{
		name: "Docker 28 on both families", policy: home, first: "foreign-drop", severity: "broken", evidence: "chain ip6 filter FORWARD",
		breaks: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), restores("ip6tables-nft-restore", docker28), blocked(out4, out6)), mend: reaches(out4, out6), there: behind("iptables-nft"),
	},
	{
		name: "Docker comes behind docker: accept", policy: withDocker(home), first: "foreign-drop", severity: "broken", evidence: "chain ip filter FORWARD",
		breaks: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), blocked(out4)), mend: reaches(out4),
		there: func(x *exhibit, used string) { // where Docker's chains are ours too, the policy is asked first
			if used == "iptables-nft" {
				x.first, x.severity, x.evidence, x.passing = "rules-behind", "risk", "chain ipv4 filter DOCKER-USER", true
			}
		},
	},
	{
		name: "Docker's nft backend closes a zone", policy: replaced(withDocker(apps), "  wan:", "  apps: {interfaces: [docker0]}\n  wan:"), first: "foreign-drop", severity: "broken",
		evidence: "UNPUBLISHED PORT DROP", build: docker0, breaks: nft(dockerNFT),
	},
	{
		name: "only one way is let pass", policy: home, first: "foreign-drop", severity: "broken", evidence: "the answers to masquerade lan-wan",
		breaks: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), func(t *testing.T, g *gateway) {
			g.GW.Run(t, "iptables-nft", "-I", "DOCKER-USER", "-i", "eth1", "-o", "eth0", "-j", "ACCEPT")
		}, blocked(out4)), mend: reaches(out4), there: behind("iptables-nft"),
	},
	{
		name: "ufw", policy: home, first: "foreign-drop", severity: "broken", evidence: "chain ip filter FORWARD (hook forward, priority 0): policy drop",
		breaks: all(restores("iptables-nft-restore", ufwRules), blocked(out4)), byHand: "ufw is not here", there: behind("iptables-nft"),
	},
	{
		name: "firewalld", policy: home, first: "foreign-drop", severity: "broken", evidence: "rule: reject",
		breaks: all(nft(firewalldRules), blocked(out4, out6)), byHand: "firewalld is not here",
	},
	{
		name: "a chain on the uplink as packets leave", policy: home, first: "foreign-drop", severity: "broken", evidence: "chain netdev guard out (hook egress, priority 0): policy drop",
		breaks: all(nft("table netdev guard {\n chain out { type filter hook egress device \"eth0\" priority 0; policy drop; ether type arp accept; }\n}\n"), blocked(out4)), mend: reaches(out4),
	},
	{
		name: "a chain on the link of the LAN as packets come", policy: home, first: "foreign-drop", severity: "broken", evidence: "chain netdev guard in (hook ingress, priority 0): rule: ",
		breaks: all(nft("table netdev guard {\n chain in { type filter hook ingress device \"eth1\" priority 0; meta protocol ip drop; }\n}\n"), blocked(out4)), mend: reaches(out4),
	},
	{
		name: "somebody's nft chain with policy drop", policy: home, first: "foreign-drop", severity: "broken", evidence: "nft, chain inet filter forward (hook forward, priority 0): policy drop",
		breaks: all(nft("table inet filter {\n chain forward { type filter hook forward priority 0; policy drop; }\n}\n"), blocked(out4, out6)), mend: reaches(out4, out6),
	},
	{
		name: "a rule in raw", policy: home, first: "foreign-drop", severity: "broken", evidence: "rule: iifname \"eth1\"",
		breaks: all(nft("table inet guard {\n chain raw { type filter hook prerouting priority raw; iifname eth1 meta l4proto tcp counter drop; }\n}\n"), blocked(out4, out6)), mend: reaches(out4, out6),
	},
	{
		name: "ufw closes what input opens", policy: homeInput, first: "foreign-drop", severity: "broken", evidence: "input proxy",
		breaks: all(restores("iptables-nft-restore", replaced(ufwRules, ":FORWARD DROP", ":FORWARD ACCEPT"))), byHand: "ufw is not here", there: behind("iptables-nft"),
	},
	{
		name: "Docker publishes a forwarded port", policy: home, first: "foreign-nat", severity: "broken", evidence: "dnat to 172.17.0.2:80",
		build:  docker0,
		breaks: all(restores("iptables-nft-restore", replaced(dockerRules("ACCEPT"), "--dport 8080", "--dport 80")), published(false)),
		mend: func(t *testing.T, g *gateway) { // the container is published elsewhere
			g.GW.Run(t, "iptables-nft", "-t", "nat", "-R", "DOCKER", "2", "!", "-i", "docker0", "-p", "tcp", "--dport", "8080", "-j", "DNAT", "--to-destination", "172.17.0.2:80")
			published(true)(t, g)
		},
		there: behind("iptables-nft"),
	},
	{
		name: "Docker's nft backend publishes a forwarded port", policy: home, first: "foreign-nat", severity: "broken", evidence: "dnat to 172.17.0.2:80",
		breaks: all(docker0, nft(replaced(dockerNFT, "dport 8080", "dport 80")), published(false)),
		mend: func(t *testing.T, g *gateway) {
			g.GW.Run(t, "nft", "flush", "chain", "ip", "docker-bridges", "nat-prerouting-and-output")
			published(true)(t, g)
		},
	},
	{
		name: "an old DNAT by iptables-legacy", policy: home, first: "foreign-nat", severity: "broken", evidence: "iptables-legacy, chain ip nat PREROUTING",
		breaks: all(restores("iptables-legacy-restore", "*nat\n-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.1.77\nCOMMIT\n"), published(false)),
		mend:   published(true), there: behind("iptables-legacy"),
	},
	{
		name: "a masquerade before snat", policy: replaced(home, "masquerade:\n  - {from: lan, to: wan}", "snat:\n  - {name: pool, from: lan, to: wan, addresses: 203.0.113.2}"),
		first: "foreign-nat", severity: "broken", evidence: "snat pool",
		breaks: nft("table ip old {\n chain post { type nat hook postrouting priority srcnat - 5; ip saddr 192.168.1.0/24 oifname eth0 masquerade; }\n}\n"),
	},
	{
		name: "conntrack is told to pass over it", policy: home, first: "foreign-notrack", severity: "broken", evidence: "notrack",
		breaks: all(nft("table inet fast {\n chain raw { type filter hook prerouting priority raw; iifname eth1 notrack; }\n}\n"), blocked(out4)), mend: reaches(out4),
	},
	{
		name: "a limit of somebody's", policy: home, first: "foreign-may-drop", severity: "note", evidence: "limit",
		breaks: all(nft("table inet guard {\n chain f { type filter hook forward priority -10; policy accept; iifname eth1 limit rate over 1/day burst 1 packets counter drop; }\n}\n"),
			func(t *testing.T, g *gateway) {
				_, _ = g.LAN1.Ping(lab.Outside, lab.Silence, lab.PingOptions{})
				_, _ = g.LAN1.Ping(lab.Outside, lab.Silence, lab.PingOptions{})
			}),
		byHand: "whether it is meant is for a person to say",
	},
	{
		name: "both backends of iptables", policy: home, first: "iptables-mixed", severity: "risk", evidence: "iptables-legacy: table ip filter has 1 rules",
		breaks: func(t *testing.T, g *gateway) {
			lab.Require(t, lab.Binary("iptables-legacy"), lab.Binary("iptables-nft"))
			g.GW.Run(t, "iptables-legacy", "-A", "INPUT", "-i", "eth7", "-j", "DROP")
			g.GW.Run(t, "iptables-nft", "-A", "INPUT", "-i", "eth8", "-j", "DROP")
		},
		mend: func(t *testing.T, g *gateway) { g.run(t, 0, "plan", g.file()) }, // our own rules are where they were
	},
	{
		name: "port forward to the gateway behind a closed input", first: "rules-stop-entry", severity: "broken", evidence: "is the gateway itself",
		policy: replaced(homeInput, "to: 192.168.1.10}", "to: 192.168.1.1}"),
		mend: func(t *testing.T, g *gateway) {
			g.write(t, replaced(homeInput, "to: 192.168.1.10}", "to: 192.168.1.1}")+"    - {name: web, from: wan, protocol: tcp, ports: 80, action: accept}\n")
			g.run(t, 0, "apply", g.file())
		},
	},
}

func TestRules(t *testing.T) { show(t, ruleExhibits) }

// neighbors have rules of their own, which do not concern the policy.
var neighbors = []exhibit{
	{name: "Docker on iptables-nft, which lets others pass", policy: home, build: all(docker0, restores("iptables-nft-restore", dockerRules("ACCEPT")))},
	{name: "Docker on iptables-legacy, which lets others pass", policy: home, build: all(docker0, restores("iptables-legacy-restore", dockerRules("ACCEPT")))},
	{name: "Docker's nft backend", policy: home, build: all(docker0, nft(dockerNFT))},
	{name: "Docker beside a policy that forwards nothing", build: all(docker0, restores("iptables-nft-restore", dockerRules("DROP"))),
		policy: "zones:\n  lan: {interfaces: [eth1]}\n  wan: {interfaces: [eth0]}\ninput:\n  default: drop\n  rules:\n    - {from: lan, protocol: tcp, ports: 22, action: accept}\n"},
	{name: "Docker with our ways in DOCKER-USER", policy: home, build: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), func(t *testing.T, g *gateway) {
		g.GW.Run(t, "iptables-nft", "-I", "DOCKER-USER", "-i", "eth1", "-o", "eth0", "-j", "ACCEPT")
		g.GW.Run(t, "iptables-nft", "-I", "DOCKER-USER", "-i", "eth0", "-o", "eth1", "-j", "ACCEPT")
	})},
	{name: "Docker with docker: accept", policy: withDocker(home), passes: out(), build: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), restores("ip6tables-nft-restore", docker28))},
	{name: "Docker's nft backend with a mark", policy: replaced(withDocker(apps), "  wan:", "  apps: {interfaces: [docker0]}\n  wan:"), build: all(docker0, nft(dockerMarked()))},
	{name: "ufw with routes allowed", policy: home, build: restores("iptables-nft-restore", replaced(ufwRules, "COMMIT",
		"-A ufw-user-forward -i eth1 -o eth0 -j ACCEPT\n-A ufw-user-forward -i eth0 -o eth1 -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT"))},
	{name: "libvirt", policy: home, build: all(libvirt, nft(libvirtRules))},
	{name: "Tailscale", policy: home, build: restores("iptables-nft-restore", `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
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
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:ts-postrouting - [0:0]
-A POSTROUTING -j ts-postrouting
-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
COMMIT
`)},
}

func TestNeighbors(t *testing.T) { show(t, neighbors) }
