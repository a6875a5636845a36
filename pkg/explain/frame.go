package explain

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// slot is the room that each field has in a frame: that of the longest.
const slot = 16

// fieldCount is one more than the last field.
const fieldCount = ruleset.FibSaddrOIfName + 1

// lazy are the fields that are filled in when a rule looks at them: those that
// cost a question to the host, and what conntrack keeps of addresses.
const lazy = 1<<ruleset.CtOrigIPSaddr | 1<<ruleset.CtOrigIP6Saddr | 1<<ruleset.CtOrigIPDaddr | 1<<ruleset.CtOrigIP6Daddr |
	1<<ruleset.CtReplyIPDaddr | 1<<ruleset.CtReplyIP6Daddr |
	1<<ruleset.FibDaddrType | 1<<ruleset.FibDaddrIifType | 1<<ruleset.FibSaddrType | 1<<ruleset.FibSaddrOifType |
	1<<ruleset.FibSaddrIif | 1<<ruleset.FibDaddrOIfName | 1<<ruleset.FibSaddrOIfName

// tracked are the fields that only packets have which conntrack knows.
const tracked = 1<<ruleset.CtStatusField | 1<<ruleset.CtDirection | 1<<ruleset.CtOrigProtoDst | 1<<ruleset.CtMark |
	1<<ruleset.CtOrigIPSaddr | 1<<ruleset.CtOrigIPDaddr | 1<<ruleset.CtOrigIP6Saddr | 1<<ruleset.CtOrigIP6Daddr |
	1<<ruleset.CtReplyIPDaddr | 1<<ruleset.CtReplyIP6Daddr

// frame is the fields of a packet, as rules compare them.
type frame struct {
	values [int(fieldCount) * slot]byte
	has    uint64 // by field: the packet has it
	asked  uint64 // of the lazy ones: they are filled in, or not there

	p      Packet     // with addresses, ports and marks as they are now
	first  Packet     // as it came
	reply  netip.Addr // where conntrack has answers go
	status uint32
	ported bool   // its protocol has ports
	hidden uint64 // by field: not to be had at this point
	// noTrack: conntrack was told to pass it by.
	noTrack bool
}

func (f *frame) at(x ruleset.Field) []byte { return f.values[int(x)*slot : int(x+1)*slot] }

func (f *frame) put8(x ruleset.Field, v uint8) {
	f.values[int(x)*slot] = v
	f.has |= 1 << x
}

func (f *frame) put16(x ruleset.Field, v uint16) {
	binary.BigEndian.PutUint16(f.values[int(x)*slot:], v)
	f.has |= 1 << x
}

func (f *frame) put32(x ruleset.Field, v uint32) {
	binary.BigEndian.PutUint32(f.values[int(x)*slot:], v)
	f.has |= 1 << x
}

func (f *frame) putName(x ruleset.Field, name string) {
	at := f.at(x)
	clear(at[copy(at, name):])
	f.has |= 1 << x
}

// putAddr puts an address into the field of its family.
func (f *frame) putAddr(v4, v6 ruleset.Field, a netip.Addr) {
	switch {
	case a.Is4():
		b := a.As4()
		copy(f.at(v4), b[:])
		f.has |= 1 << v4
	case a.IsValid():
		b := a.As16()
		copy(f.at(v6), b[:])
		f.has |= 1 << v6
	}
}

// hasPorts says whether a protocol has the ports of TCP.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case 6, 17, 33, 132, 136:
		return true
	}
	return false
}

// load fills the frame with a packet before its first hook.
func (f *frame) load(p *Packet) {
	f.p, f.first, f.reply, f.status, f.has, f.asked = *p, *p, p.Source, 0, 0, 0
	f.ported, f.noTrack, f.hidden = hasPorts(p.Protocol), false, 0
	f.putName(ruleset.IIfName, p.In)
	index := uint32(0)
	if p.In != "" {
		index = 1
	}
	f.put32(ruleset.IIf, index)
	f.putName(ruleset.OIfName, "")
	family := ruleset.IPv6
	if p.Source.Is4() {
		family = ruleset.IPv4
	}
	f.put8(ruleset.NFProtoField, uint8(family))
	f.put8(ruleset.L4Proto, p.Protocol)
	if family == ruleset.IPv6 {
		hops := p.HopLimit
		if hops == 0 {
			hops = 64
		}
		f.put8(ruleset.IP6HopLimit, hops)
	}
	f.source()
	f.destination()
	switch p.Protocol {
	case 1:
		f.put8(ruleset.ICMPTypeField, p.ICMPType)
	case 58:
		f.put8(ruleset.ICMPv6TypeField, p.ICMPType)
	case 6:
		f.put8(ruleset.TCPFlagsField, p.TCPFlags)
	}
	f.put32(ruleset.MetaMark, p.Mark)
	f.put32(ruleset.CtStateField, p.State)
	f.put32(ruleset.CtMark, p.CtMark)
	f.put32(ruleset.CtStatusField, 0)
	f.put8(ruleset.CtDirection, ruleset.CtOriginal)
	f.put16(ruleset.CtOrigProtoDst, p.DestinationPort)
	if !f.ported {
		f.has &^= 1 << ruleset.CtOrigProtoDst
	}
	if p.Flow != nil {
		f.loadFlow(p.Flow)
	}
}

// source and destination take over what the packet has now.
func (f *frame) source() {
	f.putAddr(ruleset.IPSaddr, ruleset.IP6Saddr, f.p.Source)
	if f.ported {
		f.put16(ruleset.SrcPort, f.p.SourcePort)
	}
	f.asked &^= 1<<ruleset.FibSaddrType | 1<<ruleset.FibSaddrOifType | 1<<ruleset.FibSaddrIif | 1<<ruleset.FibSaddrOIfName
}

