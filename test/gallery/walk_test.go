package gallery

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// walked is what doctor --flow says in JSON.
type walked struct {
	Flow      struct{ Protocol, Source, Destination string }
	Stopped   bool
	StoppedAt string `json:"stopped_at"`
	Stages    []struct {
		At, Verdict, Text string
		Evidence, Mend    []string
	}
}

func (g *gateway) walk(t *testing.T, flow string, args ...string) *walked {
	t.Helper()
	out, errs, code := g.try(t, "doctor", append([]string{"-o", "json", "--flow", flow}, args...)...)
	w := &walked{}
	if err := json.Unmarshal([]byte(out), w); err != nil {
		t.Fatalf("doctor --flow %q: %v\n%s%s", flow, err, out, errs)
	}
	if want := map[bool]int{true: 2}[w.Stopped]; code != want || errs != "" {
		t.Errorf("doctor --flow %q: exit code %d, want %d\n%s", flow, code, want, errs)
	}
	return w
}

func (w *walked) text() string {
	var b strings.Builder
	for _, s := range w.Stages {
		b.WriteString(s.At + " " + s.Verdict + ": " + s.Text + "\n  " + strings.Join(append(slices.Clone(s.Evidence), s.Mend...), "\n  ") + "\n")
	}
	return b.String()
}

const (
	toOutside  = "tcp " + lab.LAN1 + " -> " + lab.Outside + ":80"
	toOutside6 = "tcp " + lab.LAN1v6 + " -> [" + lab.Outsidev6 + "]:80"
	toWeb      = "tcp " + lab.Outside + " -> " + lab.GatewayUplink + ":80"
)

// question is a flow that is asked about, on a gateway.
type question struct {
	name, policy, flow string
	options            []lab.GatewayOption
	breaks             func(*testing.T, *gateway)
	at                 string // where it is stopped; "": nowhere
	says               string // is said, anywhere
	mended             func(*testing.T, *gateway)
	// there changes what is to be said where ipmasq's rules are in a variant of
	// iptables.
	there func(c *question, variant string)
}

// passed is about rules of a variant that stand behind ours there.
func passed(of, says string) func(*question, string) {
	return func(c *question, used string) {
		if used == of {
			c.at, c.says = "", says
		}
	}
}

