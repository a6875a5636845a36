package conntrack

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Message types and attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew         = unix.NFNL_SUBSYS_CTNETLINK << 8       // IPCTNL_MSG_CT_NEW: began or, without NLM_F_CREATE, has changed
	ctGet         = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1     // IPCTNL_MSG_CT_GET
	ctDelete      = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2     // IPCTNL_MSG_CT_DELETE
	ctGetStatsCPU = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4     // IPCTNL_MSG_CT_GET_STATS_CPU
	ctGetStats    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5     // IPCTNL_MSG_CT_GET_STATS
	expGet        = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | 1 // IPCTNL_MSG_EXP_GET

	ctaTupleOriginal   = 1  // CTA_TUPLE_ORIG
	ctaTupleReply      = 2  // CTA_TUPLE_REPLY
	ctaStatus          = 3  // CTA_STATUS
	ctaProtocolInfo    = 4  // CTA_PROTOINFO
	ctaHelp            = 5  // CTA_HELP
	ctaTimeout         = 7  // CTA_TIMEOUT
	ctaMark            = 8  // CTA_MARK
	ctaCountersOrig    = 9  // CTA_COUNTERS_ORIG
	ctaCountersReply   = 10 // CTA_COUNTERS_REPLY
	ctaID              = 12 // CTA_ID
	ctaTupleMaster     = 14 // CTA_TUPLE_MASTER
	ctaZone            = 18 // CTA_ZONE
	ctaTimestamp       = 20 // CTA_TIMESTAMP
	ctaMarkMask        = 21 // CTA_MARK_MASK
	ctaFilter          = 25 // CTA_FILTER
	ctaStatusMask      = 26 // CTA_STATUS_MASK
	ctaFilterOrigFlags = 1  // CTA_FILTER_ORIG_FLAGS

	ctaFilterReplyFlags = 2 // CTA_FILTER_REPLY_FLAGS

	ctaTupleIP    = 1 // CTA_TUPLE_IP
	ctaTupleProto = 2 // CTA_TUPLE_PROTO
	ctaTupleZone  = 3 // CTA_TUPLE_ZONE

	ctaIPv4Source      = 1 // CTA_IP_V4_SRC
	ctaIPv4Destination = 2 // CTA_IP_V4_DST
	ctaIPv6Source      = 3 // CTA_IP_V6_SRC
	ctaIPv6Destination = 4 // CTA_IP_V6_DST

	ctaProtoNumber          = 1 // CTA_PROTO_NUM
	ctaProtoSourcePort      = 2 // CTA_PROTO_SRC_PORT
	ctaProtoDestinationPort = 3 // CTA_PROTO_DST_PORT
	ctaProtoICMPID          = 4 // CTA_PROTO_ICMP_ID, then TYPE and CODE
	ctaProtoICMPType        = 5
	ctaProtoICMPCode        = 6
	ctaProtoICMPv6ID        = 7 // CTA_PROTO_ICMPV6_ID, then TYPE and CODE
	ctaProtoICMPv6Type      = 8
	ctaProtoICMPv6Code      = 9

	ctaProtocolInfoTCP  = 1 // CTA_PROTOINFO_TCP
	ctaProtocolInfoSCTP = 3 // CTA_PROTOINFO_SCTP
	ctaInfoState        = 1 // CTA_PROTOINFO_TCP_STATE, CTA_PROTOINFO_SCTP_STATE

	ctaCounterPackets = 1 // CTA_COUNTERS_PACKETS
	ctaCounterBytes   = 2 // CTA_COUNTERS_BYTES

	ctaHelpName       = 1 // CTA_HELP_NAME
	ctaTimestampStart = 1 // CTA_TIMESTAMP_START
	ctaTimestampStop  = 2 // CTA_TIMESTAMP_STOP
)

func protocolFamily(f Family) uint8 {
	switch f {
	case IPv4:
		return unix.AF_INET
	case IPv6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

// encodeTuple writes a direction of a connection, as the kernel looks it up.
// The protocols that it knows have to have what tells their connections apart;
// of others it does not look at ports.
func encodeTuple(e *nfnetlink.Encoder, kind uint16, protocol uint8, t *Tuple) {
	tuple := e.Open(kind)
	ip := e.Open(ctaTupleIP)
	encodeAddress(e, ctaIPv4Source, ctaIPv6Source, t.Source)
	encodeAddress(e, ctaIPv4Destination, ctaIPv6Destination, t.Destination)
	e.Close(ip)
	proto := e.Open(ctaTupleProto)
	e.Uint8(ctaProtoNumber, protocol)
	switch protocol {
	case ProtocolICMP:
		e.Uint16(ctaProtoICMPID, t.ICMPID)
		e.Uint8(ctaProtoICMPType, t.ICMPType)
		e.Uint8(ctaProtoICMPCode, t.ICMPCode)
	case ProtocolICMPv6:
		e.Uint16(ctaProtoICMPv6ID, t.ICMPID)
		e.Uint8(ctaProtoICMPv6Type, t.ICMPType)
		e.Uint8(ctaProtoICMPv6Code, t.ICMPCode)
	default:
		e.Uint16(ctaProtoSourcePort, t.SourcePort)
		e.Uint16(ctaProtoDestinationPort, t.DestinationPort)
	}
	e.Close(proto)
	if t.Zone != 0 {
		e.Uint16(ctaTupleZone, t.Zone)
	}
	e.Close(tuple)
}

func encodeAddress(e *nfnetlink.Encoder, v4, v6 uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		e.Bytes(v4, b[:])
		return
	}
	b := a.As16()
	e.Bytes(v6, b[:])
}
