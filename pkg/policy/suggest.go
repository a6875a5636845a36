package policy

import (
	"slices"
	"strings"
)

// Nearest gives the known word that a mistyped one most likely stands for, or ""
// where none is near.
func Nearest(word string, known []string) string { return nearest(word, known) }

// nearest gives the known word that a mistyped one most likely stands for, or
// "" where none is near.
func nearest(word string, known []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	if len(word) > 64 {
		return ""
	}
	if s := synonym(word); slices.Contains(known, s) {
		return s
	} else if one := strings.TrimSuffix(s, "s"); slices.Contains(known, one) {
		return one // where a key takes one, it is named so
	}
	best, least := "", min(1+max(1, len(word)/3), len(word))
	for _, k := range known {
		plain := strings.ReplaceAll(k, "-", "_")
		if word == plain {
			return k
		}
		if d := distance(word, plain, least); d < least {
			best, least = k, d
		}
	}
	if best != "" || len(word) < 4 {
		return best
	}
	// A word that is cut short, or has something added.
	for _, k := range known {
		plain := strings.ReplaceAll(k, "-", "_")
		if strings.HasPrefix(plain, word) || len(plain) >= 4 && strings.HasPrefix(word, plain) {
			return k
		}
	}
	return ""
}

// synonym gives the language's word for one that other tools have.
func synonym(word string) string {
	switch word {
	case "deny", "block", "discard":
		return "drop"
	case "allow", "permit", "pass":
		return "accept"
	case "warning":
		return "warn"
	case "error":
		return "err"
	case "panic", "emergency":
		return "emerg"
	case "nft":
		return "nftables"
	case "per_source":
		return "per_host"
	case "dport", "dports", "destination_port", "destination_ports":
		return "ports"
	case "sport", "sports", "source_port":
		return "source_ports"
	case "src":
		return "sources"
	case "dst", "dest":
		return "destinations"
	case "in", "in_interface", "iif", "iifname":
		return "from"
	case "out", "out_interface", "oif", "oifname":
		return "to"
	case "jump", "target", "verdict":
		return "action"
	case "policy":
		return "default"
	case "gw", "via", "next_hop":
		return "gateway"
	case "iface", "dev", "device":
		return "interfaces"
	case "subnet", "subnets", "cidr":
		return "networks"
	case "public", "external":
		return "outside"
	case "private", "internal":
		return "inside"
	case "ipv6_icmp", "icmp6":
		return "icmpv6"
	case "s", "sec":
		return "second"
	case "m", "min":
		return "minute"
	case "h":
		return "hour"
	case "d":
		return "day"
	}
	return ""
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to turn a into b; anything at or above limit may come back
// as limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