// TestFlow asks of one flow, on gateways that are broken in one way each.
func TestFlow(t *testing.T) {
	for _, c := range []question{
		{name: "nothing", flow: toOutside, says: "masquerade lan-wan (POLICY:7:5) has it leave as 203.0.113.2:40000"},
		{name: "nothing, IPv6", flow: toOutside6, says: "goes back by eth1 to [fd00:1::10]:40000"},
		{name: "nothing, of a port forward", flow: toWeb, says: "port_forward web (POLICY:9:5) has it go to 192.168.1.10:80"},
		{name: "a ping", flow: "icmp " + lab.LAN1 + " -> " + lab.Outside, says: "leaves by eth0, zone wan"},
		{name: "the gateway's own", flow: "udp gateway -> " + lab.Outside + ":53", says: "the gateway itself sends it, as 203.0.113.2"},
		{name: "an open flow", flow: toOutside, breaks: opens(lan1, server, lab.Outside+":80"), says: "it is known, and was answered"},
		{name: "the table is gone", flow: toOutside, at: "rules", says: "somebody has removed the table",
			breaks: flushed, mended: serverReached,
			there: func(c *question, variant string) { c.says = "somebody has removed the chains IPMASQ-* of " + variant }},
		{name: "the source has no route", flow: "tcp 10.66.0.1 -> " + lab.Outside + ":80", at: "arrives", says: "no route back to 10.66.0.1",
			breaks: func(t *testing.T, g *gateway) { g.GW.Run(t, "ip", "route", "add", "unreachable", "10.0.0.0/8") }},
		{name: "the link is down", flow: toOutside + " in eth1", at: "arrives", says: "the link eth1 is down",
			breaks: func(_ *testing.T, g *gateway) { g.GW.Down("eth1") }},
		{name: "rp_filter", flow: "tcp " + lab.Outside + " -> " + lab.GatewayUplink2 + ":80 in eth3", at: "arrives", says: "rp_filter drops it", options: []lab.GatewayOption{lab.SecondUplink()},
			policy: replaced(home, "[eth0]", "[eth0, eth3]"), breaks: func(_ *testing.T, g *gateway) { g.GW.Sysctl("net.ipv4.conf.eth3.rp_filter", "1") }},
		{name: "a rule in raw", flow: toOutside, at: "prerouting", says: "the chain inet guard raw drops it",
			breaks: nft("table inet guard {\n chain raw { type filter hook prerouting priority raw; ip saddr 192.168.1.0/24 tcp dport 80 drop; }\n}\n"), mended: serverReached},
		{name: "a rule on the link", flow: toOutside, at: "prerouting", says: "the chain netdev guard in drops it",
			breaks: nft("table netdev guard {\n chain in { type filter hook ingress device \"eth1\" priority 0; ip saddr 192.168.1.0/24 tcp dport 80 drop; }\n}\n"), mended: serverReached},
		{name: "a rule of routing refuses the link", flow: toOutside, at: "routing", says: "rules of routing, or a route, refuse what comes from 192.168.1.10 by eth1",
			breaks: func(t *testing.T, g *gateway) { g.GW.Run(t, "ip", "rule", "add", "iif", "eth1", "prohibit") }},
		{name: "and of IPv6, the source", flow: toOutside6, at: "routing", says: "refuse what comes from " + lab.LAN1v6,
			breaks: func(t *testing.T, g *gateway) {
				g.GW.Run(t, "ip", "-6", "rule", "add", "from", lab.LAN1v6, "unreachable")
			}},
		{name: "a rule of routing for a port", flow: toOutside, at: "routing", says: "ipproto tcp dport 80",
			breaks: func(t *testing.T, g *gateway) {
				g.GW.Run(t, "ip", "rule", "add", "ipproto", "tcp", "dport", "80", "blackhole")
			}},
		{name: "Docker has the port", flow: toWeb, at: "prerouting", says: "Docker's chain ip nat PREROUTING (iptables-nft) translates what port_forward web is for, before it",
			breaks: all(docker0, restores("iptables-nft-restore", replaced(dockerRules("ACCEPT"), "--dport 8080", "--dport 80"))),
			there: func(c *question, used string) {
				c.at, c.says = "", "has it go to 192.168.1.10:80"
				if used == "iptables-legacy" { // the kernel does not tell which of the two came first
					c.says = "are for the same packets, and which of them is asked first cannot be told"
				}
			}},
		{name: "a container's port", flow: "tcp " + lab.Outside + " -> " + lab.GatewayUplink + ":8080", at: "prerouting", says: "leads it elsewhere",
			breaks: all(docker0, nft(dockerNFT))},
		{name: "older than the rules", flow: toOutside, policy: "none", options: []lab.GatewayOption{lab.InsideRoutes()}, at: "conntrack", says: "it is known already, and not translated",
			breaks: all(func(_ *testing.T, g *gateway) { g.Forwarding(true) }, tracked, opens(lan1, server, lab.Outside+":80"), again(home)), mended: reaches(out4)},
		{name: "led elsewhere before", flow: toWeb, at: "conntrack", says: "would go to 192.168.1.11:80",
			breaks: all(opens(server, lan1, lab.GatewayUplink+":80"), again(replaced(home, "to: 192.168.1.10}", "to: 192.168.1.11}")))},
		{name: "forwarding is off", flow: toOutside, at: "routing", says: "sysctl net.ipv4.ip_forward is 0",
			breaks: func(_ *testing.T, g *gateway) { g.GW.Sysctl("net.ipv4.ip_forward", "0") }, mended: serverReached},
		{name: "no way out", flow: toOutside6, at: "routing", says: "no route to " + lab.Outsidev6,
			breaks: func(_ *testing.T, g *gateway) { g.GW.DelRoute("default", lab.ISPv6) }},
		{name: "the policy forbids it", flow: toOutside, at: "forward", says: "the policy rejects it: forward no-web",
			policy: home + "forward:\n  rules:\n    - {name: no-web, from: lan, to: wan, protocol: tcp, ports: 80, action: reject}\n"},
		{name: "Docker drops it", flow: toOutside, at: "forward", says: "Docker's chain ip filter FORWARD (iptables-legacy) drops it",
			breaks: all(docker0, restores("iptables-legacy-restore", dockerRules("DROP"))), mended: func(t *testing.T, g *gateway) { g.Server.ServeTCP(":80"); reaches(out4)(t, g) },
			there: passed("iptables-legacy", "lets it pass")},
		{name: "Docker drops it, IPv6", flow: toOutside6, at: "forward", says: "Docker's chain ip6 filter FORWARD (iptables-nft) drops it",
			breaks: all(docker0, restores("ip6tables-nft-restore", docker28)), there: passed("iptables-nft", "lets it pass")},
		{name: "Docker drops the answer", flow: toOutside, at: "answer", says: "Docker's chain ip filter FORWARD (iptables-nft) drops the answer",
			breaks: all(docker0, restores("iptables-nft-restore", dockerRules("DROP")), func(t *testing.T, g *gateway) {
				g.GW.Run(t, "iptables-nft", "-I", "DOCKER-USER", "-i", "eth1", "-o", "eth0", "-j", "ACCEPT")
			}), mended: serverReached, there: passed("iptables-nft", "goes back by eth1")},
		{name: "somebody drops it before our jump", flow: toOutside, policy: onIPTables, at: "forward", says: "the chain ip filter FORWARD (iptables-",
			breaks: xt("-I", "FORWARD", "-i", "eth1", "-p", "tcp", "-j", "DROP"), mended: serverReached},
		{name: "somebody accepts it before our jump", flow: toOutside, policy: webShut, says: "accepts it, before ipmasq is asked: by the policy, forward no-web",
			breaks: xt("-I", "FORWARD", "-i", "eth1", "-j", "ACCEPT")},
		{name: "the gateway's own port", flow: "tcp " + lab.LAN1 + " -> " + lab.GatewayLAN + ":22", at: "input", says: "the policy drops it: input default", policy: homeInput},
		{name: "no hairpin", flow: "tcp " + lab.LAN2 + " -> " + lab.GatewayUplink + ":80", says: "the gateway's own port 80 answers, not port_forward web", policy: replaced(home, "to: 192.168.1.10}", "to: 192.168.1.10, hairpin: false}")},
		{name: "the target is off", flow: toWeb, at: "neighbour", says: "192.168.1.77 on eth1 does not answer", policy: replaced(home, "to: 192.168.1.10}", "to: 192.168.1.77}"),
			breaks: unanswered(server, lab.GatewayUplink+":80")},
		{name: "another source before", flow: toOutside, at: "postrouting", says: "gives a source to what snat pool is for",
			policy: replaced(home, "masquerade:\n  - {from: lan, to: wan}", "snat:\n  - {name: pool, from: lan, to: wan, addresses: 203.0.113.2}"),
			breaks: nft("table ip old {\n chain post { type nat hook postrouting priority srcnat - 5; ip saddr 192.168.1.0/24 oifname eth0 masquerade; }\n}\n")},
		{name: "the target answers elsewhere", flow: toWeb, at: "answer", says: "it was sent to 192.168.1.10, and no answer has come back",
			breaks: all(func(_ *testing.T, g *gateway) { g.LAN1.ServeTCP(":80"); g.LAN1.DelRoute("default", lab.GatewayLAN) }, unanswered(server, lab.GatewayUplink+":80"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, c.options...)
			if g.variant != "" && c.there != nil {
				c.there(&c, g.variant)
			}
			if c.policy == "" {
				c.policy = home
			}
			if c.policy != "none" {
				g.write(t, c.policy)
				g.run(t, 0, "apply", g.file())
			}
			if c.breaks != nil {
				c.breaks(t, g)
			}
			before := g.world(t)
			w := g.walk(t, c.flow)
			if after := g.world(t); after != before {
				t.Errorf("doctor has changed the gateway: before\n%s\nafter\n%s", before, after)
			}
			if w.Stopped != (c.at != "") || w.StoppedAt != c.at || !strings.Contains(w.text(), strings.ReplaceAll(c.says, "POLICY", g.file())) {
				t.Fatalf("want %q, with %q, and doctor says\n%s", c.at, c.says, w.text())
			}
			if c.at == "" {
				return
			}
			last := w.Stages[len(w.Stages)-1]
			if len(last.Evidence) == 0 || len(last.Mend) == 0 {
				t.Errorf("no evidence, or no remedy\n%s", w.text())
			}
			g.carryOut(t, last.Mend)
			if c.mended != nil {
				c.mended(t, g)
				if w := g.walk(t, c.flow); w.Stopped {
					t.Errorf("it is mended by %q, and doctor says\n%s", last.Mend, w.text())
				}
			}
		})
	}
}

