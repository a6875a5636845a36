package ruleset

// Type is the type of a field, of a set's key or of a map's data.
type Type uint8

// The types, with the names that nft has for them.
const (
	TypeNone    Type = iota
	Verdict          // verdict; only as a map's data
	IPv4Addr         // ipv4_addr, 4 bytes
	IPv6Addr         // ipv6_addr, 16 bytes
	InetService      // inet_service, a port, 2 bytes
	InetProto        // inet_proto, 1 byte
	IfName           // ifname, 16 bytes, zero padded
	IfIndex          // iface_index, 4 bytes
	ICMPType         // icmp_type, 1 byte
	ICMPv6Type       // icmpv6_type, 1 byte
	NFProto          // nf_proto, 1 byte
	CtState          // ct_state, 4 bytes
	CtStatus         // ct_status, 4 bytes
	CtDir            // ct_dir, 1 byte
	FibAddrType      // fib_addrtype, 4 bytes
	HopLimit         // a hop limit, 1 byte
	Mark             // mark, 4 bytes
	TCPFlags         // tcp_flag, 1 byte
	Number           // what Pick chooses, 4 bytes
	Boolean          // boolean, 4 bytes
)

// Size is the length of a value in bytes.
func (t Type) Size() int {
	switch t {
	case IPv4Addr, IfIndex, CtState, CtStatus, FibAddrType, Mark, Number, Boolean:
		return 4
	case IPv6Addr, IfName:
		return 16
	case InetService:
		return 2
	case InetProto, ICMPType, ICMPv6Type, NFProto, CtDir, HopLimit, TCPFlags:
		return 1
	}
	return 0
}

// Padded is the length of a value inside a concatenation: whole 32-bit words.
func (t Type) Padded() int { return (t.Size() + 3) &^ 3 }

// Field is a property of a packet or of its conntrack entry.
type Field uint8

// The fields.
const (
	IIfName         Field = iota // name of the interface it came in by
	OIfName                      // name of the interface it leaves by
	IIf                          // index of the interface it came in by; 0: the hook knows of none
	NFProtoField                 // IP family
	L4Proto                      // transport protocol
	IPSaddr                      // IPv4 source
	IPDaddr                      // IPv4 destination
	IP6Saddr                     // IPv6 source
	IP6Daddr                     // IPv6 destination
	SrcPort                      // transport source port
	DstPort                      // transport destination port
	ICMPTypeField                // ICMP type
	ICMPv6TypeField              // ICMPv6 type
	CtStateField                 // conntrack state, a bit field
	CtStatusField                // conntrack status, a bit field
	CtDirection                  // direction within the flow
	CtOrigProtoDst               // destination port that the flow first had
	FibDaddrType                 // kind of the destination address: local, unicast, ...
	FibDaddrIifType              // the same, seen from the interface it came in by alone
	FibSaddrType                 // kind of the source address
	FibSaddrOifType              // the same, seen from the interface it leaves by alone
	IP6HopLimit                  // IPv6 hop limit; in forward a router has counted it down already
	MetaMark                     // mark of the packet
	CtMark                       // mark of the flow
	TCPFlagsField                // TCP flags, a bit field
	CtOrigIPSaddr                // IPv4 source that the flow first had
	CtOrigIPDaddr                // IPv4 destination that the flow first had
	CtOrigIP6Saddr               // the same of IPv6
	CtOrigIP6Daddr
	CtReplyIPDaddr  // IPv4 destination of answers before they are translated back
	CtReplyIP6Daddr // the same of IPv6
	FibSaddrIif     // 1: the way back to the source leaves by the interface it came in by; 0: it does not
	FibDaddrOIfName // name of the interface that the way to the destination leaves by, as far as it is known before routing
	FibSaddrOIfName // name of the interface that the way back to the source leaves by
)

// Type is the type of the field's values.
func (f Field) Type() Type {
	switch f {
	case IIfName, OIfName, FibDaddrOIfName, FibSaddrOIfName:
		return IfName
	case MetaMark, CtMark:
		return Mark
	case TCPFlagsField:
		return TCPFlags
	case CtOrigIPSaddr, CtOrigIPDaddr, CtReplyIPDaddr:
		return IPv4Addr
	case CtOrigIP6Saddr, CtOrigIP6Daddr, CtReplyIP6Daddr:
		return IPv6Addr
	case FibSaddrIif:
		return Boolean
	case IP6HopLimit:
		return HopLimit
	case IIf:
		return IfIndex
	case NFProtoField:
		return NFProto
	case L4Proto:
		return InetProto
	case IPSaddr, IPDaddr:
		return IPv4Addr
	case IP6Saddr, IP6Daddr:
		return IPv6Addr
	case SrcPort, DstPort, CtOrigProtoDst:
		return InetService
	case ICMPTypeField:
		return ICMPType
	case ICMPv6TypeField:
		return ICMPv6Type
	case CtStateField:
		return CtState
	case CtStatusField:
		return CtStatus
	case CtDirection:
		return CtDir
	case FibDaddrType, FibDaddrIifType, FibSaddrType, FibSaddrOifType:
		return FibAddrType
	}
	return TypeNone
}

// Bits of the conntrack state, as nft has them (NF_CT_STATE_BIT).
const (
	CtInvalid     = 1 << 0
	CtEstablished = 1 << 1
	CtRelated     = 1 << 2
	CtNew         = 1 << 3
	CtUntracked   = 1 << 6
)

// Bits of the conntrack status (enum ip_conntrack_status).
const (
	CtConfirmed = 1 << 3 // a packet of the flow has passed before
	CtSNAT      = 1 << 4
	CtDNAT      = 1 << 5
)

// Bits of the TCP flags.
const (
	TCPFin = 1 << 0
	TCPSyn = 1 << 1
	TCPRst = 1 << 2
	TCPAck = 1 << 4
)

// The directions of a packet in its flow.
const (
	CtOriginal = 0
	CtReply    = 1
)

// Kinds of addresses (rtnetlink.h).
const (
	RTNLocal     = 2 // the host's own
	RTNBroadcast = 3
	RTNAnycast   = 4 // the host's own, and that of others
	RTNMulticast = 5
)
