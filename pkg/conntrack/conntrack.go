// Package conntrack lists, watches and deletes the connections in the kernel's
// connection tracking table.
//
// A listing is not a snapshot: connections come and go while it runs, and one
// may turn up twice. Large tables are read in two halves at the same time, so
// that they come in no order. [Conn.Delete] names a connection by its reply
// tuple and its ID, so it never hits one that has taken its place since with
// another translation. Nothing is flushed by a filter: kernels that do not know
// it would flush everything.
package conntrack

import (
	"net/netip"
	"strconv"
	"time"
)

// Family is an IP version.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Status is the kernel's IPS_* bits (linux/netfilter/nf_conntrack_common.h).
type Status uint32

// The bits that matter to a gateway.
const (
	StatusExpected  Status = 1 << 0 // a helper announced it: an FTP data connection
	StatusSeenReply Status = 1 << 1
	StatusAssured   Status = 1 << 2 // not dropped early when the table is full
	StatusConfirmed Status = 1 << 3
	StatusSNAT      Status = 1 << 4 // the source is translated
	StatusDNAT      Status = 1 << 5 // the destination is translated

	StatusOffload         Status = 1 << 14 // it passes by the rules, through a flowtable
	StatusHardwareOffload Status = 1 << 15 // and by the processor
)

// Tuple is one direction of a connection. Ports are zero for protocols that
// have none; ICMP has type, code and ID, of the packet that went this way. GRE
// has the call IDs of PPTP in place of ports.
type Tuple struct {
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16

	ICMPType, ICMPCode uint8
	ICMPID             uint16

	// Zone is set only where this direction has a zone and the other has not.
	Zone uint16
}

// Protocols that have more to tell than addresses, by their IP numbers.
const (
	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
	ProtocolSCTP   = 132
)

// Counter counts one direction of a connection.
type Counter struct{ Packets, Bytes uint64 }

// Flow is one connection. Original is how its first packet arrived; Reply is
// how answers arrive, that is, what the gateway made of Original, reversed.
type Flow struct {
	Family   Family
	Protocol uint8 // IP protocol number
	Original Tuple
	Reply    Tuple
	Status   Status
	State    State // of TCP and SCTP
	Mark     uint32
	Timeout  time.Duration // left, in whole seconds
	Zone     uint16        // of both directions
	ID       uint32        // the kernel's; Delete needs it
	// Sent and Received count the original and the reply direction, where
	// Counted (nf_conntrack_acct was on when the connection began).
	Sent, Received Counter
	Counted        bool
	// Start is when it began, and Stop when it ended: zero where the kernel does
	// not keep times (nf_conntrack_timestamp); Stop is in events alone.
	Start, Stop time.Time
	// Master is the original direction of the connection that announced this
	// one, with MasterProtocol; of expected connections only.
	Master         Tuple
	MasterProtocol uint8
	// Helper is the helper that reads along, or "".
	Helper string
}

// Failures counts what connection tracking could not do since the namespace was
// made, and what it had trouble with. Each count wraps at 2^32 for a processor,
// and is 0 where the kernel does not keep it.
type Failures struct {
	// Inserts are flows that were not taken in because another one had their
	// addresses and ports: none was free for a translation, or two packets that
	// arrived together raced.
	Inserts uint64
	// Drops are packets that were dropped because their flow was not taken in:
	// the table or the memory was full, or the insert failed.
	Drops uint64
	// EarlyDrops are flows, not assured, that were thrown out for new ones
	// because the table was full.
	EarlyDrops uint64
	// Invalid are packets that belong to no flow and begin none.
	Invalid uint64
	// Errors are packets too broken to look at, such as ICMP errors about
	// nothing.
	Errors uint64
	// Found are packets for whose translation an address and port was first
	// chosen that another flow has.
	Found uint64
	// Restarts are look-ups that began anew because the table changed.
	Restarts uint64
	// Clashes are flows that were found to be there already, and packets that
	// were given to those: two packets that arrived together raced.
	Clashes uint64
	// LongChains are flows that were not taken in because too many others had
	// the same hash (since 5.15).
	LongChains uint64
}

// SNAT is whether the source of the connection is translated.
func (f Flow) SNAT() bool { return f.Status&StatusSNAT != 0 }

// DNAT is whether the destination of the connection is translated.
func (f Flow) DNAT() bool { return f.Status&StatusDNAT != 0 }

// String shows what was sent and, behind an arrow, what the gateway made of
// it: "tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 >
// 198.51.100.1:443".
func (f Flow) String() string {
	name := strconv.Itoa(int(f.Protocol))
	switch f.Protocol {
	case 1:
		name = "icmp"
	case 6:
		name = "tcp"
	case 17:
		name = "udp"
	case 58:
		name = "icmpv6"
	case 47:
		name = "gre"
	case 50:
		name = "esp"
	case 51:
		name = "ah"
	case 132:
		name = "sctp"
	case 136:
		name = "udplite"
	}
	text := name + " " + f.ends(f.Original.Source, f.Original.SourcePort, f.Original.Destination, f.Original.DestinationPort)
	if f.SNAT() || f.DNAT() {
		text += " -> " + f.ends(f.Reply.Destination, f.Reply.DestinationPort, f.Reply.Source, f.Reply.SourcePort)
	}
	return text
}

func (f Flow) ends(source netip.Addr, sourcePort uint16, destination netip.Addr, destinationPort uint16) string {
	if sourcePort == 0 && destinationPort == 0 {
		return source.String() + " > " + destination.String()
	}
	return netip.AddrPortFrom(source, sourcePort).String() + " > " + netip.AddrPortFrom(destination, destinationPort).String()
}
