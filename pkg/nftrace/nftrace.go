// Package nftrace has the kernel tell which rules of nf_tables a packet meets.
//
// A [Tracer] sends nothing. It puts a chain of its own before all others, whose
// one rule marks the packets that are asked about for tracing; the kernel then
// tells of each rule and chain that decides something of them, in all tables. That
// chain is in a table that belongs to the tracer's socket: the kernel removes it
// when the process ends, however it ends. To make it counts as a change of the
// ruleset (its generation).
//
// What is not nf_tables is not told: legacy ip_tables, routing, reverse path
// filters, and what conntrack drops. There a packet is not seen any more.
package nftrace

import (
	"errors"
	"net/netip"
)

// Table is the beginning of the name of the table that a tracer makes; the number
// of the process follows.
const Table = "ipmasq_trace_"

// ErrNotSupported says that the kernel cannot have a table belong to a socket
// (Linux 5.12), or has no nf_tables.
var ErrNotSupported = errors.New("not supported by this kernel")

// Packets says which packets are traced. What is zero is any.
type Packets struct {
	// In is the interface that they come in by; Own are those that the host
	// itself sends.
	In                          string
	Own                         bool
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	ICMPType                    *uint8
}

// Kind is what an event tells of.
type Kind uint8

// The kinds (NFT_TRACETYPE_*).
const (
	Policy Kind = 1 // of a base chain whose rules have not decided
	Return Kind = 2 // the end of another chain, or of one that leaves it to the policy
	Rule   Kind = 3 // that matched
)

// Verdict is what was decided.
type Verdict string

// The verdicts. Others are given by their number.
const (
	Accept   Verdict = "accept"
	Drop     Verdict = "drop"
	Queue    Verdict = "queue"
	Stolen   Verdict = "stolen"
	Continue Verdict = "continue"
	Jump     Verdict = "jump"
	Goto     Verdict = "goto"
	Returns  Verdict = "return"
)

// Event is one rule or chain that had to do with a packet.
type Event struct {
	// Lost says that events were lost here: the kernel told more than there was
	// room for. Nothing else is set.
	Lost bool
	// ID is the same for all events of one packet, and most likely another for the
	// next one.
	ID      uint32
	Family  string // of the table: ip, ip6, inet, ...
	Table   string
	Chain   string
	Handle  uint64 // of the rule
	Kind    Kind
	Verdict Verdict
	To      string // the chain of Jump and Goto
	Mark    uint32
	// Header says whether what follows is told: the kernel tells it once for each
	// base chain.
	Header                      bool
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
	Protocol, TCPFlags          uint8
	In, Out                     int // indexes of interfaces; 0: none
}

// Chains are what is known of all chains and rules of a namespace.
type Chains struct {
	chains   map[chainName]Hook
	rules    map[ruleName]RuleAt
	comments map[chainName][]string
}

type chainName struct{ family, table, chain string }

type ruleName struct {
	chainName
	handle uint64
}

// Hook is where a base chain is.
type Hook struct {
	Name     string // prerouting, input, forward, output, postrouting, ...
	Priority int
	Type     string
}

// RuleAt is a rule's place in its chain, and its comment.
type RuleAt struct {
	Index   int
	Comment string
}

// Base gives the hook of a base chain. It is not ok for others.
func (c *Chains) Base(e *Event) (Hook, bool) {
	h, ok := c.chains[chainName{e.Family, e.Table, e.Chain}]
	return h, ok
}

// Rule finds the rule of an event.
func (c *Chains) Rule(e *Event) (RuleAt, bool) {
	r, ok := c.rules[ruleName{chainName{e.Family, e.Table, e.Chain}, e.Handle}]
	return r, ok && e.Kind == Rule
}

// Comments gives the comments of a chain's rules, in their order.
func (c *Chains) Comments(family, table, chain string) []string {
	return c.comments[chainName{family, table, chain}]
}

// Last says whether a chain is the last of its hook, but for those of nat, which
// most packets do not meet.
func (c *Chains) Last(family string, hook Hook) bool {
	for name, h := range c.chains {
		met := name.family == "inet" || name.family == family || family == "inet"
		if met && h.Name == hook.Name && h.Type != "nat" && h.Priority > hook.Priority {
			return false
		}
	}
	return true
}
