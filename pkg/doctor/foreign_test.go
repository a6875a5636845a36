package doctor

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// A chain of others is only said to drop what it drops whatever is not known of it.
func TestForeignDrop(t *testing.T) {
	t.Parallel()
	opaque := foreign.Test{Text: "match owner"}
	for _, c := range []struct {
		name   string
		family string
		chain  *foreign.Chain
		want   string // of the evidence; "": nothing is wrong
	}{
		{"a policy", "ip", forward(true), "FORWARD (hook forward, priority 0): policy drop"},
		{"a policy of IPv6", "ip6", forward(true), "IPv6 eth1 -> eth0"},
		{"a policy of both", "inet", forward(true), "lets pass IPv6 eth1 -> eth0"},
		{"accepted both ways", "ip", forward(true, accept(in("eth1"), out("eth0")), accept(in("eth0"), out("eth1"))), ""},
		{"answers accepted, and one way", "ip", forward(true, accept(answers), accept(in("eth1"))), "port_forward web"},
		{"one way alone", "ip", forward(true, accept(in("eth1"))), "the answers to masquerade out, IPv4 eth0 -> eth1"},
		{"other links", "ip", forward(true, accept(in("eth2"))), "policy drop"},
		{"perhaps accepted", "ip", forward(true, accept(opaque)), ""},
		{"perhaps dropped", "ip", forward(false, foreign.Rule{Tests: []foreign.Test{opaque}, Verdict: foreign.Drop}), ""},
		{"only other links dropped", "ip", forward(false, foreign.Rule{Tests: []foreign.Test{in("docker0")}, Verdict: foreign.Drop}), ""},
		{"rejected by a rule", "inet", forward(false, accept(answers), foreign.Rule{Verdict: foreign.Reject, Comment: "last"}), `rule: reject comment "last"`},
		{"all that is invalid", "inet", forward(false, foreign.Rule{Tests: []foreign.Test{{Field: foreign.State, Bits: foreign.StateInvalid}}, Verdict: foreign.Drop}), ""},
		{"another family", "bridge", forward(true), ""},
		{"another hook", "ip", &foreign.Chain{Name: "x", Hook: foreign.Output, Type: "filter", Drops: true}, ""},
		{"input, of which the policy says nothing", "ip", &foreign.Chain{Name: "x", Hook: foreign.Input, Type: "filter", Drops: true}, ""},
		{"the far end of the way", "ip", &foreign.Chain{Name: "x", Hook: foreign.Postrouting, Type: "filter", Drops: true, Priority: 200}, "hook postrouting, priority 200"},
	} {
		h := others(hostOf(t, written), foreign.NFT, c.family, "filter", c.chain)
		list := Examine(h)
		if c.want == "" {
			if ids := found(list); len(ids) > 0 {
				t.Errorf("%s: %v, %+v", c.name, ids, list[0])
			}
			continue
		}
		f := first(t, h, "foreign-drop", Broken)
		if !strings.Contains(strings.Join(f.Evidence, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", c.name, f.Evidence, c.want)
		}
	}
}

// The remedy is in the words of whoever made the chain.
func TestForeignRemedies(t *testing.T) {
	t.Parallel()
	named := func(names ...string) (list []*foreign.Chain) {
		for _, n := range names {
			list = append(list, &foreign.Chain{Name: n})
		}
		return append(list, forward(true, accept(answers)))
	}
	for _, c := range []struct {
		kind          foreign.Kind
		family, table string
		chains        []*foreign.Chain
		want          []string
	}{
		{foreign.XTNFT, "ip", "filter", named("DOCKER-USER", "DOCKER"), []string{"iptables-nft -I DOCKER-USER -i eth1 -o eth0 -j ACCEPT", "iptables-nft -I DOCKER-USER -i eth0 -o eth1 -p tcp --dport 80 -j ACCEPT"}},
		{foreign.XTLegacy, "ip6", "filter", named("DOCKER-USER"), []string{"ip6tables-legacy -I DOCKER-USER -i eth1 -o eth0 -j ACCEPT"}},
		{foreign.XTLegacy, "ip", "filter", named(), []string{"iptables-legacy -I FORWARD -i eth1 -o eth0 -j ACCEPT", "iptables-legacy -I FORWARD -i eth0 -o eth1 -p tcp --dport 80 -j ACCEPT"}},
		{foreign.XTNFT, "ip", "mangle", named(), []string{"iptables-nft -t mangle -I FORWARD -i eth1 -o eth0 -j ACCEPT"}},
		{foreign.XTNFT, "ip", "filter", named("ufw-before-forward"), []string{"ufw route allow in on eth1 out on eth0"}},
		{foreign.NFT, "inet", "firewalld", named("filter_FWD_public"), []string{"firewall-cmd --permanent --new-policy=ipmasq --set-target=ACCEPT", "firewall-cmd --reload"}},
		{foreign.NFT, "inet", "mine", named(), []string{`nft 'insert rule inet mine FORWARD iifname "eth1" oifname "eth0" accept'`, `nft 'insert rule inet mine FORWARD iifname "eth0" oifname "eth1" tcp dport 80 accept'`}},
	} {
		f := first(t, others(hostOf(t, written), c.kind, c.family, c.table, c.chains...), "foreign-drop", Broken)
		for _, want := range c.want {
			if !slices.Contains(f.Mend, want) {
				t.Errorf("%s %s %s: %q lacks %q", c.kind, c.family, c.table, f.Mend, want)
			}
		}
	}
}

// Who translates first is a matter of priority and, where that is the same, of who
// came later.
func TestForeignNAT(t *testing.T) {
	t.Parallel()
	dnat := func(priority int) *foreign.Chain {
		return &foreign.Chain{Name: "PREROUTING", Hook: foreign.Prerouting, Type: "nat", Priority: priority, Rules: []foreign.Rule{{
			Tests:   []foreign.Test{{Field: foreign.DestinationType, Ranges: [][2][]byte{{{0, 0, 0, 2}, {0, 0, 0, 2}}}}, {Field: foreign.DestinationPort, Ranges: [][2][]byte{{{0, 80}, {0, 80}}}}},
			Verdict: foreign.DNAT, To: "172.17.0.2:80"}}}
	}
	for _, c := range []struct {
		name     string
		kind     foreign.Kind
		priority int
		before   int // tables that came before, ours being the fifth
		severity Severity
	}{
		{"before ours", foreign.NFT, -101, 0, Broken},
		{"with ours, and later", foreign.NFT, -100, 7, Broken},
		{"with ours, and earlier", foreign.NFT, -100, 1, Risk},
		{"behind ours", foreign.NFT, -99, 7, 0},
	} {
		h := hostOf(t, written)
		for range c.before {
			others(h, foreign.NFT, "arp", "x")
		}
		others(h, c.kind, "ip", "nat", dnat(c.priority))
		if c.severity == 0 {
			if ids := found(Examine(h)); len(ids) > 0 {
				t.Errorf("%s: %v", c.name, ids)
			}
			continue
		}
		if f := first(t, h, "foreign-nat", c.severity); !strings.Contains(f.Evidence[0], "dnat to 172.17.0.2:80") || !strings.Contains(f.Evidence[1], "port_forward web (policy.yaml:8:5) is for tcp 203.0.113.2:80") {
			t.Errorf("%s: %q", c.name, f.Evidence)
		}
	}
	masquerade := &foreign.Chain{Name: "POSTROUTING", Hook: foreign.Postrouting, Type: "nat", Priority: 100, Rules: []foreign.Rule{{Tests: []foreign.Test{out("eth0")}, Verdict: foreign.SNAT}}}
	if ids := found(Examine(others(hostOf(t, written), foreign.XTLegacy, "ip", "nat", masquerade))); len(ids) > 0 {
		t.Errorf("a masquerade beside a masquerade: %v", ids)
	}
	pool := strings.Replace(written, "masquerade:\n  - {name: out, from: lan, to: wan}", "snat:\n  - {name: out, from: lan, to: wan, addresses: 203.0.113.2}", 1)
	f := first(t, others(hostOf(t, pool), foreign.XTLegacy, "ip", "nat", masquerade), "foreign-nat", Broken)
	if !strings.Contains(strings.Join(f.Mend, "\n"), "iptables-legacy -t nat -D POSTROUTING 1") {
		t.Errorf("%q", f.Mend)
	}
}

func TestMixed(t *testing.T) {
	t.Parallel()
	rule := accept(in("lo"))
	h := others(hostOf(t, written), foreign.XTLegacy, "ip", "filter", forward(false))
	others(h, foreign.XTNFT, "ip", "filter", forward(false, rule))
	if ids := found(Examine(h)); len(ids) > 0 {
		t.Errorf("one of them is empty: %v", ids)
	}
	others(h, foreign.XTLegacy, "ip6", "filter", forward(false, rule))
	if ids := found(Examine(h)); len(ids) > 0 {
		t.Errorf("each has one family: %v", ids)
	}
	others(h, foreign.XTLegacy, "ip", "nat", forward(false, rule))
	first(t, h, "iptables-mixed", Risk)
}

// Errors about large packets: a chain that lets only echo pass stops them.
func TestPMTU(t *testing.T) {
	t.Parallel()
	icmp := func(tests ...foreign.Test) foreign.Rule {
		return foreign.Rule{Tests: append(tests, foreign.Test{Field: foreign.Protocol, Ranges: [][2][]byte{{{1}, {1}}}}), Verdict: foreign.Drop}
	}
	h := others(hostOf(t, written), foreign.XTNFT, "ip", "filter", forward(false, icmp()))
	f := first(t, h, "pmtu-blocked", Risk)
	if f.Mend[0] != "iptables-nft -t filter -I FORWARD -p icmp -m conntrack --ctstate RELATED -j ACCEPT" {
		t.Errorf("%q", f.Mend)
	}
	if ids := found(Examine(others(hostOf(t, written), foreign.XTNFT, "ip", "filter", forward(false, accept(answers), icmp())))); len(ids) > 0 {
		t.Errorf("related is let pass: %v", ids)
	}
	output := func() *foreign.Chain {
		return &foreign.Chain{Name: "OUTPUT", Hook: foreign.Output, Type: "filter", Rules: []foreign.Rule{icmp()}}
	}
	if ids := found(Examine(others(hostOf(t, written), foreign.XTNFT, "ip", "filter", output()))); len(ids) > 0 {
		t.Errorf("the gateway has no errors to send: %v", ids)
	}
	h = others(hostOf(t, strings.Replace(written, "wan: {interfaces: [eth0]}", "wan: {interfaces: [eth0], mss_clamp: pmtu}", 1)), foreign.XTNFT, "ip", "filter", output())
	h.Routes.Facts.Links = slices.Clone(h.Routes.Facts.Links)
	h.Routes.Facts.Links[slices.IndexFunc(h.Routes.Facts.Links, func(l link.Link) bool { return l.Name == "eth0" })].MTU = 1492
	first(t, h, "pmtu-blocked", Broken)
}
