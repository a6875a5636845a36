// Package policy is the policy file: YAML text to a typed policy in which every
// value knows the place it was written at.
//
// Nothing here asks the host anything: a policy that parses on a desk parses on
// the gateway. What needs the whole policy at once (zones that overlap, ports
// that two entries claim) is found by package compile.
package policy

import (
	"fmt"
	"net/netip"
)

// Place is where a value stands in a policy file. Line and Column count from
// 1; Column counts bytes, as editors' "go to column" and compilers do.
type Place struct {
	File   string
	Line   int
	Column int
}

// String gives "policy.yaml:14:5", or "" for the zero Place.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Policy is one whole policy, merged from all files that were read. Lists keep
// the order in which the files were given and the entries stand in them.
type Policy struct {
	Zones       []Zone
	Sets        []Set
	Masquerade  []Masquerade
	PortForward []PortForward
	Forward     Forward
	Gateway     Gateway

	// Sources are the files that the policy was read from, in order, the
	// line files of sets and maps included.
	Sources []Source
}

// Source is one file as it was read.
type Source struct {
	Name string
	Text []byte
}

// Zone is one side of the gateway. Interfaces or Networks may be empty, which
// means any; not both.
type Zone struct {
	Place
	Name       string
	Interfaces []Interface
	Networks   []Address
}

// Interface is an interface name, or a prefix of names where Wildcard is set
// (Name is then without the asterisk).
type Interface struct {
	Place
	Name     string
	Wildcard bool
}

// Set is a named address list. Addresses hold no reference to another set.
type Set struct {
	Place
	Name      string
	Addresses []Address
}

// Address is one item of an address list: a range Low to High (equal for a
// single address; of one family), a reference to a set, or the word gateway.
type Address struct {
	Place
	Low, High netip.Addr
	Set       string // name, where the item is @name
	Gateway   bool   // the word gateway: whatever addresses the host holds
}

// Family narrows an entry to one IP family.
type Family uint8

// The families. AnyFamily is both.
const (
	AnyFamily Family = iota
	IPv4
	IPv6
)

// Protocol is an IP protocol number.
type Protocol struct {
	Place
	Number uint8
}

// Ports is a range of ports, First equal to Last for a single one.
type Ports struct {
	Place
	First, Last uint16
}

// ZoneRef names a zone; Any is the word any (Name is then "any").
type ZoneRef struct {
	Place
	Name string
	Any  bool
}

// Masquerade is one entry of the masquerade section.
type Masquerade struct {
	Place
	Name               string // as written, or derived from the content
	Family             Family
	From, To           []ZoneRef
	Sources            []Address
	ExceptSources      []Address
	Destinations       []Address
	ExceptDestinations []Address
	Protocols          []Protocol
	Ports              []Ports
	OutsidePorts       *Ports // nil: any
	PortSelection      PortSelection
	NoForward          bool // forward: false
}

// PortSelection is how the outside port of a translated flow is chosen.
type PortSelection uint8

// The port selections; Preserve keeps the inside port where it is free.
const (
	Preserve PortSelection = iota
	Random
	FullyRandom
)

// PortForward is one entry of the port_forward section. Either Map is set, or
// Protocols, Ports (or AllPorts) and To are.
type PortForward struct {
	Place
	Name          string // as written, or derived from the content
	Family        Family
	From          []ZoneRef
	Address       []Address // empty: the gateway's own addresses
	AnyAddress    bool      // address: any
	Protocols     []Protocol
	Ports         []Ports
	AllPorts      bool // ports: all
	ExceptPorts   []Ports
	To            Target
	Map           *ForwardMap
	Sources       []Address
	ExceptSources []Address
	Hairpin       Hairpin
	Masquerade    bool
}

// Target is where a port forward leads. First is 0 where the port is kept;
// Last equals First for a single port.
type Target struct {
	Place
	Addr        netip.Addr
	First, Last uint16
}

// ForwardMap is many port forwards in one entry.
type ForwardMap struct {
	Place
	Lines []MapLine
}

// MapLine is one forward of a map: Protocol/First-Last to Addr:ToFirst-ToLast,
// with ToFirst 0 where the port is kept. It is kept small, since there may be
// a million: its place is a line and column of File, an index of
// Policy.Sources.
type MapLine struct {
	Addr            netip.Addr
	First, Last     uint16
	ToFirst, ToLast uint16
	Protocol        uint8
	File            uint16
	Line            uint32
	Column          uint32
}

// Hairpin says which inside hosts reach a port forward at its outside address.
type Hairpin struct {
	Place
	Off   bool
	Zones []ZoneRef // nil: every declared zone that is not in from, and the gateway itself
	// OutsideSource: where the source must be translated, the target sees
	// the outside address, and not the gateway's address on its side.
	OutsideSource bool
}

// Forward is the forward section: what may pass.
type Forward struct {
	Place
	Default Action // Drop where the section or the key is absent
	Rules   []Rule
}

// Rule is one rule of the forward section.
type Rule struct {
	Place
	Name               string // as written, or derived from the content
	Family             Family
	From, To           []ZoneRef // empty: any
	Sources            []Address
	ExceptSources      []Address
	Destinations       []Address
	ExceptDestinations []Address
	Protocols          []Protocol
	SourcePorts        []Ports
	Ports              []Ports
	ICMPTypes          []ICMPType
	Action             Action
}

// ICMPType is an ICMP type by its name, with the number it has in each family;
// -1 where the family has none of that name.
type ICMPType struct {
	Place
	Name   string
	V4, V6 int
}

// Action is what happens to a packet.
type Action uint8

// The actions. Drop is the zero value: what nothing decides does not pass.
const (
	Drop Action = iota
	Reject
	Accept
)

// Gateway is the gateway section: the machine itself.
type Gateway struct {
	Place
	// ForwardIPv4 and ForwardIPv6 are nil where the policy leaves forwarding
	// to be found from what it forwards.
	ForwardIPv4, ForwardIPv6 *bool
}
