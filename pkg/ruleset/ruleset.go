// Package ruleset is what a policy compiles to: chains, rules, sets, maps and
// counters as plain data, before any backend has seen them.
//
// It is the waist of the program. Package compile makes it, the backends turn
// it into what their kernel interface takes, and nothing in it depends on
// either. Field and type names are those of nftables, since that is the
// vocabulary in which a packet's properties have names; see nft(8).
package ruleset

import (
	"fmt"
	"net/netip"
)

// Place is where in the policy an object comes from.
type Place struct {
	File         string
	Line, Column int
}

// String gives "policy.yaml:14:5", or "" for the zero Place.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Origin names the policy entry that an object was made for. Entry is the
// section and the name, as "port_forward web"; it is the comment that the
// object carries in the kernel. The place is provenance only: it is not part
// of what is compared.
type Origin struct {
	Entry string
	Place Place
}

// Ruleset is a whole compiled policy. Order is significant for the rules of a
// chain and nowhere else; everything is sorted by name so that the same policy
// gives the same bytes.
type Ruleset struct {
	Chains   []*Chain
	Sets     []*Set
	Counters []*Counter
	// Helpers, Timeouts and Flowtables are what statements refer to by name.
	Helpers    []*Helper
	Timeouts   []*Timeout
	Flowtables []*Flowtable
	// Origins are the entries that elements refer to by index.
	Origins []Origin
	// Ways are the narrowest interfaces first; none where no rule asks which
	// way leads to an address.
	Ways []Way
	// Docker is what Docker's rules are to let pass too; nil where they are left
	// alone.
	Docker *Docker
}

// Chain is a list of rules. A base chain has a Hook.
type Chain struct {
	Name   string
	Hook   *Hook
	Rules  []*Rule
	Origin Origin
}

// Hook attaches a base chain. Its policy is always accept: what must not pass
// is dropped by an explicit last rule, since the kernel sets a drop policy
// only after the old chain may be gone.
type Hook struct {
	Type     ChainType
	Point    HookPoint
	Priority int
}

// ChainType is the kind of a base chain.
type ChainType string

// The chain types.
const (
	TypeFilter ChainType = "filter"
	TypeNAT    ChainType = "nat"
	// TypeRoute is for the output hook: what changes the mark is routed again.
	TypeRoute ChainType = "route"
)

// HookPoint is a netfilter hook, by its number in uapi/linux/netfilter.h.
type HookPoint uint32

// The hooks.
const (
	Prerouting  HookPoint = 0
	Input       HookPoint = 1
	Forward     HookPoint = 2
	Output      HookPoint = 3
	Postrouting HookPoint = 4
)

// String gives the name that nft has for the hook.
func (h HookPoint) String() string {
	return [...]string{"prerouting", "input", "forward", "output", "postrouting"}[h]
}

// Rule is a conjunction of matches, then statements in order, then a count,
// then an action. A statement that limits is a match too: where it does not
// hold, what stands behind it is not done.
type Rule struct {
	// ID is stable: the chain, the entry and a number among the rules that
	// the entry has in this chain.
	ID      string
	Origin  Origin
	Matches []Match
	Do      []Statement
	Counter string // a named counter, or ""
	Action  Action
	// Known are the first destinations that the policy or the host tells, with
	// SNATToDest: what a backend goes by that cannot ask the flow.
	Known []AddrRange
}

// Counter is a named counter. It outlives changes of the rules that use it.
type Counter struct {
	Name   string
	Origin Origin
}

// Op is how a match compares.
type Op uint8

// The operations. For all but In and NotIn there is one field.
const (
	Equal     Op = iota // the field begins with Value: the whole, or a prefix of Bits bits
	NotEqual            // the opposite
	Between             // Value <= field <= High
	AnyOf               // a bit field has any bit of Value
	In                  // the fields, concatenated, are an element of Set
	NotIn               // the opposite
	Masked              // field & High == Value
	NotMasked           // the opposite
)

// Match is one condition on a packet. A match on a field that the packet does
// not have (a port of an ICMP packet, the conntrack direction of an untracked
// packet) is false, whatever the operation.
type Match struct {
	Fields []Field
	Op     Op
	Value  []byte // in network byte order
	High   []byte // with Between; with Masked and NotMasked the mask
	Bits   int    // with Equal and NotEqual: how many leading bits; 0 means all
	Set    string // with In and NotIn
}

// ActionKind is what a rule does with a packet that matched.
type ActionKind uint8

// The kinds of action.
const (
	Continue   ActionKind = iota // go on with the next rule
	Accept                       // leave this hook
	Drop                         // drop the packet
	Reject                       // drop and answer, as With says
	Jump                         // go through Chain and come back
	Goto                         // go through Chain and do not come back
	Return                       // back to the calling chain
	VerdictMap                   // look Fields (or what Pick chooses) up in Map, which says what to do; go on where it has no element
	DNAT                         // new destination: NAT, or what is looked up in Map; go on where it has no element
	SNATToDest                   // new source: the destination that the flow first had
	Masquerade                   // new source: the address of the interface it leaves by; ports as NAT says
	SNAT                         // new source: NAT, or what is looked up in Map; go on where it has no element
	Redirect                     // new destination: the host itself, the port of NAT, or the same port
	Synproxy                     // answer the handshake in the place of the server, as Syn says
)

// Action is what happens to a packet that matched.
type Action struct {
	Kind   ActionKind
	Chain  string  // Jump, Goto
	With   string  // Reject: "tcp reset", "port-unreachable" or "admin-prohibited"
	Fields []Field // VerdictMap, DNAT, SNAT: the key of Map
	Pick   Pick    // VerdictMap, DNAT, SNAT: the key of Map is a number instead
	Map    string  // VerdictMap, DNAT, SNAT
	Family Family  // DNAT, SNATToDest, SNAT
	NAT    NAT     // DNAT, SNAT, Masquerade, Redirect
	Syn    Syn     // Synproxy
}

// NAT is where a translation leads and how it chooses. With a Map, address and
// ports come from there: its Data is an address, or an address and a port; of
// ranges where the map's DataInterval is set. Ports may stand beside a map of
// single addresses.
type NAT struct {
	Low, High        netip.Addr // zero where a map says it; equal for one address
	PortMin, PortMax uint16     // 0: the port is kept where it is free
	Random           bool       // choose the port at random
	FullyRandom      bool       // by a random function of its own, not of the tuple
	Persistent       bool       // one client keeps one address of the range
	// Prefix keeps the host bits: the address's place in its own prefix is its
	// place in Low to High, or in the range that a map gives.
	Prefix bool
}

// Pick chooses one of Of numbers, 0 to Of-1, as the key of a map of the type
// Number.
type Pick struct {
	Of     uint32  // 0: no choice is made
	Fields []Field // the same number for the same values of these; empty: each in turn
}

// Syn is what a synproxy offers a client before it knows the server.
type Syn struct {
	MSS             uint16
	WindowScale     uint8
	SACK, Timestamp bool
}

// Family is an IP family by its number in NFPROTO_*.
type Family uint8

// The families; Inet is both.
const (
	Inet Family = 1
	IPv4 Family = 2
	IPv6 Family = 10
)

// String gives the word that nft has for the family in an expression.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ip"
	case IPv6:
		return "ip6"
	}
	return "inet"
}
