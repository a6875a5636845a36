package conntrack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// decoder reads what the kernel tells of connections. An attribute that is cut
// short or has another length than it should is passed over, and the field
// stays zero.
type decoder struct {
	// names holds the helpers' names that were seen, so that a million flows
	// share a few strings.
	names map[string]string
}

// flow reads one connection. It says false where there is none that has
// addresses.
func (d *decoder) flow(m nfnetlink.Message, f *Flow) bool {
	*f = Flow{}
	switch m.Family() {
	case unix.AF_INET:
		f.Family = IPv4
	case unix.AF_INET6:
		f.Family = IPv6
	default:
		return false
	}
	for kind, p, rest := nfnetlink.FirstAttribute(m.Attributes()); rest != nil; kind, p, rest = nfnetlink.FirstAttribute(rest) {
		switch kind {
		case ctaTupleOriginal:
			f.Protocol = decodeTuple(p, &f.Original)
		case ctaTupleReply:
			decodeTuple(p, &f.Reply)
		case ctaTupleMaster:
			f.MasterProtocol = decodeTuple(p, &f.Master)
		case ctaStatus:
			f.Status = Status(uint32Of(p))
		case ctaTimeout:
			f.Timeout = time.Duration(uint32Of(p)) * time.Second
		case ctaMark:
			f.Mark = uint32Of(p)
		case ctaID:
			f.ID = uint32Of(p)
		case ctaZone:
			f.Zone = uint16Of(p)
		case ctaProtocolInfo:
			f.State = decodeState(p)
		case ctaCountersOrig:
			f.Sent, f.Counted = decodeCounter(p), true
		case ctaCountersReply:
			f.Received, f.Counted = decodeCounter(p), true
		case ctaTimestamp:
			f.Start, f.Stop = decodeTimes(p)
		case ctaHelp:
			f.Helper = d.name(p)
		}
	}
	return f.Original.Source.IsValid() && f.Original.Destination.IsValid() && f.Reply.Source.IsValid() && f.Reply.Destination.IsValid()
}

func uint16Of(p []byte) uint16 {
	if len(p) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(p)
}

func uint32Of(p []byte) uint32 {
	if len(p) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(p)
}

func decodeTuple(p []byte, t *Tuple) (protocol uint8) {
	const short, long = 4, 16 // of addresses
	switch len(p) {
	case usualSize + 2*short:
		if protocol, ok := decodeUsual(p, short, ctaIPv4Source, t); ok {
			t.Source, t.Destination = netip.AddrFrom4([short]byte(p[8:])), netip.AddrFrom4([short]byte(p[12+short:]))
			return protocol
		}
	case usualSize + 2*long:
		if protocol, ok := decodeUsual(p, long, ctaIPv6Source, t); ok {
			t.Source, t.Destination = netip.AddrFrom16([long]byte(p[8:])), netip.AddrFrom16([long]byte(p[12+long:]))
			return protocol
		}
	}
	return decodeAnyTuple(p, t)
}

// usualSize is what a tuple of a protocol with ports takes, without the
// addresses and without a zone.
const usualSize = 40

// decodeUsual reads the ports of such a tuple, addresses of so many bytes in
// it, if its attributes are the ones that the kernel always writes, in its
// order. That takes a tenth of the time of looking at each.
func decodeUsual(p []byte, size int, source uint16, t *Tuple) (protocol uint8, ok bool) {
	const nested = unix.NLA_F_NESTED
	n := uint16(size)
	behind := p[12+2*size:]
	if isAttribute(p, 12+2*n, ctaTupleIP|nested) && isAttribute(p[4:], 4+n, source) && isAttribute(p[8+size:], 4+n, source+1) &&
		isAttribute(behind, 28, ctaTupleProto|nested) && isAttribute(behind[4:], 5, ctaProtoNumber) &&
		isAttribute(behind[12:], 6, ctaProtoSourcePort) && isAttribute(behind[20:], 6, ctaProtoDestinationPort) {
		t.SourcePort, t.DestinationPort = binary.BigEndian.Uint16(behind[16:]), binary.BigEndian.Uint16(behind[24:])
		return behind[8], true
	}
	return 0, false
}

