package foreign

import (
	"fmt"
	"net/netip"
	"slices"

	"encoding/binary"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// decoder turns the expressions of a rule into tests. It follows what is in the
// registers: a test is of a field that was loaded, maybe through a mask.
type decoder struct {
	*reader
	table  *Table
	family string // "inet" until the rule has tested it
	icmp   bool   // the rule has tested that
	rule   Rule
	// ways are what a look-up leads to: a rule each.
	ways []Rule
	regs [16]load // of four bytes each
}

// load is what is in a register.
type load struct {
	field  Field
	size   int    // of the field as loaded
	mask   []byte // what was ANDed with it
	value  []byte // of an immediate
	loaded bool
	// marked: it is a mark, of packets or flows, but for the bits of set.
	marked bool
	set    uint32
}

func (d *decoder) decode(p []byte) []Rule {
	for a := nfnetlink.Attributes(p); a.Next(); {
		var name string
		var data []byte
		for x := nfnetlink.Attributes(a.Bytes()); x.Next(); {
			switch x.Type() {
			case unix.NFTA_EXPR_NAME:
				name = x.String()
			case unix.NFTA_EXPR_DATA:
				data = x.Bytes()
			}
		}
		d.expression(name, data)
	}
	if d.ways == nil {
		return []Rule{d.rule}
	}
	out := make([]Rule, 0, len(d.ways))
	for _, w := range d.ways {
		r := d.rule
		r.Tests = append(slices.Clip(r.Tests), w.Tests...)
		if w.Verdict != Other {
			r.Verdict, r.To = w.Verdict, w.To
		}
		out = append(out, r)
	}
	return out
}

// attributes gives the first few attributes by their numbers.
func attributes(p []byte) (out [16]nfnetlink.Iterator) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if int(a.Type()) < len(out) {
			out[a.Type()] = a
		}
	}
	return out
}

// unit is the first of the four-byte registers that a register is made of.
func unit(register uint32) int {
	if register >= 1 && register <= 4 {
		return int(register-1) * 4
	}
	return int(register) - 8
}

