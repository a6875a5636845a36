package iptables

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// spelling writes words of iptables-save as we do. It has names of protocols from
// /etc/protocols, and the C library's way with addresses.
type spelling struct {
	family    ruleset.Family
	protocols map[string]string
}

// protocolNumbers are the numbers of the names that iptables-save may print: what
// the host's own file calls them, and what iptables itself does.
func protocolNumbers() map[string]string {
	numbers := map[string]string{
		"igmp": "2", "ipencap": "4", "ipip": "4", "dccp": "33", "ipv6": "41", "gre": "47", "esp": "50", "ah": "51",
		"eigrp": "88", "ospf": "89", "ospfigp": "89", "pim": "103", "vrrp": "112", "l2tp": "115", "ipv6-mh": "135", "mh": "135",
	}
	text, err := os.ReadFile("/etc/protocols")
	if err != nil {
		text = nil // then they have no names
	}
	for l := range strings.Lines(string(text)) {
		l, _, _ = strings.Cut(l, "#")
		if words := strings.Fields(l); len(words) >= 2 {
			numbers[words[0]] = words[1]
		}
	}
	for _, p := range []uint8{1, 6, 17, 58, 132, 136} {
		delete(numbers, protocolName(p)) // we write these too
	}
	numbers["icmpv6"] = "ipv6-icmp"
	return numbers
}

// of is a rule as we write it. Up to iptables 1.8.7 there are spaces too many.
func (s spelling) of(rule []byte) []byte {
	if twice := []byte("--nflog-prefix  "); bytes.Contains(rule, twice) {
		rule = bytes.Replace(rule, twice, twice[:len(twice)-1], 1)
	}
	rule = bytes.TrimSuffix(rule, []byte{' '})
	if before, rest, ok := bytes.Cut(rule, []byte("-p ")); ok && bytes.IndexByte(before, '"') < 0 {
		name, after, _ := bytes.Cut(rest, []byte{' '})
		if number, known := s.protocols[string(name)]; known {
			rule = bytes.TrimSuffix(fmt.Appendf(nil, "%s-p %s %s", before, number, after), []byte{' '})
		}
	}
	if s.family == ruleset.IPv6 && bytes.Contains(rule, []byte(" ::")) && bytes.IndexByte(rule, '.') >= 0 {
		rule = []byte(s.addresses(string(rule)))
	}
	return rule
}

// addresses writes those that the C library prints with an IPv4 address in the
// end, as ::10.0.0.1, without one.
func (s spelling) addresses(rule string) string {
	words := strings.Split(rule, " ")
	for i, w := range words {
		if strings.HasPrefix(w, `"`) {
			break // what is in quotes is no address, and what is behind it neither
		}
		if !strings.HasPrefix(w, "::") {
			continue
		}
		low, high, isRange := strings.Cut(w, "-")
		low, length, hasLength := strings.Cut(low, "/")
		parts := []string{low, high}
		for k, text := range parts {
			if a, err := netip.ParseAddr(text); err == nil {
				parts[k] = a.String()
			}
		}
		switch {
		case hasLength:
			words[i] = parts[0] + "/" + length
		case isRange:
			words[i] = parts[0] + "-" + parts[1]
		default:
			words[i] = parts[0]
		}
	}
	return strings.Join(words, " ")
}
