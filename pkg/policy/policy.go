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
	"time"
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
	SNAT        []SNAT
	OneToOne    []OneToOne
	PortForward []PortForward
	Redirect    []Redirect
	Forward     Forward
	Input       *Forward // nil: nothing is put on input; rules have no To
	Gateway     Gateway

	// Sources are the files that the policy was read from, in order, the
	// line files of sets and maps included.
	Sources []Source
	// Missing are the line files that it names and that could not be read.
	Missing []string
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
	// DefaultRoute adds the interfaces that hold the host's default route.
	DefaultRoute bool
	MSSClamp     MSSClamp
	Symmetric    *Symmetric // nil: off
	// Antispoof is what is written, or whether there are networks.
	Antispoof   bool
	AntispoofAt Place // zero where it is not written
}

// MSSClamp lowers the maximum segment size of TCP: to the route's where
// PathMTU is set, else to Size; 0 is off.
type MSSClamp struct {
	Place
	PathMTU bool
	Size    uint16
}

// Symmetric has replies leave by the uplink that their flow came in by. What
// is zero is chosen when it is applied.
type Symmetric struct {
	Place
	Gateway4, Gateway6 netip.Addr
	Mark               Mark // Mask 0: chosen
	Table              uint32
}

// Mark is bits of a packet mark.
type Mark struct {
	Place
	Value, Mask uint32
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
	Limits             Limits
	Timeouts           *Timeouts // nil: the host's
	Helpers            []Helper
	Log                *Log // nil: off
}

// SNAT is one entry of the snat section: a masquerade behind a pool.
type SNAT struct {
	Masquerade
	Addresses    []Address // no sets, no word gateway
	Distribution Distribution
	PortsPerHost uint16 // 0: ports are not divided
}

// Distribution is how a pool's address is chosen for a flow.
type Distribution uint8

// The distributions; Persistent gives one inside host one address.
const (
	Persistent Distribution = iota
	KernelChoice
	RoundRobin
)

// OneToOne is one entry of the one_to_one section. Outside and Inside are of
// one family and one length.
type OneToOne struct {
	Place
	Name            string
	Family          Family
	Zone            ZoneRef
	Outside, Inside netip.Prefix
	OutsideAt       Place
	InsideAt        Place
	ExposeAll       bool
	Expose          []Service
	Log             *Log
}

// Service is a protocol, and ports where it has any; no ports are all.
type Service struct {
	Place
	Protocol uint8
	Ports    []Ports
}

// Redirect is one entry of the redirect section.
type Redirect struct {
	Place
	Name               string
	Family             Family
	From               []ZoneRef
	Sources            []Address
	ExceptSources      []Address
	Destinations       []Address
	ExceptDestinations []Address
	Protocols          []Protocol
	Ports              []Ports
	ToPort             uint16 // 0: the same port
	Local              bool
	Log                *Log
}

// Limits are how many connections may be open at once; 0 is no limit.
type Limits struct {
	Place
	PerHost, Total uint32
}

// Timeouts are how long flows live, by protocol and state; a state that is not
// named keeps the host's value.
type Timeouts struct {
	Place
	TCP, UDP []Timeout
	ICMP     time.Duration // 0: the host's
	Generic  time.Duration // of conntrack alone, not of an entry
}

// Timeout is the life of a flow in a state.
type Timeout struct {
	Place
	State string // as the language has it: established, unreplied, ...
	After time.Duration
}

// Helper is a conntrack helper by the language's name, and the ports it
// listens to: those of its protocol where none are written.
type Helper struct {
	Place
	Name  string
	Ports []Ports
}

// Log is what is logged of an entry.
type Log struct {
	Place
	Prefix string // empty: the entry's name
	Level  uint8  // syslog: 0 emerg to 7 debug
	Rate   Rate
	Group  *uint16 // nflog; nil: the kernel log
}

// Rate is so many in a time (a second, minute, hour or day), Burst of which may
// come at once, all together or for each source.
type Rate struct {
	Place
	Count     uint32
	Per       time.Duration
	Burst     uint32
	PerSource bool
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
	To            Target   // the first, where there are several
	Targets       []Target // all, where there are several
	Sticky        bool
	Map           *ForwardMap
	Sources       []Address
	ExceptSources []Address
	Hairpin       Hairpin
	Masquerade    bool
	Limits        Limits
	Timeouts      *Timeouts
	Helpers       []Helper
	Log           *Log
}

// Target is where a port forward leads. First is 0 where the port is kept;
// Last equals First for a single port.
type Target struct {
	Place
	Addr        netip.Addr
	First, Last uint16
	// MaybePort is the host where an IPv6 address without brackets ends in what
	// may be meant for a port: fd00::10 of fd00::10:8080.
	MaybePort netip.Addr
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
	Rate               *Rate // nil: no limit
	Synproxy           bool
	Limits             Limits
	Mark               *Mark // nil: left alone
	Log                *Log
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
	Backend                  string // auto, nftables or iptables; "" is auto
	Conntrack                *Conntrack
	Offload                  *Offload
	// ReservedPorts is nil where the key is absent: then they are the ports
	// that input rules open.
	ReservedPorts []Ports
	Docker        bool // docker: accept
}

// Conntrack is what the host's conntrack is set to; what is zero is left alone.
type Conntrack struct {
	Place
	Max        uint32
	Accounting *bool
	Timeouts   *Timeouts
}

// Offload has the flows between zones bypass the rules once they are open.
type Offload struct {
	Place
	Zones    []ZoneRef
	Hardware bool
}
