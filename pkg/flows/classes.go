package flows

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// parted are routes that say where their answers may change: all addresses from
// one start to the next are answered alike. Not ok where there are more than
// most.
type parted interface {
	Starts(most int) (starts []netip.Addr, ok bool)
}

const (
	// worthClasses is how many connections are judged before it is worth finding
	// out what their classes are, which takes as long as some hundred of them.
	worthClasses = 2000
	// mostStarts is how many starts there may be of addresses and ports: what has
	// more of them is slower to tell apart than to judge.
	mostStarts = 1 << 13
	// mostKnown is how many judgements are remembered, at half a kilobyte.
	mostKnown = 1 << 12
)

// classes remember judgements. All that rules, routes and zones compare an
// address or a port with divides these into ranges. Connections whose ends are
// in the same ranges, and are the same ends in the same places, meet the same
// rules, as long as no rule makes an address of another one by its host bits.
type classes struct {
	ipv4  []uint32 // where a range begins, ascending, the first at 0
	ipv6  []number
	ports []uint16
	marks uint32 // the bits that tell uplinks
	known map[class]*Judgement
}

// number is an IPv6 address.
type number struct{ high, low uint64 }

// class is what a judgement hangs on. Addresses and ports are the original
// source and destination, then those of the answer.
type class struct {
	addresses, ports [4]uint16
	same             uint16 // which of them are the same, by pair
	protocol, icmp   uint8
	mark             uint32
}

// of gives the class of a connection; not ok where it has none, as its addresses
// are of a kind that the kernel has its own rules for.
func (c *classes) of(f *conntrack.Flow) (out class, ok bool) {
	ends := [4]netip.Addr{f.Original.Source, f.Original.Destination, f.Reply.Source, f.Reply.Destination}
	ports := [4]uint16{f.Original.SourcePort, f.Original.DestinationPort, f.Reply.SourcePort, f.Reply.DestinationPort}
	out.protocol, out.icmp, out.mark = f.Protocol, f.Original.ICMPType, f.Mark&c.marks
	v4 := ends[0].Is4()
	for i := range ends {
		if ends[i].Is4() != v4 || !ends[i].IsGlobalUnicast() {
			return out, false
		}
		// What has just been looked for need not be again.
		found, foundPort := -1, -1
		for k := range i {
			if ends[k] == ends[i] {
				found, out.same = k, out.same|1<<pair(k, i)
			}
			if ports[k] == ports[i] {
				foundPort, out.same = k, out.same|1<<(pair(k, i)+pairs)
			}
		}
		switch {
		case found >= 0:
			out.addresses[i] = out.addresses[found]
		case v4:
			b := ends[i].As4()
			out.addresses[i] = rangeOf(c.ipv4, binary.BigEndian.Uint32(b[:]))
		default:
			out.addresses[i] = rangeOf6(c.ipv6, numberOf(ends[i])) + mostStarts
		}
		if foundPort >= 0 {
			out.ports[i] = out.ports[foundPort]
		} else {
			out.ports[i] = rangeOf(c.ports, ports[i])
		}
	}
	return out, true
}

// pairs is how many pairs there are of four things; pair numbers them.
const pairs = 6

func pair(k, i int) int { return i*(i-1)/2 + k }

// rangeOf finds the last start that is not above v.
func rangeOf[N uint16 | uint32](starts []N, v N) uint16 {
	at, n := 0, len(starts)
	for n > 1 {
		half := n / 2
		if starts[at+half] <= v {
			at += half
		}
		n -= half
	}
	return uint16(at)
}

func rangeOf6(starts []number, v number) uint16 {
	return uint16(sort.Search(len(starts), func(i int) bool { return v.less(starts[i]) }) - 1)
}

func (n number) less(o number) bool { return n.high < o.high || n.high == o.high && n.low < o.low }

