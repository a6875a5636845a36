// Package compile turns a policy into a ruleset. It is pure: what it needs to
// know of the host comes in as a value, and the same input gives the same
// bytes.
//
// The order of rules is decided here and nowhere else. A packet's way:
//
//	nat_prerouting   from which zone? its port forwards, by map
//	nat_output       the gateway's own connections, the same
//	forward          established and related pass; from which zone? its rules,
//	                 then the paths that translating entries opened, then the
//	                 default; what comes from no zone passes
//	nat_postrouting  port forwards that need a new source; from which zone?
//	                 its masquerades
//	leak_guard       behind nat: what should have been translated and was not
//	                 is dropped
package compile

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Facts are what only the host can tell. The zero value compiles too, as on a
// desk; what depends on a fact is then left out.
type Facts struct {
	Links []Link
}

// Link is an interface of the host with the addresses it holds.
type Link struct {
	Name      string
	Addresses []Addr
}

// Addr is an address with the length of its network's prefix.
type Addr = netip.Prefix

// Result is a compiled policy.
type Result struct {
	Ruleset *ruleset.Ruleset
	// IPv4 and IPv6 say for which families the host must forward.
	IPv4, IPv6 bool
	// Warnings are about policies that do what they say and may not be meant.
	Warnings policy.Errors
}

// compiler holds what the steps share.
type compiler struct {
	policy  *policy.Policy
	facts   Facts
	out     *ruleset.Ruleset
	sets    map[string]*namedSet
	zones   []*zone
	byName  map[string]*zone
	buckets []bucket

	masquerades []condition // by index in the policy
	rules       []condition // of forward, the same

	taken    map[string]bool   // names of sets and maps
	chains   map[string]bool   // names of chains
	contents map[string]string // content of a shared set to its name
	counters map[string]bool
	numbers  map[numbered]int

	forwards [2]bool // families that something is forwarded of
	errs     policy.Errors
	warnings policy.Errors
}

// Compile compiles a policy. The error is of type policy.Errors: conflicts
// that only the whole policy shows, all of them.
func Compile(p *policy.Policy, facts Facts) (*Result, error) {
	c := &compiler{
		policy: p, facts: facts, out: &ruleset.Ruleset{},
		sets: map[string]*namedSet{}, byName: map[string]*zone{},
		taken: map[string]bool{}, chains: map[string]bool{}, contents: map[string]string{},
		counters: map[string]bool{}, numbers: map[numbered]int{},
	}
	c.resolveSets()
	c.resolveZones()
	if len(c.errs) > 0 {
		c.errs.Sort()
		return nil, c.errs
	}
	c.resolveMasquerades()
	c.resolveRules()
	forwards := c.portForwards()
	c.warn()
	if len(c.errs) > 0 {
		c.errs.Sort()
		return nil, c.errs
	}
	if len(c.zones) > 0 {
		c.prerouting(forwards)
		c.output(forwards)
		c.forward(forwards)
		c.postrouting(forwards)
		c.leakGuard()
	}
	c.sort()
	r := &Result{Ruleset: c.out}
	r.IPv4, r.IPv6 = c.forwarding()
	c.warnings.Sort()
	r.Warnings = c.warnings
	return r, nil
}

// forwarding says for which families the host must forward: those that the
// policy forwards, or what it says.
func (c *compiler) forwarding() (v4, v6 bool) {
	if c.policy.Forward.Default == policy.Accept {
		for f, have := range zoneFamilies(c.zones) {
			c.forwards[f] = c.forwards[f] || have
		}
	}
	g := &c.policy.Gateway
	for f, written := range []*bool{g.ForwardIPv4, g.ForwardIPv6} {
		if written == nil {
			continue
		}
		if !*written && c.forwards[f] {
			c.warning(g.Place, "`forwarding` leaves "+familyName(f)+" as the host has it, and entries of this policy forward "+familyName(f)+"; they need it on")
		}
		c.forwards[f] = *written
	}
	return c.forwards[0], c.forwards[1]
}

func (c *compiler) fail(at policy.Place, message string, notes ...policy.Note) {
	c.errs = append(c.errs, &policy.Error{Place: at, Message: message, Notes: notes})
}

func (c *compiler) warning(at policy.Place, message string, notes ...policy.Note) {
	c.warnings = append(c.warnings, &policy.Error{Place: at, Message: message, Notes: notes})
}