func (d *decoder) expression(name string, p []byte) {
	a := attributes(p)
	switch name {
	case "meta":
		d.meta(a[unix.NFTA_META_KEY].Uint32(), a[unix.NFTA_META_DREG].Uint32())
		if sreg := a[unix.NFTA_META_SREG].Uint32(); sreg != 0 && a[unix.NFTA_META_KEY].Uint32() == unix.NFT_META_MARK {
			d.rule.Marks |= d.get(sreg).bitsOf()
		}
	case "payload":
		if dreg := a[1].Uint32(); dreg != 0 { // else it is written
			d.payload(dreg, a[2].Uint32(), a[3].Uint32(), int(a[4].Uint32()))
		}
	case "ct":
		d.ct(a[unix.NFTA_CT_KEY].Uint32(), a[unix.NFTA_CT_DREG].Uint32())
		if sreg := a[unix.NFTA_CT_SREG].Uint32(); sreg != 0 && a[unix.NFTA_CT_KEY].Uint32() == unix.NFT_CT_MARK {
			d.rule.FlowMarks |= d.get(sreg).bitsOf()
		}
	case "fib":
		field := Opaque
		if flags := a[unix.NFTA_FIB_FLAGS].Uint32(); a[unix.NFTA_FIB_RESULT].Uint32() == unix.NFT_FIB_RESULT_ADDRTYPE {
			switch flags {
			case unix.NFTA_FIB_F_SADDR:
				field = SourceType
			case unix.NFTA_FIB_F_DADDR:
				field = DestinationType
			}
		}
		d.put(a[unix.NFTA_FIB_DREG].Uint32(), load{field: field, size: 4})
	case "cmp":
		d.cmp(d.get(a[1].Uint32()), a[2].Uint32(), value(a[3].Bytes()))
	case "range":
		d.ranged(d.get(a[1].Uint32()), a[2].Uint32() == 1, value(a[3].Bytes()), value(a[4].Bytes()))
	case "bitwise":
		l := d.get(a[unix.NFTA_BITWISE_SREG].Uint32())
		mask, xor := value(a[unix.NFTA_BITWISE_MASK].Bytes()), value(a[unix.NFTA_BITWISE_XOR].Bytes())
		marked, set := l.masked(mask, xor)
		if l.mask != nil || mask == nil || slices.ContainsFunc(xor, func(b byte) bool { return b != 0 }) {
			l = load{size: l.size}
		}
		l.mask, l.marked, l.set = slices.Clone(mask), marked, set
		d.put(a[unix.NFTA_BITWISE_DREG].Uint32(), l)
	case "lookup":
		d.lookup(a[unix.NFTA_LOOKUP_SET].String(), a[unix.NFTA_LOOKUP_SREG].Uint32(), a[unix.NFTA_LOOKUP_FLAGS].Uint32()&1 != 0, a[unix.NFTA_LOOKUP_DREG].Bytes() != nil, a[unix.NFTA_LOOKUP_DREG].Uint32())
	case "immediate":
		if dreg := a[1].Uint32(); dreg != 0 {
			v := slices.Clone(value(a[2].Bytes()))
			d.put(dreg, load{size: len(v), value: v})
		} else {
			d.rule.Verdict, d.rule.To = verdict(a[2].Bytes())
		}
	case "counter":
		d.rule.Counted, d.rule.Packets = true, packets(p)
	case "objref":
		const counter, helper = 1, 3
		if kind := a[unix.NFTA_OBJREF_IMM_TYPE].Uint32(); kind != counter && kind != helper {
			d.opaque("a limit by name")
		}
	case "match":
		match, info := a[unix.NFTA_MATCH_NAME].String(), a[unix.NFTA_MATCH_INFO].Bytes()
		if match == "comment" {
			d.rule.Comment = xtComment(info)
		}
		d.rule.Tests = append(d.rule.Tests, xtMatch(match, byte(a[unix.NFTA_MATCH_REV].Uint32()), info)...)
	case "target":
		target, revision, info := a[unix.NFTA_TARGET_NAME].String(), byte(a[unix.NFTA_TARGET_REV].Uint32()), a[unix.NFTA_TARGET_INFO].Bytes()
		d.rule.Verdict, d.rule.To = xtTarget(target, revision, info)
		d.rule.Marks, d.rule.FlowMarks = xtMark(target, revision, info)
	case "reject":
		d.rule.Verdict = Reject
	case "masq":
		d.rule.Verdict = SNAT
	case "redir":
		d.rule.Verdict = DNAT
	case "nat":
		d.rule.Verdict = SNAT
		if a[unix.NFTA_NAT_TYPE].Uint32() == 1 {
			d.rule.Verdict = DNAT
		}
		d.rule.To = d.end(a[unix.NFTA_NAT_REG_ADDR_MIN].Uint32(), a[unix.NFTA_NAT_REG_PROTO_MIN].Uint32())
	case "notrack":
		d.rule.Verdict = Untrack
	case "queue", "tproxy", "synproxy":
		d.opaque(name)
		d.rule.Verdict = Accept
	case "log", "dynset", "dup", "flow_offload", "last":
	default:
		d.regs = [16]load{} // whatever it loads
		if name == "limit" || name == "connlimit" || name == "quota" || name == "osf" {
			d.opaque(name)
		}
	}
}

// end is where a translation leads, if it is written in the rule.
func (d *decoder) end(address, port uint32) string {
	a, known := netip.AddrFromSlice(d.get(address).value)
	if !known {
		return ""
	}
	if p := d.get(port).value; len(p) >= 2 {
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(p)).String()
	}
	return a.String()
}

func (d *decoder) put(register uint32, l load) {
	if u := unit(register); u >= 0 && u < len(d.regs) {
		l.loaded = true
		d.regs[u] = l
	}
}

func (d *decoder) get(register uint32) load {
	if u := unit(register); u >= 0 && u < len(d.regs) {
		return d.regs[u]
	}
	return load{}
}

func (d *decoder) opaque(text string) { d.test(Test{Text: text}) }

