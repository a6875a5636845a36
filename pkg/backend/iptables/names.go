package iptables

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// prefix begins the names of our chains.
const prefix = "IPMASQ-"

// maxChain is the longest name of a chain that iptables takes.
const maxChain = 28

// chainName is what a chain of the ruleset is called. A name that is too long
// ends in a digest of it.
func chainName(name string, m mode) string {
	// What the table says need not be said again: more of the name fits.
	for _, x := range [][2]string{{"nat_prerouting", "dnat"}, {"nat_postrouting", "snat"}, {"leak_guard", "guard"}} {
		if rest, ok := strings.CutPrefix(name, x[0]); ok && (rest == "" || rest[0] == '_') {
			name = x[1] + rest
			break
		}
	}
	switch m {
	case dropping:
		name = "new_" + name
	case routed:
		name = "dnat_" + name
	case tracked:
		name = "ct_" + strings.TrimPrefix(name, "flows_of_")
	}
	if len(prefix+name) > maxChain || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		const digits = 6
		h := fnv.New64a()
		h.Write([]byte(name))
		head := name[:min(len(name), maxChain-len(prefix)-digits-1)]
		head = strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' || r == '"' || r == '\\' {
				return '_'
			}
			return r
		}, head)
		name = head + "-" + fmt.Sprintf("%016x", h.Sum64())[:digits]
	}
	return prefix + name
}

// quoted writes a word as iptables-save does.
func quoted(word string) string {
	plain := word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if plain {
		return word
	}
	out := make([]byte, 1, len(word)+2)
	out[0] = '"'
	for i := range len(word) {
		if c := word[i]; c == '"' || c == '\\' || c == '\'' {
			out = append(out, '\\')
		}
		out = append(out, word[i])
	}
	return string(append(out, '"'))
}

// comment is what a line of an entry carries. Names of entries have no "#" in
// them, as written by users; the last one counts.
func comment(entry, counter string) string {
	if counter == "+"+entry {
		counter = "+" // the name of an entry may be half of what fits
	}
	text := entry
	if counter != "" {
		if text != "" {
			text += " "
		}
		text += "#" + counter
	}
	if text == "" {
		return ""
	}
	return "-m comment --comment " + quoted(text)
}

// uncomment takes apart what comment made.
func uncomment(text string) (entry, counter string) {
	if rest, ok := strings.CutPrefix(text, "#"); ok && !strings.Contains(rest, " #") {
		return "", rest
	}
	if i := strings.LastIndex(text, " #"); i >= 0 {
		entry, counter = text[:i], text[i+2:]
		if counter == "+" {
			counter += entry
		}
		return entry, counter
	}
	return text, ""
}
