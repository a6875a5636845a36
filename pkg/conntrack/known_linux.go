package conntrack

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// known is the connections that a watch knows to be open. A connection is told
// apart by the kernel's ID, its zone, protocol and both tuples, and these are
// kept whole: one that turns out to have gone can be named, with the address
// and port that it had outside. The ID alone would not do, since it hashes the
// entry's place in memory and its original tuple, and memory is used again at
// once.
//
// An entry is 40 bytes in IPv4 and 88 in IPv6, without a pointer, so that the
// collector does not look at it. Go's map makes that 105 bytes and 210 at most,
// measured where it is least full: a million IPv4 connections take 105 MB, and
// a million in IPv6 210 MB.
type known struct {
	v4     map[key4]record
	v6     map[key6]record
	silent int // records that are listed
}

type head [8]byte

type (
	key4 struct {
		head            head
		original, reply [12]byte
	}
	key6 struct {
		head            head
		original, reply [36]byte
	}
)

// record is what is kept of a connection beside its name: in milliseconds of
// Unix time when it began, the caller's label, and bits.
type record uint64

const (
	recordTold   record = 1 << iota // somebody was told that it began
	recordDead                      // it ended while the table was listed
	recordSeen                      // the value of watch.round when it was seen last
	recordListed                    // a listing told of it, not the kernel: it may end without a word
	recordFresh                     // it turned up in the listing that goes on

	recordLabel = 5
	recordBegan = recordLabel + 16
)

func (r record) has(bit record) bool { return r&bit != 0 }

func (r record) label() uint16 { return uint16(r >> recordLabel) }

func (r record) labelled(label uint16) record {
	return r&^(0xffff<<recordLabel) | record(label)<<recordLabel
}

