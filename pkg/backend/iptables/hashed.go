package iptables

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// seed is what addresses are hashed with: always the same, so that a change of
// the rules moves no client.
const seed = 0x69706d71

// clusters says whether the cluster match can choose: by the source that a flow
// first had, one of 32. Of an IPv6 address it looks at the first 32 bits alone,
// which are the same for all clients of a network (net/netfilter/xt_cluster.c).
func clusters(p *ruleset.Pick) bool {
	const nodes = 32
	return p.Of <= nodes && len(p.Fields) == 1 && (p.Fields[0] == ruleset.IPSaddr || p.Fields[0] == ruleset.CtOrigIPSaddr)
}

// hashed gives the match for each number that may be chosen.
func (t *translator) hashed(p *ruleset.Pick) (func(i int) string, error) {
	if clusters(p) {
		return func(i int) string {
			return fmt.Sprintf("-m cluster --cluster-local-nodemask 0x%08x --cluster-total-nodes %d --cluster-hash-seed 0x%08x", 1<<i, p.Of, seed)
		}, nil
	}
	var words []uint32 // where in the packet
	for _, f := range p.Fields {
		at, n := uint32(0), 1
		switch f {
		case ruleset.IPSaddr:
			at = 12
		case ruleset.IPDaddr:
			at = 16
		case ruleset.IP6Saddr:
			at, n = 8, 4
		case ruleset.IP6Daddr:
			at, n = 24, 4
		default:
			return nil, errors.New("iptables chooses by the addresses of a packet alone")
		}
		for i := range n {
			words = append(words, at+uint32(4*i))
		}
	}
	begin := mixed(words)
	return func(i int) string { return bytecode(append(begin[:len(begin):len(begin)], chosen(p.Of, uint32(i))...)) }, nil
}

// instruction is one of the kernel's classic filter machine (linux/filter.h).
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Instructions. A is the accumulator, X the index register.
const (
	loadConstant = 0x00 // A = k
	loadWord     = 0x20 // A = the word at k, in host order
	multiply     = 0x24 // A *= k
	shiftRight   = 0x74 // A >>= k
	modulo       = 0x94 // A %= k
	exclusiveOr  = 0xac // A ^= X
	toX          = 0x07 // X = A
	jumpEqual    = 0x15 // where A is k go on jt further, else jf
	give         = 0x06 // the end; 0: no match
)

// mixed hashes words of a packet: each is added to what is there times an odd
// number, and in the end every bit moves all others. The numbers are those of
// MurmurHash3's ending, and 2^32 divided by the golden ratio.
func mixed(words []uint32) []instruction {
	const golden, first, second = 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35
	out := []instruction{{code: loadConstant, k: seed}}
	for _, at := range words {
		out = append(out, instruction{code: multiply, k: golden}, instruction{code: toX}, instruction{code: loadWord, k: at}, instruction{code: exclusiveOr})
	}
	fold := func(bits uint32) {
		out = append(out, instruction{code: toX}, instruction{code: shiftRight, k: bits}, instruction{code: exclusiveOr})
	}
	fold(16)
	out = append(out, instruction{code: multiply, k: first})
	fold(13)
	out = append(out, instruction{code: multiply, k: second})
	fold(16)
	return out
}

// chosen matches where a hash chooses i of n.
func chosen(n, i uint32) []instruction {
	return []instruction{{code: modulo, k: n}, {code: jumpEqual, jf: 1, k: i}, {code: give, k: 1}, {code: give}}
}

// bytecode is a program as the bpf match takes and prints it.
func bytecode(program []instruction) string {
	parts := []string{fmt.Sprint(len(program))}
	for _, x := range program {
		parts = append(parts, fmt.Sprintf("%d %d %d %d", x.code, x.jt, x.jf, x.k))
	}
	return `-m bpf --bytecode "` + strings.Join(parts, ",") + `"`
}
