// Package compile turns a policy into a ruleset. It is pure: what it needs to
// know of the host comes in as a value, and the same input gives the same
// bytes.
//
// The order of rules is decided here and nowhere else. A packet's way:
//
//	raw_prerouting   sources that are forged
//	mangle_prerouting  answers of flows that came in by a symmetric uplink get
//	                 its mark; new flows are remembered by it
//	route_output     the same for the gateway's own answers
//	nat_prerouting   from which zone? its port forwards by map, redirects, and
//	                 one_to_one entries by map
//	mark_prerouting  the marks that rules of forward set
//	nat_output       the gateway's own connections, the same
//	nat_input        one_to_one entries that lead to the gateway itself
//	input            what reaches the gateway itself, if the policy says anything
//	                 of it
//	mangle_forward   the segment size of new TCP connections
//	docker_forward   the mark of what Docker's own nftables rules are to let pass
//	forward          established and related pass; from which zone? its rules,
//	                 then the paths that translating entries opened, then the
//	                 default; what comes from no zone passes
//	nat_postrouting  port forwards that need a new source; from which zone?
//	                 its one_to_one, snat and masquerade entries
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
	// Host says that a host was asked: what is not here, it does not have.
	Host bool
	// DefaultRoutes are the interfaces that hold its default route.
	DefaultRoutes []string
	// Local are the addresses that routes call the host's own.
	Local []netip.Prefix
	// Session is what the command is run over, or nil.
	Session *Session
	// Docker is what Docker has made; nil where that was not asked for.
	Docker *Docker
}

// Link is an interface of the host with the addresses it holds.
type Link struct {
	Name         string
	PointToPoint bool // nobody there asks for the address of a neighbour
	Addresses    []Addr
}

// Addr is an address with the length of its network's prefix.
type Addr = netip.Prefix

// Result is a compiled policy.
type Result struct {
	Ruleset *ruleset.Ruleset
	// IPv4 and IPv6 say for which families the host must forward.
	IPv4, IPv6 bool
	// Strict says that conntrack must not pick up a TCP connection of which it
	// has not seen the beginning: a synproxy hands it over later.
	Strict bool
	// Uplinks are the interfaces of symmetric zones.
	Uplinks []Uplink
	// Warnings are about policies that do what they say and may not be meant.
	Warnings policy.Errors
	// NotHeld are outside addresses of entries that the host does not hold.
	NotHeld []NotHeld
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

	translators []*translator
	rules       *filter // of forward
	inputRules  *filter // nil: nothing is put on input
	redirects   []*redirect
	oneToOne    []*mappings
	uplinks     []Uplink

	held     *[2]spans         // what answersFor has found
	taken    map[string]bool   // names of sets and maps
	chains   map[string]bool   // names of chains
	contents map[string]string // content of a shared set to its name
	counters map[string]bool
	numbers  map[numbered]int

	asked    bool    // rules ask which way leads to an address
	strict   bool    // conntrack must not pick up TCP in its middle
	forwards [2]bool // families that something is forwarded of
	errs     policy.Errors
	warnings policy.Errors
	unheld   []NotHeld
}

// Compile compiles a policy. The error is of type policy.Errors: conflicts
// that only the whole policy shows, all of them.
func Compile(p *policy.Policy, facts Facts) (*Result, error) {
	c := &compiler{
		policy: facts.Resolve(p), facts: facts, out: &ruleset.Ruleset{},
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
	c.resolveSymmetric()
	c.resolveOneToOne()
	c.resolveSNAT()
	c.resolveMasquerades()
	c.rules = c.resolveRules("forward", &c.policy.Forward)
	c.resolveInput()
	c.resolveRedirects()
	forwards := c.portForwards()
	c.checkSynproxy(c.rules)
	c.checkSynproxy(c.inputRules)
	c.warn()
	c.warnMistyped()
	c.session()
	c.warnWithoutRoute()
	if len(c.errs) > 0 {
		c.errs.Sort()
		return nil, c.errs
	}
	if len(c.zones) > 0 {
		c.raw()
		c.symmetric()
		c.prerouting(forwards)
		c.marks()
		c.output(forwards)
		c.exposures()
		c.natInput()
		c.input()
		c.mssClamp()
		c.loopback(forwards)
		c.forward(forwards)
		c.postrouting(forwards)
		c.leakGuard()
		c.networksBehind()
		c.docker(forwards)
	}
	c.sort()
	r := &Result{Ruleset: c.out, Uplinks: c.uplinks, Strict: c.strict}
	r.IPv4, r.IPv6 = c.forwarding()
	c.warnings.Sort()
	r.Warnings, r.NotHeld = c.warnings, c.unheld
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
