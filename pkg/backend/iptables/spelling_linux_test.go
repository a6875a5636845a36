package iptables_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What iptables-save writes otherwise than it was told is read as what it was:
// each protocol by the name that /etc/protocols has, addresses by the C library.
func TestSpelling(t *testing.T) {
	t.Parallel()
	lists := map[string][]string{}
	name := func(p int) string {
		switch p {
		case 1, 6, 17, 58, 132, 136:
			return map[int]string{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}[p]
		}
		return fmt.Sprint(p)
	}
	for p := 1; p < 256; p++ {
		lists["filter IPMASQ-x"] = append(lists["filter IPMASQ-x"], "-p "+name(p)+" -j RETURN")
		if p%16 == 2 { // all of them would be more than an ordinary user may send at once
			lists["filter IPMASQ-x"] = append(lists["filter IPMASQ-x"], "! -p "+name(p)+" -m comment --comment \"-p esp\" -j RETURN")
		}
	}
	want := chains(lists)
	lists = map[string][]string{"filter IPMASQ-x": {
		"-s ::a00:1/128 -d ::1:0/112 -j RETURN", "! -s ::ffff:0/112 -m comment --comment \"at ::10.0.0.1\" -j RETURN",
		"-m iprange --src-range ::2-::fff:ffff -j RETURN", "-m iprange ! --dst-range ::a00:2-fd00::1 -j RETURN",
		"-m conntrack --ctorigdst ::a00:1 -j RETURN", "-s ::ffff:10.0.0.1/128 -j RETURN", "-s ::1/128 -d fd00::/8 -j RETURN",
	}}
	for _, c := range chains(lists).Chains {
		c.Name = strings.Replace(c.Name, "ipv4", "ipv6", 1)
		want.Chains = append(want.Chains, c)
	}
	for _, c := range want.Chains {
		for i := range c.Rules {
			if _, comment, ok := strings.Cut(string(c.Rules[i].Body), `"`); ok {
				c.Rules[i].Origin.Entry, _, _ = strings.Cut(comment, `"`)
			}
		}
	}
	want.Normalize()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			if err := h.Commit(ctx, plan.Diff(h.reads(t), want), false); err != nil {
				t.Fatal(err)
			}
			compare(t, h.reads(t), want)
		})
	}
}

// Versions before 1.8.8 print spaces that later ones do not.
func TestSpellingOld(t *testing.T) {
	t.Parallel()
	for old, want := range map[string]string{
		"-p tcp -m comment --comment statement -j NFLOG --nflog-prefix  lan": "-p tcp -m comment --comment statement -j NFLOG --nflog-prefix lan",
		`-m connlabel --label "119" --set -m comment --comment "nat lan" `:   `-m connlabel --label "119" --set -m comment --comment "nat lan"`,
		`-m comment --comment "nat lan" -j LOG --log-prefix "nat:  lan "`:    `-m comment --comment "nat lan" -j LOG --log-prefix "nat:  lan "`,
	} {
		if got := iptables.Spelled(ruleset.IPv4, old); got != want {
			t.Errorf("%s is read as %s, want %s", old, got, want)
		}
	}
}

// Rules of others stay theirs, whatever they write into comments, and however
// they call chains of tables that are not ours.
func TestOthersWords(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			theirs := `*filter
-A FORWARD -i x -j LOG --log-prefix "a -j IPMASQ-x"
-A FORWARD -i x -m comment --comment "see -g IPMASQ-x"
-A FORWARD -i x -m comment --comment "a \" -j IPMASQ-x" -j ACCEPT
-A INPUT -i x -m comment --comment ipmasq -j ACCEPT
COMMIT
*security
:IPMASQ-y - [0:0]
-A FORWARD -i x -j IPMASQ-y
-A IPMASQ-y -i x -j RETURN
COMMIT
`
			h.host.Feed(t, theirs, variant+"-restore", "--noflush", "--wait")
			save := func() (rules []string) {
				for l := range strings.Lines(h.host.Run(t, variant+"-save")) {
					if strings.HasPrefix(l, "-A") {
						rules = append(rules, l)
					}
				}
				slices.Sort(rules)
				return rules
			}
			before := save()
			if !h.reads(t).Empty() {
				t.Fatalf("of others' rules these are ours: %+v", h.reads(t).Chains)
			}
			first := chains(map[string][]string{"filter IPMASQ-x": {"-j RETURN"}, "filter FORWARD": {"1 -m comment --comment ipmasq -j IPMASQ-x"}})
			if err := h.Commit(ctx, plan.Diff(h.reads(t), first), false); err != nil {
				t.Fatal(err)
			}
			compare(t, h.reads(t), first)
			if err := h.Commit(ctx, plan.Diff(h.reads(t), &plan.Snapshot{}), false); err != nil {
				t.Fatal(err)
			}
			if after := save(); len(before) != 6 || !slices.Equal(after, before) {
				t.Errorf("others have\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// The protocol 0 would be any.
func TestProtocolZero(t *testing.T) {
	t.Parallel()
	rs := limited(ruleset.Rate{Packets: 1, Seconds: 1, Burst: 1})
	r := rs.Chains[0].Rules[0]
	for p, taken := range map[byte]bool{0: false, 2: true} {
		r.Matches = append(r.Matches[:1:1], ruleset.Match{Fields: []ruleset.Field{ruleset.L4Proto}, Value: []byte{p}})
		if _, err := iptables.Want(rs); (err == nil) != taken {
			t.Errorf("protocol %d: %v", p, err)
		}
	}
}
