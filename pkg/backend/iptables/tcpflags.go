package iptables

import (
	"slices"
	"strings"
)

// oneOfFlags makes one of what is asked of TCP's flags, but for what is excluded:
// of two in a rule iptables-nft shows one, from 1.8.10 on.
func oneOfFlags(atoms []atom) (out []atom, possible bool) {
	var mask, value byte
	for _, a := range atoms {
		if a.not {
			out = append(out, a)
			continue
		}
		names, set, _ := strings.Cut(a.text, " ")
		m, v := flagBits(names), flagBits(set)
		if (v^value)&m&mask != 0 {
			return nil, false
		}
		mask, value = mask|m, value|v
	}
	if mask != 0 {
		out = slices.Insert(out, 0, atom{slot: flags, text: flagNames(mask) + " " + flagNames(value)})
	}
	return out, true
}

// flagBits are those of names that flagNames made.
func flagBits(names string) (bits byte) {
	for name := range strings.SplitSeq(names, ",") {
		if i := slices.Index(tcpFlagNames(), name); i >= 0 {
			bits |= 1 << i
		}
	}
	return bits
}
