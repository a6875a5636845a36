package conntrack

import (
	"time"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// Message types and attributes of linux/netfilter/nfnetlink_conntrack.h. The
// library keeps its own to itself, and its Delete leaves out the ID.
const (
	ctGet         = 1 // IPCTNL_MSG_CT_GET
	ctDelete      = 2 // IPCTNL_MSG_CT_DELETE
	ctGetStatsCPU = 4 // IPCTNL_MSG_CT_GET_STATS_CPU
	ctGetStats    = 5 // IPCTNL_MSG_CT_GET_STATS

	ctaStatsEntries = 1 // CTA_STATS_GLOBAL_ENTRIES

	ctaStatsInsertFailed = 9  // CTA_STATS_INSERT_FAILED
	ctaStatsDrop         = 10 // CTA_STATS_DROP

	ctaTupleOriginal = 1  // CTA_TUPLE_ORIG
	ctaTupleReply    = 2  // CTA_TUPLE_REPLY
	ctaStatus        = 3  // CTA_STATUS
	ctaID            = 12 // CTA_ID
	ctaZone          = 18 // CTA_ZONE
	ctaStatusMask    = 26 // CTA_STATUS_MASK

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
	ctaProtoICMPv6ID        = 7 // CTA_PROTO_ICMPV6_ID, then TYPE and CODE
)

func header(message netfilter.MessageType, family netfilter.ProtoFamily) netfilter.Header {
	return netfilter.Header{
		SubsystemID: netfilter.NFSubsysCTNetlink,
		MessageType: message,
		Family:      family,
		Flags:       unix.NLM_F_REQUEST | unix.NLM_F_ACK,
	}
}

func protocolFamily(f Family) netfilter.ProtoFamily {
	if f == IPv6 {
		return netfilter.ProtoIPv6
	}
	return netfilter.ProtoIPv4
}

func number(kind uint16, value []byte) netfilter.Attribute {
	return netfilter.Attribute{Type: kind, Data: value}
}

func nested(kind uint16, children ...netfilter.Attribute) netfilter.Attribute {
	return netfilter.Attribute{Type: kind, Nested: true, Children: children}
}

// entryAttributes names one entry for good. The kernel finds it by one tuple
// and then compares the ID, which hashes the entry's place in memory and its
// original tuple (nf_ct_get_id). Memory is reused at once, so that the ID and
// the original tuple also fit a successor that is translated otherwise; the ID
// and the reply tuple do not.
func entryAttributes(f Flow) []netfilter.Attribute {
	attributes := []netfilter.Attribute{tupleAttribute(ctaTupleReply, f, f.Reply)}
	if f.Zone != 0 {
		attributes = append(attributes, number(ctaZone, netfilter.Uint16Bytes(f.Zone)))
	}
	return append(attributes, number(ctaID, netfilter.Uint32Bytes(f.ID)))
}

func tupleAttribute(kind uint16, f Flow, t Tuple) netfilter.Attribute {
	source, destination, icmpID := uint16(ctaIPv4Source), uint16(ctaIPv4Destination), uint16(ctaProtoICMPID)
	if f.Family == IPv6 {
		source, destination = ctaIPv6Source, ctaIPv6Destination
	}
	protocol := []netfilter.Attribute{number(ctaProtoNumber, []byte{f.Protocol})}
	switch f.Protocol {
	case unix.IPPROTO_ICMPV6:
		icmpID = ctaProtoICMPv6ID
		fallthrough
	case unix.IPPROTO_ICMP:
		protocol = append(protocol,
			number(icmpID, netfilter.Uint16Bytes(t.ICMPID)),
			number(icmpID+1, []byte{t.ICMPType}),
			number(icmpID+2, []byte{t.ICMPCode}))
	default:
		protocol = append(protocol,
			number(ctaProtoSourcePort, netfilter.Uint16Bytes(t.SourcePort)),
			number(ctaProtoDestinationPort, netfilter.Uint16Bytes(t.DestinationPort)))
	}
	tuple := nested(kind,
		nested(ctaTupleIP, number(source, t.Source.AsSlice()), number(destination, t.Destination.AsSlice())),
		nested(ctaTupleProto, protocol...))
	if t.Zone != 0 {
		tuple.Children = append(tuple.Children, number(ctaTupleZone, netfilter.Uint16Bytes(t.Zone)))
	}
	return tuple
}

func toFlow(f *conntrack.Flow) Flow {
	flow := Flow{
		Family:   IPv4,
		Protocol: f.TupleOrig.Proto.Protocol,
		Original: toTuple(f.TupleOrig),
		Reply:    toTuple(f.TupleReply),
		Status:   Status(f.Status.Value),
		Mark:     f.Mark,
		Timeout:  time.Duration(f.Timeout) * time.Second,
		Zone:     f.Zone,
		ID:       f.ID,
	}
	if flow.Original.Source.Is6() {
		flow.Family = IPv6
	}
	return flow
}

func toTuple(t conntrack.Tuple) Tuple {
	return Tuple{
		Source:          t.IP.SourceAddress,
		Destination:     t.IP.DestinationAddress,
		SourcePort:      t.Proto.SourcePort,
		DestinationPort: t.Proto.DestinationPort,
		ICMPType:        t.Proto.ICMPType,
		ICMPCode:        t.Proto.ICMPCode,
		ICMPID:          t.Proto.ICMPID,
		Zone:            t.Zone,
	}
}