func (d *decoder) test(t Test) {
	d.rule.Tests = append(d.rule.Tests, t)
	if t.Field == Family && !t.Not && len(t.Ranges) == 1 {
		d.family = "ip"
		if t.Ranges[0][0][0] == unix.NFPROTO_IPV6 {
			d.family = "ip6"
		}
	}
	if t.Field == Protocol && !t.Not && len(t.Ranges) == 1 && len(t.Ranges[0][0]) == 1 {
		d.icmp = t.Ranges[0][0][0] == 1 || t.Ranges[0][0][0] == 58
	}
}

func (d *decoder) meta(key, dreg uint32) {
	l, known := map[uint32]load{
		unix.NFT_META_IIFNAME: {field: In, size: 16}, unix.NFT_META_OIFNAME: {field: Out, size: 16},
		unix.NFT_META_IIF: {field: In, size: 4}, unix.NFT_META_OIF: {field: Out, size: 4},
		unix.NFT_META_MARK: {field: Mark, size: 4, marked: true}, unix.NFT_META_NFPROTO: {field: Family, size: 1}, unix.NFT_META_PROTOCOL: {field: Family, size: 2}, unix.NFT_META_L4PROTO: {field: Protocol, size: 1},
	}[key]
	if dreg == 0 {
		return // it is written
	}
	if !known {
		l = load{size: 4}
	}
	d.put(dreg, l)
}

func (d *decoder) ct(key, dreg uint32) {
	if dreg == 0 {
		return
	}
	l := load{size: 4}
	switch key {
	case unix.NFT_CT_STATE:
		l.field = State
	case unix.NFT_CT_STATUS:
		l.field = Status
	case unix.NFT_CT_MARK:
		l.marked = true
	}
	d.put(dreg, l)
}

func (d *decoder) payload(dreg, base, offset uint32, size int) {
	l := load{size: size}
	is := func(at uint32, most int) bool { return offset == at && size <= most }
	switch {
	case base == unix.NFT_PAYLOAD_LL_HEADER && offset == 12 && size == 2:
		l.field = Family
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER && d.family == "ip":
		switch {
		case is(12, 4):
			l.field = Source
		case is(16, 4):
			l.field = Destination
		case is(9, 1):
			l.field = Protocol
		}
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER && d.family == "ip6":
		switch {
		case is(8, 16):
			l.field = Source
		case is(24, 16):
			l.field = Destination
		case is(6, 1):
			l.field = Protocol
		}
	case base == unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		switch {
		case offset == 0 && size == 2 && !d.icmp:
			l.field = SourcePort
		case offset == 2 && size == 2 && !d.icmp:
			l.field = DestinationPort
		case offset == 0 && size == 1 && d.icmp:
			l.field = ICMPType
		}
	}
	d.put(dreg, l)
}

// ofEthernet gives the family that a protocol of Ethernet is, 0 for others.
func ofEthernet(protocol []byte) []byte {
	switch binary.BigEndian.Uint16(protocol) {
	case unix.ETH_P_IP:
		return []byte{unix.NFPROTO_IPV4}
	case unix.ETH_P_IPV6:
		return []byte{unix.NFPROTO_IPV6}
	}
	return []byte{0}
}

// whole is how many bytes a field has.
func (d *decoder) whole(l load) int {
	if l.field == Source || l.field == Destination {
		if d.family == "ip6" {
			return 16
		}
		return 4
	}
	return l.size
}

