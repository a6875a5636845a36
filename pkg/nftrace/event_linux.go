package nftrace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// parse reads an event. It is not ok where the message is another.
func parse(m nfnetlink.Message) (e Event, ok bool) {
	if m.Type != nfnetlink.Nftables(unix.NFT_MSG_TRACE) {
		return e, false
	}
	e.Family = nfnetlink.FamilyName(m.Family())
	var network, transport []byte
	for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
		switch a.Type() {
		case unix.NFTA_TRACE_ID:
			e.ID = a.Uint32()
		case unix.NFTA_TRACE_TABLE:
			e.Table = a.String()
		case unix.NFTA_TRACE_CHAIN:
			e.Chain = a.String()
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.Handle = a.Uint64()
		case unix.NFTA_TRACE_TYPE:
			e.Kind = Kind(a.Uint32())
		case unix.NFTA_TRACE_VERDICT:
			e.Verdict, e.To = verdict(a.Bytes())
		case unix.NFTA_TRACE_POLICY:
			if e.Verdict == "" {
				e.Verdict = code(a.Uint32())
			}
		case unix.NFTA_TRACE_MARK:
			e.Mark = a.Uint32()
		case unix.NFTA_TRACE_IIF:
			e.In = int(a.Uint32())
		case unix.NFTA_TRACE_OIF:
			e.Out = int(a.Uint32())
		case unix.NFTA_TRACE_NETWORK_HEADER:
			network = a.Bytes()
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			transport = a.Bytes()
		}
	}
	// The kernel's own types tell the end of a chain from a rule that returns, or
	// from one that goes on, not on every version (__nft_trace_verdict).
	switch {
	case e.Handle != 0:
		e.Kind = Rule
	case e.Kind == Rule:
		e.Kind = Return
	}
	e.header(network, transport)
	return e, true
}

// header reads the beginning of the packet, as far as the kernel has told it.
func (e *Event) header(network, transport []byte) {
	switch {
	case len(network) >= 20 && network[0]>>4 == 4:
		e.Protocol = network[9]
		e.Source, e.Destination = netip.AddrFrom4([4]byte(network[12:16])), netip.AddrFrom4([4]byte(network[16:20]))
	case len(network) >= 40 && network[0]>>4 == 6:
		e.Protocol = network[6] // behind extension headers it is another, which is not told
		e.Source, e.Destination = netip.AddrFrom16([16]byte(network[8:24])), netip.AddrFrom16([16]byte(network[24:40]))
	default:
		return
	}
	e.Header = true
	switch e.Protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_DCCP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE:
		if len(transport) >= 4 {
			e.SourcePort, e.DestinationPort = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
		}
		if e.Protocol == unix.IPPROTO_TCP && len(transport) >= 14 {
			e.TCPFlags = transport[13]
		}
	}
}

func verdict(p []byte) (v Verdict, to string) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_VERDICT_CODE:
			v = code(a.Uint32())
		case unix.NFTA_VERDICT_CHAIN:
			to = a.String()
		}
	}
	return v, to
}

// code names a verdict. What is behind the lowest byte is a queue's number, or an
// error for the sender.
func code(n uint32) Verdict {
	switch int32(n) {
	case unix.NFT_CONTINUE:
		return Continue
	case unix.NFT_BREAK:
		return "break"
	case unix.NFT_JUMP:
		return Jump
	case unix.NFT_GOTO:
		return Goto
	case unix.NFT_RETURN:
		return Returns
	}
	switch n & 0xff {
	case nfDrop:
		return Drop
	case nfAccept:
		return Accept
	case nfStolen:
		return Stolen
	case nfQueue:
		return Queue
	}
	return Verdict(fmt.Sprint(int32(n)))
}

// NF_* of linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
	nfStolen = 2
	nfQueue  = 3
)
