// Package explain walks one packet through a compiled ruleset as the kernel
// would, without a kernel.
//
// It is made for the first packet of a flow; one of an open flow is walked where
// the flow is told (Packet.Flow). What the kernel chooses, the walk
// cannot know: one of several targets, an address of a pool, a port, the address
// that masquerade takes. A packet can say what became of it (Became); the walk
// then answers whether that is among what the rules allow, and goes on with it.
// Otherwise it takes the first.
//
// It is benevolent: limits are never reached. A rule goes on where there is
// still room for it, and a rule that stops what is above a rate or a count does
// not match. A rule that drops what is within a rate does not match either.
// Counters, logs, helpers and timeouts are passed over.
//
// Rules of other tables are not known. Where a packet became something that no
// rule here makes of it, the walk takes it that another table's did, and goes
// on with that (Translation.Foreign).
package explain

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Host is what rules ask the host for: its routes and addresses.
type Host interface {
	Routing
	// Holds says whether a packet that is masqueraded on its way out of an
	// interface, or redirected on its way in, can get an address. Other is the
	// address of its other end.
	Holds(iface string, a, other netip.Addr) bool
	// Address gives the first that it can get; not valid where there is none.
	Address(iface string, other netip.Addr) netip.Addr
}

// Routing is what the host's routes say.
type Routing interface {
	// Kind is the kind of an address by the routes (RTN_* of rtnetlink(7)).
	Kind(a netip.Addr) uint32
	// LocalOn says whether an address is the host's own, seen from one interface.
	LocalOn(a netip.Addr, iface string) bool
	// Leaves gives the interfaces that a packet to an address may leave by, the
	// best first. The walk does not keep or change the list.
	Leaves(to netip.Addr) []string
	// Way gives those that one leaves by which has no mark, nor anything else
	// that a rule of routing asks for; more than one where a route has several
	// next hops.
	Way(to netip.Addr) []string
}

// Packet is a packet as it arrives, or as the host sends it where In is "".
type Packet struct {
	In string
	// Out is the interface that it leaves by once its destination is
	// translated; "" asks the routes.
	Out                         string
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16 // of protocols that have ports
	ICMPType                    uint8
	TCPFlags                    uint8
	HopLimit                    uint8  // 0 stands for 64
	State                       uint32 // of conntrack (ruleset.CtNew, ...)
	Mark, CtMark                uint32
	// Became is what it was translated to, or not set.
	Became Became
	// Flow is the flow that it belongs to, where an earlier packet has opened
	// that; nil where it opens one itself.
	Flow *Flow
}

// Flow is an open flow as conntrack has it: Original is how its first packet
// came, Reply how answers come. Answer says that the packet is one. The
// identifier of ICMP stands where the port of who asks does.
type Flow struct {
	Original, Reply Became
	Answer          bool
}

// Became is the source and destination of a packet, one that has been translated
// most of all. It is set if Destination is valid; Source is then too.
type Became struct {
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
}

// Translation is one translation of a packet.
type Translation struct {
	// Kind is the action that translated: DNAT or Redirect; SNAT, SNATToDest or
	// Masquerade. Continue: none did.
	Kind ruleset.ActionKind
	// Origin is the entry, as exactly as it is known.
	Origin *ruleset.Origin
	// Address and Port are what was chosen. Where ports do not count, Port is
	// that of the packet.
	Address netip.Addr
	Port    uint16
	// Allowed says that what the packet became is among what the rule makes of
	// it, or that nothing was said of that.
	Allowed bool
	// Foreign is a translation that the packet has and no rule here made. Kind
	// is then Continue.
	Foreign bool
	// Offers is what Address and Port are chosen from, as the rule or its map
	// has it.
	Offers ruleset.NAT
}

// Result is how a packet fared.
type Result struct {
	// Verdict is Accept, Drop, Reject or Synproxy. By decided that: the rule that
	// dropped the packet or, of those that let it pass, the rule of the filter
	// (the chain of priority 0 at forward or input). It is nil where no rule did.
	Verdict ruleset.ActionKind
	By      *ruleset.Origin
	At      ruleset.HookPoint // where the walk ended
	// DNAT and SNAT are what was made of its destination and source.
	DNAT, SNAT Translation
	// Local is set where the packet is for the host itself, Unrouted where no
	// route leads on.
	Local, Unrouted bool
	Out             string // the interface that it leaves by
	Mark, CtMark    uint32
	// Untracked says that conntrack was told to pass it by.
	Untracked bool
	// Ends are those that the packet has where the walk ended.
	Ends Became
	// With is how it was rejected (ruleset.Action).
	With string
}

// Step is a rule that matched. Set is the map that it looked into, if any, and
// Element what it found there. Limited is a rule that would have done what it
// says, were its limit reached.
type Step struct {
	Hook    ruleset.HookPoint
	Chain   *ruleset.Chain
	Rule    *ruleset.Rule
	Set     *ruleset.Set
	Element int
	Origin  *ruleset.Origin // of the element, or of the rule
	Limited bool
	// Source and Destination are those of the packet as it came to the rule.
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
}

// Walker walks packets through one ruleset. It serves one goroutine at a time.
// What it needs to find its way is made when it is first needed, so that making
// one costs little.
type Walker struct {
	// Trace is called with each rule that matched, unless it is nil.
	Trace func(Step)
	// ByHostBits is set by each walk of which a rule made one address of another,
	// or tried to: what came of it hangs on more than where addresses lie among
	// those of the rules.
	ByHostBits bool
	// Guess says that where a packet came in by, or leaves by, is a guess at what
	// was: any interface that may lead to an address then does.
	Guess bool

	rules  *ruleset.Ruleset
	host   Host
	chains []chain // in the order of their names
	sets   []set   // the same
	hooks  [5][]*chain
	kinds  []*kind
	kind   *kind // of the packet on its way
	frame  frame
	result Result
	depth  int
	limit  bool   // what is traced is a limit that is not reached
	came   Became // what is traced came with these ends to its rule
	hook   ruleset.HookPoint
}