func (d *decoder) cmp(l load, op uint32, data []byte) {
	not := op == unix.NFT_CMP_NEQ
	if l.field == Opaque || len(data) == 0 {
		d.opaque("a condition that is not known here")
		return
	}
	if l.field == Family && len(data) == 2 && l.mask == nil {
		data, l.size = ofEthernet(data), 1
	}
	switch l.field {
	case In, Out:
		if t, ok := d.link(l, data); ok && op <= unix.NFT_CMP_NEQ && l.mask == nil {
			t.Not = not
			d.test(t)
			return
		}
	case State, Status:
		if t, ok := bitTest(l, data, not); ok && op <= unix.NFT_CMP_NEQ {
			d.test(t)
			return
		}
	case Mark:
		if len(l.mask) == 4 && len(data) == 4 && op <= unix.NFT_CMP_NEQ && binary.NativeEndian.Uint32(l.mask) != 0 {
			d.test(Test{Field: Mark, Not: not, Ranges: big32(binary.NativeEndian.Uint32(data)), Bits: binary.NativeEndian.Uint32(l.mask)})
			return
		}
		fallthrough
	default:
		low, high, ok := d.span(l, data)
		if !ok {
			break
		}
		t := Test{Field: l.field, Not: not, Ranges: [][2][]byte{{low, high}}}
		zero, ones := make([]byte, len(low)), slices.Repeat([]byte{0xff}, len(low))
		switch op {
		case unix.NFT_CMP_LT:
			t.Not, t.Ranges[0] = true, [2][]byte{low, ones}
		case unix.NFT_CMP_LTE:
			t.Ranges[0] = [2][]byte{zero, high}
		case unix.NFT_CMP_GT:
			t.Not, t.Ranges[0] = true, [2][]byte{zero, high}
		case unix.NFT_CMP_GTE:
			t.Ranges[0] = [2][]byte{low, ones}
		}
		d.test(t)
		return
	}
	d.opaque(fmt.Sprintf("%s by a mask", fieldNames[l.field]))
}

// bitTest reads "any of these bits" or one bit alone.
func bitTest(l load, data []byte, not bool) (Test, bool) {
	if len(data) != 4 {
		return Test{}, false
	}
	v := binary.NativeEndian.Uint32(data)
	switch {
	case l.mask != nil && v == 0 && len(l.mask) == 4:
		return Test{Field: l.field, Not: !not, Bits: binary.NativeEndian.Uint32(l.mask)}, true
	case l.mask == nil && l.field == State && v != 0:
		return Test{Field: l.field, Not: not, Bits: v}, true // a packet has one state
	}
	return Test{}, false
}

// link is a test of an interface by its name, the beginning of that, or its index.
func (d *decoder) link(l load, data []byte) (Test, bool) {
	t := Test{Field: l.field}
	if l.size == 4 {
		if len(data) != 4 {
			return t, false
		}
		name := d.links[binary.NativeEndian.Uint32(data)]
		if name == "" {
			name = "(gone)"
		}
		t.Names = []string{name}
		return t, true
	}
	name := cString(data)
	if len(name) == len(data) && len(name) < 16 {
		name += "*"
	}
	t.Names = []string{name}
	return t, true
}

// span gives what a value stands for: itself or, of an address, a prefix. Numbers
// of the host's byte order are turned round.
func (d *decoder) span(l load, data []byte) (low, high []byte, ok bool) {
	n := d.whole(l)
	low, high = make([]byte, n), slices.Repeat([]byte{0xff}, n)
	if len(data) > n {
		data = data[:n]
	}
	copy(low, data)
	copy(high, data)
	if hostOrder(l.field) && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		slices.Reverse(low)
		slices.Reverse(high)
	}
	if l.mask == nil {
		return low, high, len(data) == n || l.field == Source || l.field == Destination
	}
	if l.field != Source && l.field != Destination || len(l.mask) > n {
		return low, high, false
	}
	mask := make([]byte, n)
	copy(mask, l.mask)
	t, any := masked(l.field, low, mask)
	if any || len(t.Ranges) == 0 {
		return low, high, false
	}
	return t.Ranges[0][0], t.Ranges[0][1], true
}

func hostOrder(f Field) bool { return f == Mark || f == SourceType || f == DestinationType }

func (d *decoder) ranged(l load, not bool, from, to []byte) {
	low, _, ok := d.span(l, from)
	_, high, ok2 := d.span(l, to)
	if !ok || !ok2 || l.field == Opaque || l.field == In || l.field == Out || hostOrder(l.field) {
		d.opaque("a condition that is not known here")
		return
	}
	d.test(Test{Field: l.field, Not: not, Ranges: [][2][]byte{{low, high}}})
}
