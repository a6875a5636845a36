package nftables

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Table is the name of our table; its family is inet.
const Table = "ipmasq"

// Text writes a ruleset as a file for nft(8). Loading it replaces our table and
// nothing else, and makes the same table as Commit.
func Text(w io.Writer, rs *ruleset.Ruleset) error {
	t := &texter{Writer: bufio.NewWriter(w), rs: rs, sets: map[string]*ruleset.Set{}}
	for _, s := range rs.Sets {
		t.sets[s.Name] = s
	}
	// A table can only be deleted where there is one: make it first.
	t.printf("#!/usr/sbin/nft -f\ntable inet %s\ndelete table inet %s\n", Table, Table)
	if len(rs.Chains)+len(rs.Sets)+len(rs.Counters)+len(rs.Helpers)+len(rs.Timeouts)+len(rs.Flowtables) > 0 {
		t.table()
	}
	return t.Flush()
}

type texter struct {
	*bufio.Writer
	rs   *ruleset.Ruleset
	sets map[string]*ruleset.Set
}

func (t *texter) printf(format string, args ...any) { fmt.Fprintf(t.Writer, format, args...) }

func (t *texter) table() {
	t.printf("\ntable inet %s {\n", Table)
	for _, c := range t.rs.Counters {
		t.printf("\tcounter %s {\n", c.Name)
		if c.Origin.Entry != "" {
			t.printf("\t\tcomment %q\n", c.Origin.Entry)
		}
		t.printf("\t}\n\n")
	}
	t.objects()
	for _, s := range t.rs.Sets {
		t.set(s)
	}
	for i, c := range t.rs.Chains {
		if i > 0 {
			t.printf("\n")
		}
		t.printf("\tchain %s {\n", c.Name)
		if h := c.Hook; h != nil {
			t.printf("\t\ttype %s hook %s priority %d; policy accept;\n", h.Type, h.Point, h.Priority)
		}
		for _, r := range c.Rules {
			t.rule(r)
		}
		t.printf("\t}\n")
	}
	t.printf("}\n")
}

// sizedFrom is the number of elements from which on a hash is made for a number
// of them, in place of one that grows: it loads and dumps in half the time, and
// the kernel never moves its elements, see settled.
const sizedFrom = 256

// sizeOf is the size that a set is made for: a power of two, so that some more
// elements do not make it another set.
func sizeOf(s *ruleset.Set) uint32 {
	if s.Dynamic {
		return s.Size
	}
	n := uint32(s.Len())
	if s.Interval || n < sizedFrom {
		return 0
	}
	return 1 << bits.Len32(n+n/8-1)
}

func (t *texter) set(s *ruleset.Set) {
	switch {
	case s.Data == nil:
		t.printf("\tset %s {\n\t\ttype %s\n", s.Name, typeNames(s.Key))
	case picked(s):
		t.printf("\tmap %s {\n\t\ttypeof %s : %s\n", s.Name, pickedKey, pickedData(s.Data))
	default:
		t.printf("\tmap %s {\n\t\ttype %s : %s\n", s.Name, typeNames(s.Key), dataNames(s))
	}
	if n := sizeOf(s); n > 0 {
		t.printf("\t\tsize %d\n", n)
	}
	if s.Interval {
		t.printf("\t\tflags interval\n")
	}
	switch {
	case s.Timeout > 0:
		t.printf("\t\tflags dynamic,timeout\n\t\ttimeout %s\n", timeText(s.Timeout))
	case s.Dynamic:
		t.printf("\t\tflags dynamic\n")
	}
	if s.Counted {
		t.printf("\t\tcounter\n")
	}
	if s.Origin.Entry != "" {
		t.printf("\t\tcomment %q\n", s.Origin.Entry)
	}
	for i := range s.Len() {
		if i == 0 {
			t.printf("\t\telements = { ")
		} else {
			t.WriteString(",\n\t\t\t     ")
		}
		t.element(s, i)
	}
	if s.Len() > 0 {
		t.WriteString(" }\n")
	}
	t.printf("\t}\n\n")
}

func (t *texter) element(s *ruleset.Set, i int) {
	high := s.KeyAt(i)
	if s.Interval {
		high = s.HighAt(i)
	}
	t.WriteString(keyText(s.Key, s.KeyAt(i), high))
	if o := s.OriginAt(i); o != ruleset.NoOrigin && t.rs.Origins[o].Entry != s.Origin.Entry {
		t.WriteString(` comment "`)
		t.WriteString(t.rs.Origins[o].Entry)
		t.WriteString(`"`)
	}
	switch {
	case s.IsVerdictMap():
		t.WriteString(" : ")
		t.WriteString(verdictText(s.Verdicts[i]))
	case s.DataInterval:
		t.WriteString(" : ")
		t.WriteString(spanText(s.Data, s.DataAt(i)))
	case s.Data != nil:
		t.WriteString(" : ")
		t.WriteString(keyText(s.Data, s.DataAt(i), s.DataAt(i)))
	}
}

