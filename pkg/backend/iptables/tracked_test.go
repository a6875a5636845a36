//go:build linux

package iptables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
)

// What flows are given in raw: by the first entry that they may belong to, where
// the interface that they leave by is not known.
func TestTracked(t *testing.T) {
	t.Parallel()
	const (
		short = "timeouts: {udp: {unreplied: 9s}}"
		long  = "timeouts: {udp: {unreplied: 900s}}"
	)
	for name, c := range map[string]struct {
		policy  string
		refused string   // its words
		want    []string // lines of IPv4 in the chain of zone lan, without the comment
	}{
		"one": {"- {name: a, from: lan, to: wan, " + short + "}", "", []string{
			"-g IPMASQ-ct_masquerade_a",
		}},
		"narrower and plain": {"- {name: a, from: lan, to: wan, sources: 192.168.1.5}\n  - {name: b, from: lan, to: wan, " + short + "}", "", []string{
			"-s 192.168.1.5/32 -j RETURN", "-g IPMASQ-ct_masquerade_b",
		}},
		"narrower and other": {"- {name: a, from: lan, to: wan, sources: 192.168.1.5, " + long + "}\n  - {name: b, from: lan, to: wan, " + short + "}", "", []string{
			"-s 192.168.1.5/32 -g IPMASQ-ct_masquerade_a", "-g IPMASQ-ct_masquerade_b",
		}},
		"plain, by another way": {"- {name: a, from: lan, to: line}\n  - {name: b, from: lan, to: wan, " + short + "}", "", []string{
			"-g IPMASQ-ct_masquerade_b",
		}},
		"the same, by another way": {"- {name: a, from: lan, to: line, " + short + "}\n  - {name: b, from: lan, to: wan, " + short + "}", "", []string{
			"-j IPMASQ-ct_masquerade_a", "-g IPMASQ-ct_masquerade_b",
		}},
		"other, by another way": {"- {name: a, from: lan, to: line, " + long + "}\n  - {name: b, from: lan, to: wan, " + short + "}",
			"policy.yaml:8:5: masquerade b: the iptables backend refuses a rule of chain nat_postrouting_from_lan: iptables assigns helpers and timeouts before it is known which way a flow leaves, and some that this is for would get those of masquerade a", nil},
		"another helper, by another way":        {"- {name: a, from: lan, to: line, helpers: {ftp: 2121}}\n  - {name: b, from: lan, to: wan, helpers: {irc: 2121}}", "would get those of masquerade a", nil},
		"a helper, and timeouts by another way": {"- {name: a, from: lan, to: line, helpers: tftp}\n  - {name: b, from: lan, to: wan, " + short + "}", "would get those of masquerade a", nil},
		"other helpers, by another way": {"- {name: a, from: lan, to: line, helpers: {ftp: 2121}}\n  - {name: b, from: lan, to: wan, helpers: {ftp: 21}, " + short + "}", "", []string{
			"-j IPMASQ-ct_masquerade_a", "-g IPMASQ-ct_masquerade_b",
		}},
		"other sources, by another way": {"- {name: a, from: lan, to: line, sources: 192.168.1.5, " + long + "}\n  - {name: b, from: lan, to: wan, sources: 192.168.1.6-192.168.1.9, " + short + "}", "", []string{
			"-s 192.168.1.5/32 -j IPMASQ-ct_masquerade_a", "-m iprange --src-range 192.168.1.6-192.168.1.9 -g IPMASQ-ct_masquerade_b",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			taken, refused := iptables.Taken(compiled(t, "masquerade:\n  "+c.policy+"\n"))
			if c.refused != "" {
				if len(refused) != 1 || !strings.Contains(refused[0].Error(), c.refused) {
					t.Errorf("refused is %v", refused)
				}
				return
			}
			if len(refused) > 0 {
				t.Fatal(refused)
			}
			var got []string
			for _, chain := range taken.Chains {
				for _, r := range chain.Rules {
					if text := string(r.Body); chain.Name == "ipv4 raw IPMASQ-ct_snat_from_lan" && !strings.Contains(text, "--comment ipmasq ") {
						before, rest, _ := strings.Cut(text, "-m comment --comment ")
						got = append(got, before+rest[strings.Index(rest, `" `)+2:])
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
