package compile_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// packet is what a rule can see of one packet.
type packet struct {
	iif, oif     string
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
	state        uint32 // of conntrack
	status       uint32
	tracked      bool
	reply        bool
	origPort     uint16
	local        bool // the host holds the destination
	localIif     bool // on the interface it came in by
	mark, ctMark uint32
	tcpFlags     uint8
	// What the flow first had; the packet's own where it is not set.
	origSrc, origDst netip.Addr
	spoofed          bool   // the way back to the source is another
	pick             uint32 // what a Pick chooses, modulo its number
}

// walker takes packets through a ruleset as the kernel would.
type walker struct {
	t      testing.TB
	rs     *ruleset.Ruleset
	chains map[string]*ruleset.Chain
	sets   map[string]*ruleset.Set
}

func newWalker(t testing.TB, rs *ruleset.Ruleset) *walker {
	w := &walker{t, rs, map[string]*ruleset.Chain{}, map[string]*ruleset.Set{}}
	for _, c := range rs.Chains {
		w.chains[c.Name] = c
	}
	for _, s := range rs.Sets {
		w.sets[s.Name] = s
	}
	return w
}

// outcome is how a packet left a hook.
type outcome struct {
	kind    ruleset.ActionKind
	entry   string     // of the rule that decided
	visited []string   // chains
	target  netip.Addr // DNAT, SNAT: the lowest address
	port    uint16     // and port
	highest netip.Addr
	maxPort uint16
}

// through walks a base chain; one that does not exist accepts.
func (w *walker) through(chain string, p packet) outcome {
	out := outcome{kind: ruleset.Accept}
	if w.chains[chain] != nil {
		w.chain(chain, &p, &out)
	}
	return out
}

// chain gives true where the packet's fate is decided.
func (w *walker) chain(name string, p *packet, out *outcome) bool {
	c := w.chains[name]
	if c == nil {
		w.t.Fatalf("no chain %s", name)
		return true
	}
	out.visited = append(out.visited, name)
	if len(out.visited) > 100 {
		w.t.Fatalf("a loop: %v", out.visited)
	}
	for _, r := range c.Rules {
		if !slices.ContainsFunc(r.Matches, func(m ruleset.Match) bool { return !w.match(m, p) }) && !slices.ContainsFunc(r.Do, stops) {
			if done, back := w.act(r, r.Action, p, out); done || back {
				return done
			}
		}
	}
	return false
}

// stops says whether a rule ends at a statement: so few packets are within
// every limit.
func stops(do ruleset.Statement) bool {
	return do.Kind == ruleset.RateOver || do.Kind == ruleset.CountOver
}

// act gives done where the fate is decided, and back where the chain ends.
func (w *walker) act(r *ruleset.Rule, a ruleset.Action, p *packet, out *outcome) (done, back bool) {
	switch a.Kind {
	case ruleset.Continue:
		return false, false
	case ruleset.Jump:
		return w.chain(a.Chain, p, out), false
	case ruleset.Goto:
		// Back in the base chain there is nobody to come back to.
		w.chain(a.Chain, p, out)
		return true, false
	case ruleset.Return:
		return false, true
	case ruleset.VerdictMap:
		if i := w.key(a, p); i >= 0 {
			return w.act(r, w.sets[a.Map].Verdicts[i], p, out)
		}
		return false, false
	case ruleset.DNAT, ruleset.SNAT:
		if a.Map == "" {
			translate(a.Kind, a.NAT, p, out)
			break
		}
		i := w.key(a, p)
		if i < 0 {
			return false, false
		}
		s := w.sets[a.Map]
		translate(a.Kind, fromMap(s, s.DataAt(i), a.NAT), p, out)
		out.entry = r.Origin.Entry
		if o := s.OriginAt(i); o != ruleset.NoOrigin {
			out.entry = w.rs.Origins[o].Entry
		}
		out.kind = a.Kind
		return true, false
	case ruleset.Redirect:
		out.port, out.maxPort = p.dport, p.dport
		if a.NAT.PortMin != 0 {
			out.port, out.maxPort = a.NAT.PortMin, a.NAT.PortMax
		}
	}
	out.kind, out.entry = a.Kind, r.Origin.Entry
	return true, false
}

