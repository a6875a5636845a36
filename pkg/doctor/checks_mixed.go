package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/foreign"
)

// mixed is about a host that has rules of both iptables.
func mixed(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil {
		return nil
	}
	of := map[foreign.Kind][]string{}
	families := map[string]map[foreign.Kind]bool{}
	for _, t := range h.Rules.Foreign.Tables {
		rules, drops := 0, false
		for _, c := range t.Chains {
			for i := range c.Rules {
				if !c.Rules[i].Ours {
					rules++
				}
			}
			drops = drops || c.Drops
		}
		if t.Kind == foreign.NFT || rules == 0 && !drops {
			continue
		}
		if families[t.Family] == nil {
			families[t.Family] = map[foreign.Kind]bool{}
		}
		families[t.Family][t.Kind] = true
		of[t.Kind] = append(of[t.Kind], fmt.Sprintf("%s: table %s %s has %d rules", t.Kind, t.Family, t.Name, rules))
	}
	both := ""
	for _, name := range []string{"ip", "ip6"} {
		if len(families[name]) == 2 && both == "" {
			both = name
		}
	}
	if both == "" {
		return nil
	}
	return []Finding{{
		Severity: Risk, Weight: 500,
		Title:    "both backends of iptables have rules, and each command shows one half of them",
		Evidence: append(of[foreign.XTLegacy], of[foreign.XTNFT]...),
		Mend:     h.unmixed(both),
	}}
}

// unmixed has the rules of both iptables in one: that with ours, and else the nft
// variant.
func (h *Host) unmixed(family string) []string {
	program := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[family]
	see := "# see both, and who writes which: " + program + "-legacy-save; " + program + "-nft-save"
	from, to := "-legacy", "-nft"
	tables := "$(cat /proc/thread-self/net/" + strings.Replace(program, "tables", "_tables", 1) + "_names)"
	if slices.Contains(h.Rules.Foreign.Ours, foreign.XTLegacy) {
		if slices.Contains(h.Rules.Foreign.Ours, foreign.XTNFT) {
			return append([]string{see}, h.applyAgain("# ipmasq apply, with the policy's files, has ipmasq's in one of them")...)
		}
		from, to = to, from
		var names []string
		for _, t := range h.Rules.Foreign.Tables {
			if t.Kind == foreign.XTNFT && t.Family == family {
				names = append(names, t.Name)
			}
		}
		tables = strings.Join(names, " ")
	}
	return []string{
		see,
		"# take the rules of one over, and empty its tables; then have only the other installed:",
		"sh -c '" + program + from + "-save | " + program + to + "-restore --noflush'",
		"sh -c 'for t in " + tables + "; do " + program + from + " -t $t -F; " + program + from + " -t $t -X; done; for c in INPUT FORWARD OUTPUT; do " + program + from + " -P $c ACCEPT; done'",
		"# update-alternatives --set " + program + " /usr/sbin/" + program + to,
	}
}
