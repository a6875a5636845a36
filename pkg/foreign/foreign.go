// Package foreign reads the rules that other programs have on netfilter's hooks,
// and says what they may do with a packet.
//
// It reads nf_tables over netlink and the old ip_tables by their socket options,
// and changes nothing: a table of ip_tables is asked for only if it is there
// already, since to ask for one makes it. No program is run.
//
// Not every condition of others is known here. One that is not may hold or not:
// so of a packet there may be several outcomes, and only where all are the same
// is it certain ([Outcome]).
package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind is what holds the rules.
type Kind string

// The kinds. To the kernel, rules of iptables-nft are nf_tables like any other;
// they are told apart by the names of tables and chains.
const (
	NFT      Kind = "nft"
	XTNFT    Kind = "iptables-nft"
	XTLegacy Kind = "iptables-legacy"
)

// ErrNoTables is a kernel that has no ip_tables.
var ErrNoTables = errors.New("the kernel has no ip_tables")

// Hook is where a base chain is attached.
type Hook string

// The hooks, in the order of a packet's way.
const (
	Ingress     Hook = "ingress"
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
	Egress      Hook = "egress"
)

// Rules are all that others have.
type Rules struct {
	Tables []*Table
	// Own is the number of our own table; 0: there is none.
	Own uint64
	// Ours are the kinds of iptables that hold chains of ours, which are left out
	// here.
	Ours []Kind
	// Problems say what could not be read.
	Problems []string
}

// Table is a table of one family.
type Table struct {
	Kind   Kind
	Family string // "ip", "ip6", "inet", "bridge", "netdev"
	Name   string
	// Number grows with each table that the namespace gets; 0 of ip_tables.
	Number uint64
	Chains []*Chain

	own []*Chain // ours, in a table of iptables
}

// Chain is a chain; a base chain has a Hook.
type Chain struct {
	Name     string
	Hook     Hook   // "": not attached
	Type     string // "filter", "nat", "route"
	Priority int
	Drops    bool   // the policy
	Counted  bool   // the policy's packets are counted
	Packets  uint64 // that the policy was for
	Rules    []Rule
	// Devices are the links that a chain of ingress or egress is on, "eth*" for all
	// that begin so. Of other hooks there are none.
	Devices []string

	table *Table
}

// Rule is a conjunction of tests, and what is done with a packet that passes
// them. A rule that looks into a map of verdicts stands here once for each element.
type Rule struct {
	Tests   []Test
	Verdict Verdict
	To      string // of Jump and Goto: the chain; of DNAT and SNAT: the new end, if known
	Counted bool
	Packets uint64
	Comment string
	Handle  uint64 // by which nft(8) names it; of nf_tables alone
	// Marks and FlowMarks are the bits that it sets or takes out of the mark of
	// packets, and of flows (ct mark).
	Marks, FlowMarks uint32
	Ours             bool // it leads to our chains, which stand in tables of iptables
}

// Verdict is what a rule does.
type Verdict uint8

// The verdicts. Other is something that ends no walk, as a log or a mark.
const (
	Other Verdict = iota
	Accept
	Drop
	Reject
	Jump
	Goto
	Return
	DNAT // redirects too
	SNAT // masquerades too
	Untrack
)

// String gives the verdict as nft(8) names it.
func (v Verdict) String() string {
	return [...]string{"", "accept", "drop", "reject", "jump", "goto", "return", "dnat", "snat", "notrack"}[v]
}

// Base lists the base chains of a family's hook, in the order in which a packet
// meets them. Of those with one priority the order is the kernel's, which is not
// told; here the later table is first, as the kernel does it.
func (r *Rules) Base(ipv6 bool, hook Hook) []*Chain {
	if r == nil {
		return nil
	}
	var out []*Chain
	for _, t := range r.Tables {
		if t.Family != "inet" && t.Family != "netdev" && t.Family != family(ipv6) {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook == hook {
				out = append(out, c)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *Chain) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.table.Number, a.table.Number))
	})
	return out
}

func family(ipv6 bool) string {
	if ipv6 {
		return "ip6"
	}
	return "ip"
}