// fromMap is what a map's value says of a translation.
func fromMap(s *ruleset.Set, data []byte, n ruleset.NAT) ruleset.NAT {
	high := data
	if s.DataInterval {
		data, high = data[:len(data)/2], data[len(data)/2:]
	}
	size := s.Data[0].Size()
	n.Low, _ = netip.AddrFromSlice(data[:size])
	n.High, _ = netip.AddrFromSlice(high[:size])
	if len(s.Data) == 2 {
		n.PortMin, n.PortMax = binary.BigEndian.Uint16(data[size:]), binary.BigEndian.Uint16(high[size:])
	}
	return n
}

// translate notes where a translation leads. Of a prefix the host bits are the
// packet's own.
func translate(kind ruleset.ActionKind, n ruleset.NAT, p *packet, out *outcome) {
	out.target, out.highest, out.port, out.maxPort = n.Low, n.High, n.PortMin, n.PortMax
	if n.PortMin == 0 {
		out.port, out.maxPort = p.dport, p.dport
	}
	if !n.Prefix {
		return
	}
	own := p.dst
	if kind == ruleset.SNAT {
		own = p.src
	}
	a, low, high := own.AsSlice(), n.Low.AsSlice(), n.High.AsSlice()
	for i := range a {
		a[i] = low[i] | a[i]&(low[i]^high[i])
	}
	out.target, _ = netip.AddrFromSlice(a)
	out.highest = out.target
}

func (w *walker) match(m ruleset.Match, p *packet) bool {
	switch m.Op {
	case ruleset.In, ruleset.NotIn:
		for _, f := range m.Fields {
			if _, ok := field(f, p); !ok {
				return false
			}
		}
		return (w.find(m.Set, m.Fields, p) >= 0) == (m.Op == ruleset.In)
	}
	v, ok := field(m.Fields[0], p)
	if !ok {
		return false
	}
	switch m.Op {
	case ruleset.AnyOf:
		return !bytes.Equal(and(v, m.Value), make([]byte, len(v)))
	case ruleset.Masked, ruleset.NotMasked:
		return bytes.Equal(and(v, m.High), m.Value) == (m.Op == ruleset.Masked)
	case ruleset.Equal, ruleset.NotEqual:
		return begins(v, m.Value, m.Bits) == (m.Op == ruleset.Equal)
	}
	return bytes.Compare(m.Value, v) <= 0 && bytes.Compare(v, m.High) <= 0
}

func and(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] & b[i]
	}
	return out
}