func isAttribute(p []byte, size, kind uint16) bool {
	return binary.NativeEndian.Uint16(p) == size && binary.NativeEndian.Uint16(p[2:]) == kind
}

func decodeAnyTuple(p []byte, t *Tuple) (protocol uint8) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case ctaTupleIP:
			decodeAddresses(a.Bytes(), t)
		case ctaTupleProto:
			protocol = decodeProtocol(a.Bytes(), t)
		case ctaTupleZone:
			t.Zone = uint16Of(a.Bytes())
		}
	}
	return protocol
}

func decodeAddresses(p []byte, t *Tuple) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		v := a.Bytes()
		switch a.Type() {
		case ctaIPv4Source:
			if len(v) == 4 {
				t.Source = netip.AddrFrom4([4]byte(v))
			}
		case ctaIPv4Destination:
			if len(v) == 4 {
				t.Destination = netip.AddrFrom4([4]byte(v))
			}
		case ctaIPv6Source:
			if len(v) == 16 {
				t.Source = netip.AddrFrom16([16]byte(v))
			}
		case ctaIPv6Destination:
			if len(v) == 16 {
				t.Destination = netip.AddrFrom16([16]byte(v))
			}
		}
	}
}

func decodeProtocol(p []byte, t *Tuple) (protocol uint8) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		v := a.Bytes()
		if len(v) == 0 {
			continue
		}
		switch a.Type() {
		case ctaProtoNumber:
			protocol = v[0]
		case ctaProtoSourcePort:
			t.SourcePort = uint16Of(v)
		case ctaProtoDestinationPort:
			t.DestinationPort = uint16Of(v)
		case ctaProtoICMPID, ctaProtoICMPv6ID:
			t.ICMPID = uint16Of(v)
		case ctaProtoICMPType, ctaProtoICMPv6Type:
			t.ICMPType = v[0]
		case ctaProtoICMPCode, ctaProtoICMPv6Code:
			t.ICMPCode = v[0]
		}
	}
	return protocol
}

func decodeState(p []byte) State {
	for kind, p, rest := nfnetlink.FirstAttribute(p); rest != nil; kind, p, rest = nfnetlink.FirstAttribute(rest) {
		if kind != ctaProtocolInfoTCP && kind != ctaProtocolInfoSCTP {
			continue
		}
		for kind, v, rest := nfnetlink.FirstAttribute(p); rest != nil; kind, v, rest = nfnetlink.FirstAttribute(rest) {
			if kind == ctaInfoState && len(v) == 1 {
				return State(v[0])
			}
		}
	}
	return 0
}

func decodeCounter(p []byte) (c Counter) {
	for kind, v, rest := nfnetlink.FirstAttribute(p); rest != nil; kind, v, rest = nfnetlink.FirstAttribute(rest) {
		switch {
		case len(v) < 8:
		case kind == ctaCounterPackets:
			c.Packets = binary.BigEndian.Uint64(v)
		case kind == ctaCounterBytes:
			c.Bytes = binary.BigEndian.Uint64(v)
		}
	}
	return c
}

func decodeTimes(p []byte) (start, stop time.Time) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		// In nanoseconds; 0 is what the kernel says of what has not been yet.
		t := time.Time{}
		if n := a.Uint64(); n != 0 {
			t = time.Unix(0, int64(n))
		}
		switch a.Type() {
		case ctaTimestampStart:
			start = t
		case ctaTimestampStop:
			stop = t
		}
	}
	return start, stop
}

func (d *decoder) name(p []byte) string {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() != ctaHelpName {
			continue
		}
		v := a.Bytes()
		for len(v) > 0 && v[len(v)-1] == 0 {
			v = v[:len(v)-1]
		}
		name, known := d.names[string(v)]
		if !known {
			if d.names == nil {
				d.names = map[string]string{}
			}
			name = string(v)
			d.names[name] = name
		}
		return name
	}
	return ""
}
