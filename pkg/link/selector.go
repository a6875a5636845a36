package link

import (
	"fmt"
	"net/netip"
	"strings"
)

// Selector is a rule of ip-rule(8) with what it asks of a packet.
type Selector struct {
	Rule
	From, To netip.Prefix // not valid: any
	In, Out  string       // links; "": any
	Not      bool         // it is for all that these are not
	More     bool         // it asks for what is not here, a port say
	// Action is what it does, as the kinds of routes are numbered; KindUnicast: it
	// looks into the table.
	Action uint32
	// Suppress is the length of prefixes of which, and of shorter ones, it takes
	// none; -1: it takes all.
	Suppress int
}

// Plain says that it looks into a table, whatever the packet is, and takes all
// that is there.
func (s Selector) Plain(table int) bool {
	return s.Action == KindUnicast && s.Table == table && s.Mask == 0 && s.Mark == 0 && !s.From.IsValid() && !s.To.IsValid() &&
		s.In == "" && s.Out == "" && !s.Not && !s.More && s.Suppress < 0
}

// May says whether it may be for a packet that the host forwards. What it asks
// for more is not looked at.
func (s Selector) May(p Passage) bool {
	if (s.Family == IPv4) != p.Destination.Is4() || s.Out != "" {
		return false
	}
	is := (!s.From.IsValid() || s.From.Contains(p.Source)) && (!s.To.IsValid() || s.To.Contains(p.Destination)) &&
		(s.In == "" || s.In == p.In) && p.Mark&s.Mask == s.Mark&s.Mask
	return is != s.Not || s.More && s.Not
}

// String gives the rule as ip-rule(8) lists it, but for what is not here.
func (s Selector) String() string {
	words := []string{fmt.Sprintf("%d:", s.Priority)}
	add := func(name, value string) { words = append(words, name, value) }
	if s.Not {
		words = append(words, "not")
	}
	from := "all"
	if s.From.IsValid() {
		from = prefixText(s.From)
	}
	add("from", from)
	if s.To.IsValid() {
		add("to", prefixText(s.To))
	}
	if s.Mask != 0 {
		add("fwmark", fmt.Sprintf("%#x/%#x", s.Mark, s.Mask))
	}
	if s.In != "" {
		add("iif", s.In)
	}
	if s.Out != "" {
		add("oif", s.Out)
	}
	if s.More {
		words = append(words, "...")
	}
	switch s.Action {
	case KindUnicast:
		add("lookup", tableName(s.Table))
	default:
		words = append(words, kindName(s.Action))
	}
	if s.Suppress >= 0 {
		add("suppress_prefixlength", fmt.Sprint(s.Suppress))
	}
	return strings.Join(words, " ")
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Refusal is a route that refuses packets instead of sending them.
type Refusal struct {
	Family Family
	Table  int
	To     netip.Prefix
	Kind   uint32 // KindBlackhole, KindUnreachable or KindProhibit
	Metric uint32
}

// mostRefusals are kept of each family: there are lists of a million.
const mostRefusals = 4096

// String gives the route as ip-route(8) takes it.
func (r Refusal) String() string {
	to := r.To.String()
	if r.To.Bits() == 0 {
		to = "default"
	}
	out := kindName(r.Kind) + " " + to
	if r.Table != MainTable {
		out += " table " + tableName(r.Table)
	}
	if r.Metric != 0 {
		out += fmt.Sprintf(" metric %d", r.Metric)
	}
	return out
}

// Refuses finds the route that refuses packets to an address: of those for the
// longest prefix the first. Other routes may come before it: see [Routes.Leaves].
func (r *Routes) Refuses(to netip.Addr, table func(int) bool) (found Refusal, ok bool) {
	for _, x := range r.Refusals {
		if x.To.Contains(to) && table(x.Table) && (!ok || x.To.Bits() > found.To.Bits()) {
			found, ok = x, true
		}
	}
	return found, ok
}

func tableName(table int) string {
	switch table {
	case MainTable:
		return "main"
	case localTable:
		return "local"
	case defaultTable:
		return "default"
	}
	return fmt.Sprint(table)
}

func kindName(kind uint32) string {
	switch kind {
	case KindBlackhole:
		return "blackhole"
	case KindUnreachable:
		return "unreachable"
	case KindProhibit:
		return "prohibit"
	}
	return fmt.Sprintf("action %d", kind)
}
