package iptables_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// Rules in DOCKER-USER are read back as they were wanted, and those of others stay,
// in their order and with their counters.
func TestUserChains(t *testing.T) {
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			t.Run(variant+" "+f.String(), func(t *testing.T) {
				t.Parallel()
				tool, any, one := variant, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.17.0.2/32")
				if f == ruleset.IPv6 {
					tool = "ip6" + strings.TrimPrefix(variant, "ip")
					any, one = netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fd00:17::2/128")
				}
				lab.Require(t, lab.Binary(tool+"-restore"))
				host := lab.New(t).Host("gw")
				host.Feed(t, "*filter\n:DOCKER-USER - [0:0]\n[7:777] -A DOCKER-USER -i eth7 -m comment --comment \"mine, ipmasq\" -j ACCEPT\n[8:888] -A DOCKER-USER -j RETURN\nCOMMIT\n", tool+"-restore", "--counters", "--noflush")
				save := func() (out []string) {
					for line := range strings.Lines(host.Run(t, tool+"-save", "-c", "-t", "filter")) {
						if !strings.HasPrefix(line, "#") {
							out = append(out, line)
						}
					}
					return out
				}
				before := save()
				u := iptables.NewUserChains(host.Do)
				c := ruleset.UserChain{Variant: variant, Family: f}
				d := &ruleset.Docker{Passing: []ruleset.Passing{
					{Family: f, In: "eth1", Out: "eth0"}, {Family: f, In: "eth0", Out: "eth1", Answers: true},
					{Family: f, In: "eth*", From: any}, {Family: f, Out: "br-*", To: one, Answers: true}, {Family: f, From: any, To: one}, {Family: f},
				}}
				want := u.Want(d, f)
				if err := u.Commit(t.Context(), c, nil, want, true); err != nil || !slices.Equal(save(), before) {
					t.Fatalf("a dry run: %v\n%s", err, save())
				}
				if err := u.Commit(t.Context(), c, nil, want, false); err != nil {
					t.Fatal(err)
				}
				have, err := u.Have(t.Context(), c)
				if err != nil || !slices.Equal(have, want) {
					t.Errorf("it has\n%s\nand want was\n%s\n%v", strings.Join(have, "\n"), strings.Join(want, "\n"), err)
				}
				if err := u.Commit(t.Context(), c, want[:2], nil, false); err != nil {
					t.Fatal(err)
				}
				if err := u.Commit(t.Context(), c, want[:1], nil, false); !errors.Is(err, backend.ErrStale) {
					t.Errorf("taking out what is not there: %v", err)
				}
				if err := u.Commit(t.Context(), c, want[2:], nil, false); err != nil {
					t.Fatal(err)
				}
				if after := save(); !slices.Equal(after, before) {
					t.Errorf("what others have there was\n%s\nand is\n%s", before, after)
				}
				host.Run(t, tool, "-F")
				host.Run(t, tool, "-X")
				if err := u.Commit(t.Context(), c, nil, want, false); !errors.Is(err, backend.ErrStale) {
					t.Errorf("putting something into a chain that is gone: %v", err)
				}
				if have, err := u.Have(t.Context(), c); err != nil || len(have) > 0 {
					t.Errorf("a chain that is gone has %q, %v", have, err)
				}
			})
		}
	}
}

// The variant is told whatever the programs are called.
func TestVariant(t *testing.T) {
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		lab.Require(t, lab.Binary(variant))
		host := lab.New(t).Host("gw")
		b, err := iptables.New(host.Do, variant)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Name(); got != variant {
			t.Errorf("%s is %q", variant, got)
		}
	}
}