func (r record) began() time.Time {
	if ms := int64(r >> recordBegan); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

// beginning is the time of a record; the zero time is 0. 43 bits of
// milliseconds last until 2248.
func beginning(t time.Time) record {
	if t.IsZero() {
		return 0
	}
	return record(max(t.UnixMilli(), 0)) << recordBegan
}

func newKnown() known { return known{v4: map[key4]record{}, v6: map[key6]record{}} }

func (k *known) get(f *Flow) (record, bool) {
	if f.Family == IPv6 {
		r, ok := k.v6[name6(f)]
		return r, ok
	}
	r, ok := k.v4[name4(f)]
	return r, ok
}

func (k *known) set(f *Flow, r record) {
	if f.Family == IPv6 {
		k.v6[name6(f)] = r
	} else {
		k.v4[name4(f)] = r
	}
}

func (k *known) remove(f *Flow) {
	if f.Family == IPv6 {
		delete(k.v6, name6(f))
	} else {
		delete(k.v4, name4(f))
	}
}

// len is how many there are, with those that are dead.
func (k *known) len() int { return len(k.v4) + len(k.v6) }

// each hands over every connection. The table may be changed meanwhile; what
// comes in then may be left out.
func (k *known) each(yield func(*Flow, record) error) error {
	var f Flow
	for key, r := range k.v4 {
		f = Flow{Family: IPv4}
		f.readHead(key.head, readTuple4(key.original[:]), readTuple4(key.reply[:]))
		if err := yield(&f, r); err != nil {
			return err
		}
	}
	for key, r := range k.v6 {
		f = Flow{Family: IPv6}
		f.readHead(key.head, readTuple6(key.original[:]), readTuple6(key.reply[:]))
		if err := yield(&f, r); err != nil {
			return err
		}
	}
	return nil
}

// nameable says whether a connection has what its name is made of: addresses
// of its family.
func (f *Flow) nameable() bool {
	v6 := f.Family == IPv6
	for _, a := range [...]netip.Addr{f.Original.Source, f.Original.Destination, f.Reply.Source, f.Reply.Destination} {
		if !a.IsValid() || a.Is6() != v6 {
			return false
		}
	}
	return true
}

func name4(f *Flow) (k key4) {
	k.head = f.head()
	for _, side := range []struct {
		to *[12]byte
		t  *Tuple
	}{{&k.original, &f.Original}, {&k.reply, &f.Reply}} {
		source, destination := side.t.Source.As4(), side.t.Destination.As4()
		copy(side.to[0:], source[:])
		copy(side.to[4:], destination[:])
		side.t.writePorts(side.to[8:])
	}
	return k
}

func name6(f *Flow) (k key6) {
	k.head = f.head()
	for _, side := range []struct {
		to *[36]byte
		t  *Tuple
	}{{&k.original, &f.Original}, {&k.reply, &f.Reply}} {
		source, destination := side.t.Source.As16(), side.t.Destination.As16()
		copy(side.to[0:], source[:])
		copy(side.to[16:], destination[:])
		side.t.writePorts(side.to[32:])
	}
	return k
}

// Directions that have the zone.
const (
	zoneBoth = iota
	zoneOriginal
	zoneReply
)

func (f *Flow) head() (h head) {
	binary.NativeEndian.PutUint32(h[0:], f.ID)
	zone, where := f.Zone, byte(zoneBoth)
	switch {
	case f.Original.Zone != 0:
		zone, where = f.Original.Zone, zoneOriginal
	case f.Reply.Zone != 0:
		zone, where = f.Reply.Zone, zoneReply
	}
	binary.NativeEndian.PutUint16(h[4:], zone)
	h[6], h[7] = where, f.Protocol
	return h
}

// readHead makes a connection of its name. Whether it was translated follows
// from the tuples, as for the kernel (nf_nat_setup_info).
func (f *Flow) readHead(h head, original, reply Tuple) {
	f.ID, f.Protocol = binary.NativeEndian.Uint32(h[0:]), h[7]
	f.Original, f.Reply = original, reply
	switch zone := binary.NativeEndian.Uint16(h[4:]); h[6] {
	case zoneBoth:
		f.Zone = zone
	case zoneOriginal:
		f.Original.Zone = zone
	case zoneReply:
		f.Reply.Zone = zone
	}
	f.Status = StatusConfirmed
	if f.Protocol == ProtocolICMP || f.Protocol == ProtocolICMPv6 {
		f.readICMP()
		if f.Original.ICMPID != f.Reply.ICMPID {
			f.Status |= StatusSNAT
		}
	}
	if f.Original.Source != f.Reply.Destination || f.Original.SourcePort != f.Reply.DestinationPort {
		f.Status |= StatusSNAT
	}
	if f.Original.Destination != f.Reply.Source || f.Original.DestinationPort != f.Reply.SourcePort {
		f.Status |= StatusDNAT
	}
}

// bare is what the table keeps of a connection.
func (f Flow) bare() Flow {
	return Flow{Family: f.Family, Protocol: f.Protocol, Original: f.Original, Reply: f.Reply, Zone: f.Zone, ID: f.ID,
		Status: f.Status & (StatusConfirmed | StatusSNAT | StatusDNAT)}
}

// readICMP puts what a name has at the place of ports where it belongs.
func (f *Flow) readICMP() {
	for _, t := range []*Tuple{&f.Original, &f.Reply} {
		t.ICMPID, t.ICMPType, t.ICMPCode = t.SourcePort, uint8(t.DestinationPort>>8), uint8(t.DestinationPort)
		t.SourcePort, t.DestinationPort = 0, 0
	}
}

// writePorts writes what a tuple has beside addresses. One that has ports has
// no ICMP, and the other way round.
func (t *Tuple) writePorts(to []byte) {
	binary.BigEndian.PutUint16(to[0:], t.SourcePort|t.ICMPID)
	binary.BigEndian.PutUint16(to[2:], t.DestinationPort|uint16(t.ICMPType)<<8|uint16(t.ICMPCode))
}

func (t *Tuple) readPorts(from []byte) {
	t.SourcePort, t.DestinationPort = binary.BigEndian.Uint16(from), binary.BigEndian.Uint16(from[2:])
}

func readTuple4(b []byte) (t Tuple) {
	t.Source, t.Destination = netip.AddrFrom4([4]byte(b[0:4])), netip.AddrFrom4([4]byte(b[4:8]))
	t.readPorts(b[8:])
	return t
}

func readTuple6(b []byte) (t Tuple) {
	t.Source, t.Destination = netip.AddrFrom16([16]byte(b[0:16])), netip.AddrFrom16([16]byte(b[16:32]))
	t.readPorts(b[32:])
	return t
}