func (f *frame) destination() {
	f.putAddr(ruleset.IPDaddr, ruleset.IP6Daddr, f.p.Destination)
	if f.ported {
		f.put16(ruleset.DstPort, f.p.DestinationPort)
	}
	f.asked &^= 1<<ruleset.FibDaddrType | 1<<ruleset.FibDaddrIifType | 1<<ruleset.FibDaddrOIfName
}

// out sets the interface that the packet leaves by.
func (f *frame) out(name string) {
	f.p.Out = name
	f.putName(ruleset.OIfName, name)
	f.asked &^= 1 << ruleset.FibSaddrOifType
}

func (f *frame) mark(v uint32) {
	f.p.Mark = v
	f.put32(ruleset.MetaMark, v)
}

func (f *frame) ctMark(v uint32) {
	f.p.CtMark = v
	f.put32(ruleset.CtMark, v)
}

func (f *frame) setStatus(bit uint32) {
	f.status |= bit
	f.put32(ruleset.CtStatusField, f.status)
}

// track sets whether conntrack knows the packet at this point. Before it does,
// and where it was told to pass it by, its state alone can be asked for
// (nft_ct_get_eval).
func (f *frame) track(known bool) (state uint32) {
	state = f.p.State
	switch {
	case f.noTrack:
		state, known = ruleset.CtUntracked, false
	case known && state&(ruleset.CtInvalid|ruleset.CtUntracked) != 0:
		known = false
	case !known:
		state = ruleset.CtInvalid
	}
	f.hidden = 0
	if !known {
		f.hidden = tracked
	}
	f.put32(ruleset.CtStateField, state)
	return state
}

// has says whether the packet has a field, and asks the host for it if need be.
func (w *Walker) has(x ruleset.Field) bool {
	f := &w.frame
	bit := uint64(1) << x
	if f.has&(f.asked|^uint64(lazy))&^f.hidden&bit != 0 {
		return true
	}
	if bit&lazy&^f.hidden == 0 || f.asked&bit != 0 {
		return false
	}
	w.ask(x)
	return f.has&bit != 0
}

// value gives a field as rules compare it, if the packet has it.
func (w *Walker) value(x ruleset.Field, size int) ([]byte, bool) {
	if !w.has(x) {
		return nil, false
	}
	at := int(x) * slot
	return w.frame.values[at : at+size], true
}

// ask fills in a field that is lazy.
func (w *Walker) ask(x ruleset.Field) {
	f := &w.frame
	f.asked |= 1 << x
	on := func(a netip.Addr, iface string) uint32 {
		if w.host.LocalOn(a, iface) {
			return ruleset.RTNLocal
		}
		if k := w.host.Kind(a); k != ruleset.RTNLocal {
			return k
		}
		return rtnUnicast
	}
	// Addresses of one link are looked for on the packet's (nft_fib6_flowi_init).
	kind := func(a netip.Addr) uint32 {
		if link := cmp.Or(f.p.Out, f.p.In); link != "" && a.Is6() && a.IsLinkLocalUnicast() && !w.Guess {
			return on(a, link)
		}
		return w.host.Kind(a)
	}
	switch x {
	case ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr:
		f.putAddr(ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr, f.opened().Source)
	case ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr:
		f.putAddr(ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr, f.opened().Destination)
	case ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr:
		f.putAddr(ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr, f.reply)
	case ruleset.FibDaddrType:
		f.put32(x, kind(f.p.Destination))
	case ruleset.FibDaddrIifType:
		f.put32(x, on(f.p.Destination, f.p.In))
	case ruleset.FibSaddrType:
		f.put32(x, kind(f.p.Source))
	case ruleset.FibSaddrOifType:
		f.put32(x, on(f.p.Source, f.p.Out))
	case ruleset.FibSaddrIif:
		back := uint32(0)
		for _, name := range w.back() {
			if name == f.p.In {
				back = 1
			}
		}
		f.put32(x, back)
	case ruleset.FibSaddrOIfName:
		f.putName(x, w.named(w.back(), f.p.Source, ""))
	case ruleset.FibDaddrOIfName:
		f.putName(x, w.onward())
	}
}

// rtnUnicast is the kind of an address that is somewhere else.
const rtnUnicast = 1

// onward names the interface that leads to the packet's destination, as far as
// that is known before routing. An address of one link is looked for there.
func (w *Walker) onward() string {
	p := &w.frame.p
	if d := p.Destination; !w.Guess && p.In != "" && d.Is6() && (d.IsLinkLocalUnicast() || d.IsLinkLocalMulticast()) {
		if w.host.LocalOn(d, p.In) {
			return ""
		}
		return p.In
	}
	return w.named(w.ways(p.Destination), p.Destination, w.frame.first.Out)
}

// back gives the interfaces that lead back to the packet's source. An address
// of one link leads back to where it came from.
func (w *Walker) back() []string {
	p := &w.frame.p
	if !w.Guess && p.In != "" && p.Source.Is6() && p.Source.IsLinkLocalUnicast() {
		return []string{p.In}
	}
	return w.ways(p.Source)
}

// named is the interface that a packet to an address leaves by, of several one
// that is wanted, else the best. For the host's own addresses the kernel names
// none.
func (w *Walker) named(list []string, a netip.Addr, wanted string) string {
	if w.host.Kind(a) == ruleset.RTNLocal {
		return ""
	}
	for _, name := range list {
		if name == wanted {
			return name
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