func numberOf(a netip.Addr) number {
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// remember keeps a judgement for the class, unless it names an end of the
// connection.
func (c *classes) remember(of class, out *Judgement) {
	if strings.HasPrefix(out.Why, wouldGo) || strings.HasPrefix(out.Why, wouldLeave) {
		return
	}
	if len(c.known) >= mostKnown {
		clear(c.known)
	}
	kept := *out
	c.known[of] = &kept
}

// divider collects starts.
type divider struct {
	ipv4  map[uint32]bool
	ipv6  map[number]bool
	ports map[uint16]bool
	not   bool // there are too many, or they cannot be told
}

// newClasses finds the classes of all that a judge asks. It is nil where that is
// not worth while.
func newClasses(rules *ruleset.Ruleset, p *policy.Policy, facts link.Facts, routes Routes, uplinks []Uplink) *classes {
	r, ok := routes.(parted)
	if !ok {
		return nil
	}
	starts, ok := r.Starts(mostStarts)
	if !ok {
		return nil
	}
	d := &divider{ipv4: map[uint32]bool{0: true}, ipv6: map[number]bool{{}: true}, ports: map[uint16]bool{0: true}}
	for _, a := range starts {
		d.start(a)
	}
	for _, l := range facts.Links {
		for _, a := range l.Addresses {
			d.addresses(a.Prefix.Addr(), a.Prefix.Addr())
			d.prefix(a.Prefix.Addr(), a.Prefix.Bits())
		}
	}
	for i := range p.Zones {
		d.listed(p.Zones[i].Networks)
	}
	for i := range p.Sets {
		d.listed(p.Sets[i].Addresses)
	}
	for _, s := range rules.Sets {
		d.set(s)
	}
	for _, c := range rules.Chains {
		for _, r := range c.Rules {
			d.rule(r)
		}
	}
	if d.not {
		return nil
	}
	out := &classes{known: map[class]*Judgement{}}
	for a := range d.ipv4 {
		out.ipv4 = append(out.ipv4, a)
	}
	for a := range d.ipv6 {
		out.ipv6 = append(out.ipv6, a)
	}
	for n := range d.ports {
		out.ports = append(out.ports, n)
	}
	slices.Sort(out.ipv4)
	slices.Sort(out.ports)
	slices.SortFunc(out.ipv6, func(a, b number) int {
		if a.less(b) {
			return -1
		}
		return 1
	})
	for i := range uplinks {
		out.marks |= uplinks[i].Mask
	}
	return out
}

// full says that no more is wanted.
func (d *divider) full() bool {
	d.not = d.not || len(d.ipv4) > mostStarts || len(d.ipv6) > mostStarts || len(d.ports) > mostStarts
	return d.not
}

func (d *divider) start(a netip.Addr) {
	switch {
	case a.Is4():
		b := a.As4()
		d.ipv4[binary.BigEndian.Uint32(b[:])] = true
	case a.IsValid():
		d.ipv6[numberOf(a)] = true
	}
}

// addresses divides at a range, so that its ends are ranges of their own:
// whether an address is one of them may count too.
func (d *divider) addresses(low, high netip.Addr) {
	if d.full() {
		return
	}
	for _, a := range []netip.Addr{low, high} {
		if d.start(a); a.IsValid() && a.Next().IsValid() {
			d.start(a.Next())
		}
	}
}

func (d *divider) prefix(a netip.Addr, bits int) {
	p, err := a.Prefix(bits)
	if err != nil {
		d.not = true
		return
	}
	b := p.Addr().AsSlice()
	for i := bits; i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	d.addresses(p.Addr(), last)
}

func (d *divider) portRange(low, high uint16) {
	if d.full() {
		return
	}
	for _, n := range []uint16{low, high} {
		if d.ports[n] = true; n < 65535 {
			d.ports[n+1] = true
		}
	}
}

func (d *divider) listed(list []policy.Address) {
	for i := range list {
		if a := &list[i]; a.Low.IsValid() {
			d.addresses(a.Low, a.High)
		}
	}
}

// values divides at a range of values of a type.
func (d *divider) values(t ruleset.Type, low, high []byte) {
	switch t {
	case ruleset.IPv4Addr, ruleset.IPv6Addr:
		a, _ := netip.AddrFromSlice(low[:t.Size()])
		b, _ := netip.AddrFromSlice(high[:t.Size()])
		d.addresses(a, b)
	case ruleset.InetService:
		d.portRange(binary.BigEndian.Uint16(low), binary.BigEndian.Uint16(high))
	}
}

// fields divides at a range of several fields.
func (d *divider) fields(types []ruleset.Type, low, high []byte, padded bool) {
	at := 0
	for _, t := range types {
		d.values(t, low[at:], high[at:])
		if padded {
			at += t.Padded()
		} else {
			at += t.Size()
		}
	}
}

func (d *divider) set(s *ruleset.Set) {
	for i := 0; i < s.Len() && !d.full(); i++ {
		low := s.KeyAt(i)
		high := low
		if s.Interval {
			high = s.HighAt(i)
		}
		d.fields(s.Key, low, high, len(s.Key) > 1)
		if s.DataLen() == 0 {
			continue
		}
		low = s.DataAt(i)
		if high = low; s.DataInterval {
			low, high = low[:len(low)/2], low[len(low)/2:]
		}
		d.fields(s.Data, low, high, len(s.Data) > 1)
	}
}

func (d *divider) rule(r *ruleset.Rule) {
	for i := range r.Matches {
		d.match(&r.Matches[i])
	}
	if n := &r.Action.NAT; n.Low.IsValid() {
		d.addresses(n.Low, n.High)
	}
	d.portRange(r.Action.NAT.PortMin, r.Action.NAT.PortMax)
}

func (d *divider) match(m *ruleset.Match) {
	t := m.Fields[0].Type()
	if t != ruleset.IPv4Addr && t != ruleset.IPv6Addr && t != ruleset.InetService {
		return
	}
	switch m.Op {
	case ruleset.Equal, ruleset.NotEqual:
		if m.Bits == 0 || t == ruleset.InetService {
			d.not = d.not || m.Bits != 0 && m.Bits != 16
			d.values(t, m.Value, m.Value)
			return
		}
		var b [16]byte
		copy(b[:], m.Value)
		a, _ := netip.AddrFromSlice(b[:t.Size()])
		d.prefix(a, m.Bits)
	case ruleset.Between:
		d.values(t, m.Value, m.High)
	case ruleset.Masked, ruleset.NotMasked, ruleset.AnyOf:
		d.not = true // bits that are not in front divide into too many ranges
	}
}
