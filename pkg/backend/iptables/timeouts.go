package iptables

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Names of our timeout objects have four characters: the kernel tells no more
// of what a rule refers to (net/netfilter/xt_CT.c has the usersize of a structure
// without it), and the legacy variant gives it back what it tells. The first
// says that it is ours, the second family and protocol, and two are a digest.
const (
	timeoutsMark = '='
	timeoutsName = 4
)

// timeoutKinds are the second characters, and what they stand for.
func timeoutKinds() map[byte]timeoutKind {
	return map[byte]timeoutKind{
		'i': {ruleset.IPv4, 1}, 't': {ruleset.IPv4, 6}, 'u': {ruleset.IPv4, 17}, 'l': {ruleset.IPv4, 136},
		'I': {ruleset.IPv6, 58}, 'T': {ruleset.IPv6, 6}, 'U': {ruleset.IPv6, 17}, 'L': {ruleset.IPv6, 136},
	}
}

type timeoutKind struct {
	family   ruleset.Family
	protocol uint8
}

// timeoutKindOf says what an object of ours is for.
func timeoutKindOf(name string) (k timeoutKind, ours bool) {
	if len(name) != timeoutsName || name[0] != timeoutsMark {
		return k, false
	}
	k, ours = timeoutKinds()[name[1]]
	return k, ours
}

// timeoutsOf is the chain that nothing leads to, with a rule for each object of
// a family: which states the policy names. Of the object itself the kernel tells
// all states, and has no room for anything else.
func timeoutsOf(f ruleset.Family) string { return chainKey(f, "raw", notes) }

const notes = prefix + "timeouts"

// timeoutObject makes the object for the flows of a family, whose name is none
// of those taken by others. Fits is false where there are no flows of its
// protocol.
func timeoutObject(x *ruleset.Timeout, f ruleset.Family, taken map[string]plan.Object) (o plan.Object, fits bool, err error) {
	states := backend.TimeoutStates(x.Protocol)
	if states == nil {
		return o, false, fmt.Errorf("no timeouts of protocol %d can be told", x.Protocol)
	}
	values, named := map[uint16]uint32{}, []string{}
	for _, p := range x.Policy {
		i := slices.IndexFunc(states, func(s backend.TimeoutState) bool { return s.Name == p.State })
		if i < 0 {
			return o, false, fmt.Errorf("protocol %d has no state %q", x.Protocol, p.State)
		}
		values[states[i].Attribute] = p.Seconds
		named = append(named, p.State)
	}
	o = plan.Object{Kind: plan.CtTimeout, Attributes: timeoutText(x.Protocol, named, values), Origin: ruleset.Origin{Entry: "timeouts"}}
	for char, k := range timeoutKinds() {
		if k != (timeoutKind{f, x.Protocol}) {
			continue
		}
		const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		for n := crc32.ChecksumIEEE([]byte(o.Attributes)); ; n++ {
			o.Name = string([]byte{timeoutsMark, char, digits[n/62%62], digits[n%62]})
			if was, is := taken[o.Name]; !is || was.Attributes == o.Attributes {
				return o, true, nil
			}
		}
	}
	return o, false, nil
}

// timeoutText tells the states that are named, and their seconds.
func timeoutText(protocol uint8, named []string, values map[uint16]uint32) string {
	var out []string
	for _, s := range backend.TimeoutStates(protocol) {
		if slices.Contains(named, s.Name) {
			out = append(out, fmt.Sprintf("%s %d", s.Name, values[s.Attribute]))
		}
	}
	return strings.Join(out, " ")
}

// timeoutNote is the rule that tells of an object.
func timeoutNote(o *plan.Object) line {
	return line{text: "-m comment --comment " + quoted("timeouts ("+o.Name+" "+o.Attributes+")"), origin: o.Origin}
}

// named finds, by the name of the object, the states that notes name.
func named(s *plan.Snapshot) map[string][]string {
	out := map[string][]string{}
	for _, f := range families() {
		for _, c := range s.Chains {
			if c.Name != timeoutsOf(f) {
				continue
			}
			for _, r := range c.Rules {
				_, text, _ := strings.Cut(commentOf(string(r.Body)), "(")
				name, states, _ := strings.Cut(strings.TrimSuffix(text, ")"), " ")
				for i, word := range strings.Fields(states) {
					if i%2 == 0 {
						out[name] = append(out[name], word)
					}
				}
			}
		}
	}
	return out
}

// found is a timeout object of ours that the kernel has, with all states.
type found struct {
	name   string
	values map[uint16]uint32
}

// objects are the timeout objects that were found, as far as notes tell of them.
func objects(list []found, s *plan.Snapshot) []plan.Object {
	states := named(s)
	var out []plan.Object
	for _, x := range list {
		k, _ := timeoutKindOf(x.name)
		out = append(out, plan.Object{
			Kind: plan.CtTimeout, Name: x.name, Attributes: timeoutText(k.protocol, states[x.name], x.values), Origin: ruleset.Origin{Entry: "timeouts"},
		})
	}
	return out
}

// timeoutValues are the seconds that an object's attributes tell, by the
// kernel's number for the state.
func timeoutValues(o *plan.Object) map[uint16]uint32 {
	k, _ := timeoutKindOf(o.Name)
	words := strings.Fields(o.Attributes)
	out := map[uint16]uint32{}
	for _, s := range backend.TimeoutStates(k.protocol) {
		for i := 0; i+1 < len(words); i += 2 {
			if words[i] == s.Name {
				n, _ := strconv.ParseUint(words[i+1], 10, 32)
				out[s.Attribute] = uint32(n)
			}
		}
	}
	return out
}

// nfct is the command of nfct(8) that makes an object.
func nfct(o *plan.Object) string {
	k, _ := timeoutKindOf(o.Name)
	family := "inet"
	if k.family == ruleset.IPv6 {
		family = "inet6"
	}
	name := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 136: "udplite"}[k.protocol]
	return fmt.Sprintf("nfct add timeout %s %s %s %s", o.Name, family, name, strings.Replace(o.Attributes, "unack ", "unacknowledged ", 1))
}