// serverReached sees that the LAN reaches the server again.
func serverReached(t *testing.T, g *gateway) {
	t.Helper()
	g.Server.ServeTCP(":80")
	reaches(out4, out6)(t, g)
}

// What cannot be asked is said, and what cannot be answered.
func TestFlowQuestions(t *testing.T) {
	g := newGateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	if _, errs, code := g.try(t, "doctor", "--flow", toOutside); code != 1 || !strings.Contains(errs, "no policy was applied, and none is given") {
		t.Errorf("without a policy: %d %s", code, errs)
	}
	g.write(t, home)
	if w := g.walk(t, toOutside, g.file()); w.StoppedAt != "routing" { // nobody has turned forwarding on
		t.Errorf("with a policy that is not applied:\n%s", w.text())
	}
	for flow, want := range map[string]string{
		"tcp 192.168.1.5 203.0.113.9:443":        "a flow is written PROTOCOL SOURCE",
		"tcq 192.168.1.5 -> 203.0.113.9:443":     `"tcq" is no protocol`,
		"tcp 192.168.1.5 -> 203.0.113.9":         "needs a port of the destination: 203.0.113.9:443",
		"tcp fd00:1::5 -> 2001:db8::1:443":       "2001:db8::1:443 is an address without a port",
		"tcp 192.168.1.5 -> example.net:443":     "names are not looked up",
		"tcp 192.168.1.5 -> [2001:db8::9]:443":   "of two IP families",
		"icmp 192.168.1.5 -> 203.0.113.9:443":    "icmp has no ports",
		"tcp 192.168.1.5:99999 -> 203.0.113.9:1": `"99999" is no port`,
	} {
		if out, errs, code := g.try(t, "doctor", "--flow", flow); code != 64 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s%s", flow, code, out, errs)
		}
	}
}
