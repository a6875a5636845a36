package ruleset

// StatementKind is what a statement does.
type StatementKind uint8

// The kinds of statement. The first three limit: behind them a rule goes on
// only where they hold.
const (
	RateUnder  StatementKind = iota // no more than Rate, for the rule or for each key of Set
	RateOver                        // more than Rate, the same
	CountOver                       // more flows than Count are open, for each key of Set
	Log                             // to the kernel log, or to the group of nflog
	SetMark                         // mark of the packet: mark & ^Mask | Value
	SetCtMark                       // mark of the flow, the same
	SetMaxSeg                       // TCP's maximum segment size of a SYN, lowered to Value; 0: to the route's
	SetHelper                       // the flow gets the helper Object, before it is confirmed
	SetTimeout                      // the flow gets the timeouts Object, before it is confirmed
	NoTrack                         // no conntrack for this packet
	Offload                         // the flow goes to the flowtable Object
	SetAddress                      // the address Fields[0] becomes what Fields[1] is, or unspecified where that is not given; conntrack does not know
)

// Statement is something that a rule does besides deciding.
type Statement struct {
	Kind   StatementKind
	Rate   Rate    // RateUnder, RateOver
	Count  uint32  // CountOver
	Set    string  // RateUnder, RateOver: a Dynamic set with a Timeout, or ""; CountOver: one without
	Fields []Field // the key of Set; SetAddress
	Log    LogTo   // Log
	Value  uint32  // SetMark, SetCtMark, SetMaxSeg
	Mask   uint32  // SetMark, SetCtMark
	Object string  // SetHelper, SetTimeout, Offload
}

// Rate is a number of packets in a time of so many seconds (1, 60, 3600, 86400
// or 604800), Burst of which, at least one, may come at once.
type Rate struct {
	Packets uint64
	Seconds uint64
	Burst   uint32
}

// LogTo is where a log statement writes. Level is a syslog level (0 emerg to 7
// debug) and goes to the kernel log, unless there is a group of nflog.
type LogTo struct {
	Prefix   string
	Level    uint32
	Group    uint16
	HasGroup bool
}

// Helper is a conntrack helper of the kernel, as an object that rules assign.
type Helper struct {
	Name     string
	Helper   string // the kernel's name: ftp, irc, sip, ...; of at most 15 bytes
	Protocol uint8
	Family   Family // IPv4, IPv6, or Inet for both
	Origin   Origin
}

// Timeout is how long flows of a transport protocol live, by state. States that
// are not named keep the values that the host has when the object is made. The
// kernel gives it to flows of its protocol alone, which must be one that it
// knows (net/netfilter/nft_ct.c).
type Timeout struct {
	Name     string
	Protocol uint8 // 1, 6, 17, 58, 136
	Family   Family
	Policy   []TimeoutState // in the order of their names
	Origin   Origin
}

// TimeoutState is a state by the name that nft(8) has for it, and seconds. ICMP
// and ICMPv6 have one state, "timeout".
type TimeoutState struct {
	State   string
	Seconds uint32
}

// Flowtable is where offloaded flows are kept, and the devices between which
// they go.
type Flowtable struct {
	Name     string
	Priority int
	Devices  []string // sorted
	Hardware bool
	Origin   Origin
}
