package iptables

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// held is what iptables-save tells: what is ours of it, and what each of our
// rules has counted.
type held struct {
	snapshot *plan.Snapshot
	counts   map[string][]plan.Count // by the name of the chain in the snapshot
	hash     uint32                  // of all rules, ours and others'; a table that is looked at for the first time is no change
}

// parse reads the output of iptables-save -c for both families.
func parse(saved map[ruleset.Family]string) *held {
	h := &held{snapshot: &plan.Snapshot{}, counts: map[string][]plan.Count{}}
	hash := fnv.New32a()
	counters := counterNames{}
	for _, f := range families() {
		table := ""
		index := map[string]int{} // of our chains and the built-in ones with jumps to them
		rules := map[string]int{} // how many a built-in chain has
		chainAt := func(name string) *plan.Chain {
			key := chainKey(f, table, name)
			i, ok := index[key]
			if !ok {
				i = len(h.snapshot.Chains)
				index[key] = i
				h.snapshot.Chains = append(h.snapshot.Chains, plan.Chain{Name: key})
			}
			return &h.snapshot.Chains[i]
		}
		for text := range strings.Lines(saved[f]) {
			text = strings.TrimSuffix(text, "\n")
			count, text := countOf(text)
			switch {
			case text == "", text[0] == '#':
				continue
			case text[0] == '*':
				table = text[1:]
				continue
			case text == "COMMIT":
				continue
			case text[0] == ':':
				text, _, _ = strings.Cut(text, " [")
				if strings.HasSuffix(text, " ACCEPT") {
					continue
				}
				if name, _, _ := strings.Cut(text[1:], " "); strings.HasPrefix(name, prefix) {
					chainAt(name)
				}
			case strings.HasPrefix(text, "-A "):
				name, rule, _ := strings.Cut(text[3:], " ")
				rule = canonical(rule)
				entry, _ := uncomment(commentOf(rule))
				r := plan.Rule{Body: []byte(rule), Origin: ruleset.Origin{Entry: entry}}
				if strings.HasPrefix(name, prefix) {
					counters.note(rule, r.Origin, count)
				} else {
					rules[table+" "+name]++
					if !strings.HasPrefix(targetOf(rule), prefix) {
						break
					}
					r.Body = jumpBody(rules[table+" "+name], rule)
				}
				c := chainAt(name)
				c.Rules = append(c.Rules, r)
				h.counts[c.Name] = append(h.counts[c.Name], count)
			}
			fmt.Fprintln(hash, f, table, text)
		}
	}
	h.snapshot.Counters = counters.counters()
	h.snapshot.Normalize()
	if h.hash = hash.Sum32(); h.hash == 0 {
		h.hash = 1
	}
	h.snapshot.Generation = h.hash
	return h
}

// countOf takes "[packets:bytes] " from the beginning of a line.
func countOf(text string) (plan.Count, string) {
	if !strings.HasPrefix(text, "[") {
		return plan.Count{}, text
	}
	inside, rest, ok := strings.Cut(text[1:], "] ")
	if !ok {
		return plan.Count{}, text
	}
	p, b, _ := strings.Cut(inside, ":")
	packets, _ := strconv.ParseUint(p, 10, 64)
	bytes, _ := strconv.ParseUint(b, 10, 64)
	return plan.Count{Packets: packets, Bytes: bytes}, rest
}

// canonical writes a protocol as we do, whatever /etc/protocols calls it.
func canonical(rule string) string {
	before, rest, ok := strings.Cut(rule, "-p ")
	if !ok || strings.Contains(before, `"`) {
		return rule
	}
	name, after, _ := strings.Cut(rest, " ")
	number, known := map[string]string{
		"igmp": "2", "ipencap": "4", "ipip": "4", "dccp": "33", "ipv6": "41", "gre": "47", "esp": "50", "ah": "51",
		"icmpv6": "ipv6-icmp", "eigrp": "88", "ospf": "89", "ospfigp": "89", "pim": "103", "vrrp": "112", "l2tp": "115",
	}[name]
	if !known {
		return rule
	}
	return strings.TrimSuffix(before+"-p "+number+" "+after, " ")
}

// commentOf is the comment of a rule, or "".
func commentOf(rule string) string {
	_, rest, ok := strings.Cut(rule, "--comment ")
	if !ok {
		return ""
	}
	if !strings.HasPrefix(rest, `"`) {
		word, _, _ := strings.Cut(rest, " ")
		return word
	}
	var out strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && i+1 < len(rest):
			i++
			out.WriteByte(rest[i])
		case rest[i] == '"':
			return out.String()
		default:
			out.WriteByte(rest[i])
		}
	}
	return out.String()
}

// targetOf is the chain that a rule leads to, or its target.
func targetOf(rule string) string {
	for _, option := range []string{"-j ", "-g "} {
		if i := strings.LastIndex(rule, option); i >= 0 && (i == 0 || rule[i-1] == ' ') {
			word, _, _ := strings.Cut(rule[i+len(option):], " ")
			return word
		}
	}
	return ""
}