func begins(v, want []byte, bits int) bool {
	if bits == 0 {
		return bytes.Equal(v, want)
	}
	for i := range bits {
		if (v[i/8]^want[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// find gives the element that a packet's fields are in, or -1. Two of them
// would be a mistake: the kernel refuses such a set.
func (w *walker) find(name string, fields []ruleset.Field, p *packet) int {
	s := w.sets[name]
	if s == nil {
		w.t.Fatalf("no set %s", name)
	}
	var parts [][]byte
	for _, f := range fields {
		v, ok := field(f, p)
		if !ok {
			return -1
		}
		parts = append(parts, v)
	}
	return w.element(s, parts)
}

// key gives the element of an action's map that the packet leads to, or -1.
func (w *walker) key(a ruleset.Action, p *packet) int {
	if a.Pick.Of == 0 {
		return w.find(a.Map, a.Fields, p)
	}
	s := w.sets[a.Map]
	if s == nil {
		w.t.Fatalf("no map %s", a.Map)
	}
	return w.element(s, [][]byte{binary.BigEndian.AppendUint32(nil, p.pick%a.Pick.Of)})
}

// element gives the element that has these values, or -1.
func (w *walker) element(s *ruleset.Set, parts [][]byte) int {
	found := -1
	for i := range s.Len() {
		inside, at := true, 0
		for n, v := range parts {
			low := s.KeyAt(i)[at : at+len(v)]
			high := low
			if s.Interval {
				high = s.HighAt(i)[at : at+len(v)]
			}
			inside = inside && bytes.Compare(low, v) <= 0 && bytes.Compare(v, high) <= 0
			at += s.Key[n].Padded()
		}
		if inside {
			if found >= 0 {
				w.t.Fatalf("set %s: elements %d and %d overlap", s.Name, found, i)
			}
			found = i
		}
	}
	return found
}

// field gives a field's value in network byte order, if the packet has it.
func field(f ruleset.Field, p *packet) ([]byte, bool) {
	port := p.proto == 6 || p.proto == 17 || p.proto == 132 || p.proto == 136
	u16 := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
	u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	name := func(v string) []byte { b := make([]byte, 16); copy(b, v); return b }
	is := func(local bool) []byte {
		if local {
			return u32(ruleset.RTNLocal)
		}
		return u32(1)
	}
	switch f {
	case ruleset.IIfName:
		return name(p.iif), true
	case ruleset.IIf:
		if p.iif == "" {
			return u32(0), true
		}
		return u32(1), true
	case ruleset.OIfName:
		return name(p.oif), true
	case ruleset.NFProtoField:
		if p.src.Is4() {
			return []byte{2}, true
		}
		return []byte{10}, true
	case ruleset.L4Proto:
		return []byte{p.proto}, true
	case ruleset.IPSaddr:
		return p.src.AsSlice(), p.src.Is4()
	case ruleset.IPDaddr:
		return p.dst.AsSlice(), p.src.Is4()
	case ruleset.IP6Saddr:
		return p.src.AsSlice(), p.src.Is6()
	case ruleset.IP6Daddr:
		return p.dst.AsSlice(), p.src.Is6()
	case ruleset.SrcPort:
		return u16(p.sport), port
	case ruleset.DstPort:
		return u16(p.dport), port
	case ruleset.ICMPTypeField:
		return []byte{byte(p.dport)}, p.proto == 1
	case ruleset.ICMPv6TypeField:
		return []byte{byte(p.dport)}, p.proto == 58
	case ruleset.IP6HopLimit:
		return []byte{64}, p.src.Is6()
	case ruleset.CtStateField:
		return u32(p.state), true
	case ruleset.CtStatusField:
		return u32(p.status), p.tracked
	case ruleset.CtDirection:
		if p.reply {
			return []byte{1}, p.tracked
		}
		return []byte{0}, p.tracked
	case ruleset.CtOrigProtoDst:
		return u16(p.origPort), p.tracked
	case ruleset.FibDaddrType:
		return is(p.local), true
	case ruleset.FibDaddrIifType:
		return is(p.localIif), true
	case ruleset.FibSaddrType, ruleset.FibSaddrOifType:
		return is(false), true // no source of these tests is the host's own
	case ruleset.FibSaddrIif:
		if p.spoofed {
			return u32(0), true
		}
		return u32(1), true
	case ruleset.FibDaddrOIfName:
		return name(p.oif), true
	case ruleset.FibSaddrOIfName:
		return name(p.iif), true
	case ruleset.MetaMark:
		return u32(p.mark), true
	case ruleset.CtMark:
		return u32(p.ctMark), p.tracked
	case ruleset.TCPFlagsField:
		return []byte{p.tcpFlags}, p.proto == 6
	case ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr:
		return original(p.origSrc, p.src), p.tracked && p.src.Is4() == (f == ruleset.CtOrigIPSaddr)
	case ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr:
		return original(p.origDst, p.dst), p.tracked && p.src.Is4() == (f == ruleset.CtOrigIPDaddr)
	}
	return nil, false
}

// original is an address that the flow first had.
func original(first, own netip.Addr) []byte {
	if first.IsValid() {
		return first.AsSlice()
	}
	return own.AsSlice()
}

// zoneIn tells which zone's chain a packet went through in a hook, or "".
func (o outcome) zoneIn(prefix string) string {
	for _, name := range o.visited {
		if zone, ok := strings.CutPrefix(name, prefix); ok {
			return zone
		}
	}
	return ""
}