func (t *texter) rule(r *ruleset.Rule) {
	var words []string
	proto := "th"
	for _, m := range r.Matches {
		words = append(words, matchText(m, proto))
		if m.Op == ruleset.Equal && m.Fields[0] == ruleset.L4Proto {
			switch name := valueText(ruleset.InetProto, m.Value); name {
			case "tcp", "udp", "sctp", "udplite":
				proto = name
			}
		}
	}
	for _, s := range r.Do {
		if text := t.statement(s, proto); text != "" {
			words = append(words, text)
		}
	}
	if r.Counter != "" {
		words = append(words, `counter name "`+r.Counter+`"`)
	}
	if a := t.action(r.Action, proto); a != "" {
		words = append(words, a)
	}
	if r.Origin.Entry != "" {
		words = append(words, `comment "`+r.Origin.Entry+`"`)
	}
	t.printf("\t\t%s\n", strings.Join(words, " "))
}

func (t *texter) action(a ruleset.Action, proto string) string {
	switch a.Kind {
	case ruleset.VerdictMap:
		return keyOf(a, proto) + " vmap @" + a.Map
	case ruleset.Reject:
		if a.With == "tcp reset" {
			return "reject with tcp reset"
		}
		return "reject with icmpx " + a.With
	case ruleset.DNAT:
		return "dnat " + translationText(a, proto)
	case ruleset.SNAT:
		return "snat " + translationText(a, proto)
	case ruleset.SNATToDest:
		return fmt.Sprintf("snat %s to ct original %s daddr", a.Family, a.Family)
	case ruleset.Masquerade:
		return "masquerade" + toPorts(a.NAT)
	case ruleset.Redirect:
		return "redirect" + toPorts(a.NAT)
	case ruleset.Synproxy:
		return synproxyText(a.Syn)
	}
	return verdictText(a)
}

func verdictText(a ruleset.Action) string {
	switch a.Kind {
	case ruleset.Accept:
		return "accept"
	case ruleset.Drop:
		return "drop"
	case ruleset.Return:
		return "return"
	case ruleset.Jump:
		return "jump " + a.Chain
	case ruleset.Goto:
		return "goto " + a.Chain
	}
	return ""
}

func matchText(m ruleset.Match, proto string) string {
	fields := fieldNames(m.Fields, proto)
	switch m.Op {
	case ruleset.In:
		return fields + " @" + m.Set
	case ruleset.NotIn:
		return fields + " != @" + m.Set
	case ruleset.AnyOf:
		return anyOfText(m, fields)
	case ruleset.Masked, ruleset.NotMasked:
		return maskedText(m, fields)
	case ruleset.Between:
		typ := m.Fields[0].Type()
		return fields + " " + valueText(typ, m.Value) + "-" + valueText(typ, m.High)
	}
	typ := m.Fields[0].Type()
	switch {
	case m.Op == ruleset.NotEqual:
		fields += " !="
	case typ == ruleset.TCPFlags:
		fields += " ==" // without it is whether any of them is set
	}
	switch {
	case m.Bits == 0 || m.Bits == typ.Size()*8:
		return fields + " " + valueText(typ, m.Value)
	case typ == ruleset.IfName:
		return fields + " " + strconv.Quote(string(m.Value[:m.Bits/8])+"*")
	}
	return fields + " " + valueText(typ, m.Value) + "/" + strconv.Itoa(m.Bits)
}

func bitNames(f ruleset.Field, value []byte) string {
	bits := uint32(value[0])<<24 | uint32(value[1])<<16 | uint32(value[2])<<8 | uint32(value[3])
	type bit struct {
		bit  uint32
		name string
	}
	names := []bit{
		{ruleset.CtInvalid, "invalid"}, {ruleset.CtEstablished, "established"}, {ruleset.CtRelated, "related"},
		{ruleset.CtNew, "new"}, {ruleset.CtUntracked, "untracked"},
	}
	if f == ruleset.CtStatusField {
		names = append(names[:0], bit{ruleset.CtConfirmed, "confirmed"}, bit{ruleset.CtSNAT, "snat"}, bit{ruleset.CtDNAT, "dnat"})
	}
	var out []string
	for _, n := range names {
		if bits&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, ",")
}

// keyText writes a key from low to high; the two are the same but for ranges.
func keyText(types []ruleset.Type, low, high []byte) string {
	if len(types) == 1 {
		return rangeText(types[0], low, high)
	}
	var parts []string
	at := 0
	for _, typ := range types {
		end := at + typ.Size()
		parts = append(parts, rangeText(typ, low[at:end], high[at:end]))
		at += typ.Padded()
	}
	return strings.Join(parts, " . ")
}

func rangeText(typ ruleset.Type, low, high []byte) string {
	if bytes.Equal(low, high) {
		return valueText(typ, low)
	}
	if typ == ruleset.IfName {
		n := bytes.IndexByte(low, 0)
		return strconv.Quote(string(low[:max(n, 0)]) + "*")
	}
	if bits, ok := prefixBits(low, high); ok && (typ == ruleset.IPv4Addr || typ == ruleset.IPv6Addr) {
		return valueText(typ, low) + "/" + strconv.Itoa(bits)
	}
	return valueText(typ, low) + "-" + valueText(typ, high)
}

// prefixBits says whether a range is one prefix, and of how many bits.
func prefixBits(low, high []byte) (int, bool) {
	bits := 0
	for i := range low {
		x := low[i] ^ high[i]
		if x == 0 {
			bits += 8
			continue
		}
		for mask := byte(0x80); x&mask == 0; mask >>= 1 {
			bits++
		}
		host := byte(0xff) >> (bits % 8)
		if x != host || low[i]&host != 0 {
			return 0, false
		}
		for j := i + 1; j < len(low); j++ {
			if low[j] != 0 || high[j] != 0xff {
				return 0, false
			}
		}
		return bits, true
	}
	return bits, true
}