// On says whether the chain sees what goes by a link: those of ingress and egress
// are on some links alone.
func (c *Chain) On(name string) bool {
	if c.Hook != Ingress && c.Hook != Egress {
		return true
	}
	return (&Test{Names: c.Devices}).names(name)
}

// Table is what the chain belongs to.
func (c *Chain) Table() *Table { return c.table }

// String gives "ip filter FORWARD".
func (c *Chain) String() string { return c.table.Family + " " + c.table.Name + " " + c.Name }

// Chain finds a chain by its name, or gives nil.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.Chains {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Add puts a table in, and ties its chains to it.
func (r *Rules) Add(t *Table) {
	if t.Kind != NFT && t.withoutOurs() && !slices.Contains(r.Ours, t.Kind) {
		r.Ours = append(r.Ours, t.Kind)
	}
	for _, c := range t.Chains {
		c.table = t
	}
	r.Tables = append(r.Tables, t)
}

// String gives the rule much as nft(8) would.
func (r *Rule) String() string {
	var words []string
	for i := range r.Tests {
		words = append(words, r.Tests[i].String())
	}
	if r.Counted {
		words = append(words, fmt.Sprintf("counter packets %d", r.Packets))
	}
	if v := r.Verdict.String(); v != "" {
		words = append(words, v)
	}
	if r.To != "" {
		if r.Verdict == DNAT || r.Verdict == SNAT {
			words = append(words, "to")
		}
		words = append(words, r.To)
	}
	if r.Comment != "" {
		words = append(words, fmt.Sprintf("comment %q", r.Comment))
	}
	words = append(words, r.marking()...)
	return strings.Join(words, " ")
}

// Holders are the kinds that hold rules of ours: NFT by the table inet ipmasq,
// the others by chains.
func (r *Rules) Holders() []Kind {
	out := slices.Clone(r.Ours)
	if r.Own != 0 {
		out = append(out, NFT)
	}
	return out
}

// xtNames are the tables and chains that iptables has.
var xtTables = []string{"filter", "nat", "mangle", "raw", "security"}

// kindOf tells whether a table of nf_tables is iptables-nft's: it has one of
// iptables' names, and its base chains are named as the hooks there.
func kindOf(t *Table) Kind {
	if t.Family != "ip" && t.Family != "ip6" || !slices.Contains(xtTables, t.Name) {
		return NFT
	}
	for _, c := range t.Chains {
		if c.Hook != "" && c.Name != strings.ToUpper(string(c.Hook)) {
			return NFT
		}
	}
	return XTNFT
}

// Stops says whether any packet may end in the chain: its policy is drop, or a
// rule of it, or of a chain that it leads to, drops or rejects.
func (c *Chain) Stops() bool {
	return c.Drops || c.reaches(func(v Verdict) bool { return v == Drop || v == Reject })
}

// Translates says whether the chain may translate anything.
func (c *Chain) Translates() bool {
	return c.Type == "nat" && c.reaches(func(v Verdict) bool { return v == DNAT || v == SNAT })
}

func (c *Chain) reaches(what func(Verdict) bool) bool {
	seen := map[*Chain]bool{}
	var look func(*Chain) bool
	look = func(c *Chain) bool {
		if c == nil || seen[c] {
			return false
		}
		seen[c] = true
		return slices.ContainsFunc(c.Rules, func(r Rule) bool {
			return what(r.Verdict) || (r.Verdict == Jump || r.Verdict == Goto) && look(c.table.Chain(r.To))
		})
	}
	return look(c)
}

// Overriding lists the base chains that may stop or translate what our rules let
// pass as it is, hook by hook.
func (r *Rules) Overriding() (out []*Chain) {
	for _, hook := range []Hook{Ingress, Prerouting, Input, Forward, Output, Postrouting, Egress} {
		for _, t := range r.Tables {
			for _, c := range t.Chains {
				if c.Hook == hook && t.Family != "bridge" && (c.Stops() || c.Translates()) {
					out = append(out, c)
				}
			}
		}
	}
	return out
}
