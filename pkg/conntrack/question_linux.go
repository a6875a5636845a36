package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// question is what the kernel is asked to list: connections of which all is as
// the fields say that are not zero. It can ask for one address or port of a
// direction, and not for a choice.
type question struct {
	family             Family
	protocol           uint8
	status, statusMask Status
	mark, markMask     uint32
	original, reply    ends
}

// ends are the addresses and ports of one direction.
type ends struct {
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
}

// allows says the same of a connection as the kernel does that heeds the
// question. Older ones ignore what they do not know.
func (q *question) allows(f *Flow) bool {
	return (q.family == 0 || q.family == f.Family) && (q.protocol == 0 || q.protocol == f.Protocol) &&
		f.Status&q.statusMask == q.status && f.Mark&q.markMask == q.mark &&
		q.original.allow(&f.Original) && q.reply.allow(&f.Reply)
}

func (e *ends) allow(t *Tuple) bool {
	return (!e.source.IsValid() || e.source == t.Source) && (!e.destination.IsValid() || e.destination == t.Destination) &&
		(e.sourcePort == 0 || e.sourcePort == t.SourcePort) && (e.destinationPort == 0 || e.destinationPort == t.DestinationPort)
}

// The bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS.
const (
	filterSource          = 1 << 0
	filterDestination     = 1 << 1
	filterProtocol        = 1 << 3
	filterSourcePort      = 1 << 4
	filterDestinationPort = 1 << 5
)

// encode writes the question as the kernel takes it.
func (q *question) encode(e *nfnetlink.Encoder) {
	if q.statusMask != 0 {
		e.Uint32(ctaStatus, uint32(q.status))
		e.Uint32(ctaStatusMask, uint32(q.statusMask))
	}
	if q.markMask != 0 {
		e.Uint32(ctaMark, q.mark)
		e.Uint32(ctaMarkMask, q.markMask)
	}
	original := q.original.encode(e, ctaTupleOriginal, q.protocol)
	reply := uint32(0)
	if q.reply != (ends{}) {
		reply = q.reply.encode(e, ctaTupleReply, q.protocol)
	}
	if original|reply == 0 {
		return
	}
	filter := e.Open(ctaFilter | unix.NLA_F_NESTED)
	e.Bytes(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, original))
	e.Bytes(ctaFilterReplyFlags, binary.NativeEndian.AppendUint32(nil, reply))
	e.Close(filter)
}

// encode writes a tuple of which only some parts count, and gives the flags
// that say which.
func (p *ends) encode(e *nfnetlink.Encoder, kind uint16, protocol uint8) (flags uint32) {
	if *p == (ends{}) && protocol == 0 {
		return 0
	}
	tuple := e.Open(kind)
	if p.source.IsValid() || p.destination.IsValid() {
		ip := e.Open(ctaTupleIP)
		if p.source.IsValid() {
			flags |= filterSource
			encodeAddress(e, ctaIPv4Source, ctaIPv6Source, p.source)
		}
		if p.destination.IsValid() {
			flags |= filterDestination
			encodeAddress(e, ctaIPv4Destination, ctaIPv6Destination, p.destination)
		}
		e.Close(ip)
	}
	if protocol != 0 {
		flags |= filterProtocol
		proto := e.Open(ctaTupleProto)
		e.Uint8(ctaProtoNumber, protocol)
		if p.sourcePort != 0 {
			flags |= filterSourcePort
			e.Uint16(ctaProtoSourcePort, p.sourcePort)
		}
		if p.destinationPort != 0 {
			flags |= filterDestinationPort
			e.Uint16(ctaProtoDestinationPort, p.destinationPort)
		}
		e.Close(proto)
	}
	e.Close(tuple)
	return flags
}
