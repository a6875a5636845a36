package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// stop is where others stop an example.
type stop struct {
	*passage
	hook     foreign.Hook
	chain    *foreign.Chain // the base chain
	decision *foreign.Decision
	answer   bool // the answer is what is stopped
}

// stops finds what others stop of an example: its first packet, and its answer.
// What is dropped before is not looked at behind.
func (h *Host) stops(x *passage) (out []stop) {
	if s := h.stopped(x, false); s != nil {
		out = append(out, *s)
	}
	if s := h.stopped(x, true); s != nil {
		out = append(out, *s)
	}
	return out
}

// filterable are the examples that are taken through the chains of others that
// filter: fewer where these are long, so that it takes a second at most.
func (h *Host) filterable() []passage {
	const steps, least = 3_000_000, 40
	rules := 1
	for _, t := range h.Rules.Foreign.Tables {
		for _, c := range t.Chains {
			rules += len(c.Rules)
		}
	}
	all := h.passages()
	return all[:min(len(all), max(least, steps/rules))]
}

// hooksOf are those that a packet comes by, but for chains that only translate.
func (x *passage) hooksOf(answer bool) []foreign.Hook {
	switch {
	case x.out.Verdict == simulate.Forwarded:
		return []foreign.Hook{foreign.Ingress, foreign.Prerouting, foreign.Forward, foreign.Postrouting, foreign.Egress}
	case answer:
		return nil // the gateway's own answers
	}
	return []foreign.Hook{foreign.Ingress, foreign.Prerouting, foreign.Input}
}

func (h *Host) stopped(x *passage, answer bool) *stop {
	for _, hook := range x.hooksOf(answer) {
		if answer && hook != foreign.Forward && hook != foreign.Ingress && hook != foreign.Egress {
			continue // translation is undone there, which examples do not know
		}
		for _, c := range h.Rules.Foreign.Base(x.out.Arrived.Source.Is6(), hook) {
			if c.Type == "nat" || !x.comesBy(c, answer) {
				continue
			}
			if d := c.Walk(x.seenBy(c, answer)).Stopped(); d != nil {
				return &stop{x, hook, c, d, answer}
			}
		}
	}
	return nil
}

// Where conntrack and the translation of addresses stand among the chains of a
// hook (linux/netfilter_ipv4.h).
const (
	conntrackPriority = -200
	dnatPriority      = -100
	snatPriority      = 100
)

// comesBy says whether the packet is on a link that the chain is on.
func (x *passage) comesBy(c *foreign.Chain, answer bool) bool {
	p := x.at(c.Hook, answer, true)
	return c.On(cmp.Or(p.In, p.Out))
}

// seenBy is the packet as a chain sees it.
func (x *passage) seenBy(c *foreign.Chain, answer bool) *foreign.Packet {
	behind := c.Hook == foreign.Prerouting && c.Priority > dnatPriority || c.Hook == foreign.Postrouting && c.Priority > snatPriority
	p := x.at(c.Hook, answer, behind)
	if c.Hook == foreign.Prerouting && c.Priority <= conntrackPriority {
		p.State = foreign.StateInvalid // nobody has looked at it yet
	}
	return p
}

// foreignDrop is about others that stop what the policy lets pass. All that one
// program stops is one finding.
func foreignDrop(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil {
		return nil
	}
	byProgram := map[program][]stop{}
	var order []program
	examples := h.filterable()
	for i := range examples {
		if x := &examples[i]; x.passes() {
			for _, s := range h.stops(x) {
				if s.first() {
					continue // foreignFirst tells
				}
				who := programOf(s.chain)
				if byProgram[who] == nil {
					order = append(order, who)
				}
				byProgram[who] = append(byProgram[who], s)
			}
		}
	}
	for _, who := range order {
		out = append(out, h.drops(who, byProgram[who]))
	}
	return out
}

func (h *Host) drops(who program, stops []stop) Finding {
	first := &stops[0]
	f := Finding{Severity: Broken, Weight: 880, Mend: who.mend(h, stops)}
	what := "what the policy lets pass"
	if first.answer {
		what = "the answers to what the policy lets pass"
	}
	f.Title = fmt.Sprintf("%s drops %s: %s", who.chain(first.chain), what, first.text())
	var seen, entries []string
	for i := range stops {
		s := &stops[i]
		if at := decided(s.chain, s.decision); !slices.Contains(seen, at) {
			seen = append(seen, at)
		}
		line := fmt.Sprintf("%s (%s) lets pass %s", s.entry, s.place, s.text())
		if s.answer {
			line = fmt.Sprintf("the answers to %s, %s", s.entry, s.text())
		}
		if !slices.Contains(entries, line) {
			entries = append(entries, line)
		}
	}
	f.Evidence = append(seen, shortened(entries, 6)...)
	return f
}

// shortened is a list with the rest of it counted.
func shortened(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
}

// text is the packet that is stopped, with its way: "eth1 -> eth0, tcp".
func (s *stop) text() string {
	p := s.seenBy(s.chain, s.answer)
	ways := strings.TrimPrefix(p.In+" -> "+p.Out, " ")
	if p.Out == "" {
		ways = p.In
	}
	family := "IPv4"
	if p.IPv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s %s", family, ways)
}

// decided says what of a chain decided, and how often.
func decided(base *foreign.Chain, d *foreign.Decision) string {
	where := fmt.Sprintf("%s, chain %s (hook %s, priority %d)", base.Table().Kind, base, base.Hook, base.Priority)
	what := "policy drop"
	if d.Rule != nil {
		what = "rule: " + d.Rule.String()
		if d.Chain != base {
			what = "in chain " + d.Chain.Name + ", " + what
		}
	}
	if n, counted := d.Packets(); counted && d.Rule == nil {
		what += fmt.Sprintf(", which %d packets have met", n)
	}
	return where + ": " + what
}

// foreignMayDrop is about others that have stopped something, where what of the
// policy's traffic they stop cannot be told.
func foreignMayDrop(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil {
		return nil
	}
	var seen []string
	examples := h.filterable()
	for i := range examples {
		x := &examples[i]
		if !x.passes() || x.out.Verdict != simulate.Forwarded || h.stopped(x, false) != nil {
			continue
		}
		for _, c := range h.Rules.Foreign.Base(x.out.Arrived.Source.Is6(), foreign.Forward) {
			d := c.Walk(x.seenBy(c, false)).MayStop()
			if d == nil {
				continue
			}
			at := decided(c, d)
			if n, _ := d.Packets(); n == 0 || slices.Contains(seen, at) {
				continue
			}
			seen = append(seen, at)
			out = append(out, Finding{
				Severity: Note, Weight: 300,
				Title:    fmt.Sprintf("%s drops some packets, maybe some that the policy lets pass", programOf(c).chain(c)),
				Evidence: []string{at, fmt.Sprintf("%s (%s) lets pass some that it may be", x.entry, x.place)},
				Mend:     []string{"# look at its rules, and let pass there too what is meant to"},
			})
		}
	}
	return out
}

// foreignNAT is about others that translate first what the policy translates.
func foreignNAT(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil {
		return nil
	}
	var seen []string
	examples := h.passages()
	for i := range examples {
		x := &examples[i]
		behind := func(c *foreign.Chain) bool { return ledFirst(x, c) == "" } // foreignFirst tells
		for _, f := range []*Finding{h.destinationTaken(x, behind), h.sourceTaken(x, behind)} {
			if f != nil && !slices.Contains(seen, x.entry+f.Evidence[0]) {
				seen = append(seen, x.entry+f.Evidence[0])
				out = append(out, *f)
			}
		}
	}
	if len(out) > 1 && out[0].Severity == out[len(out)-1].Severity { // a host that has it once has it often
		for _, f := range out[1:] {
			out[0].Evidence = append(out[0].Evidence, f.Evidence...)
			for _, m := range f.Mend {
				if !slices.Contains(out[0].Mend, m) {
					out[0].Mend = append(out[0].Mend, m)
				}
			}
		}
		out = out[:1]
	}
	return out
}

// order is where a chain of others stands beside ours of nat.
type order uint8

const (
	earlier order = iota
	later
	untold // before or behind
)

// orderOf compares a chain of others with ours of a priority. Of two with the same
// one the kernel takes the one that came later first; when a table of
// iptables-legacy came it does not tell.
func (h *Host) orderOf(c *foreign.Chain, ours int) order {
	own, number := h.Rules.Foreign.OurNAT(c.Table().Family), h.Rules.Foreign.Own
	if own != nil && number == 0 {
		number = own.Number
	}
	switch {
	case c.Priority != ours && c.Priority > ours:
		return later
	case c.Priority < ours, c.Shared(), own == nil && c.Table().Number == 0:
		return earlier
	case own != nil && (own.Number == 0 || c.Table().Number == 0):
		return untold
	case c.Table().Number > number:
		return earlier
	}
	return later
}

// oursFirst is the weight of a translation of others that ours comes before.
const oursFirst = 400

// everyChain is for those that look at all of them.
func everyChain(*foreign.Chain) bool { return true }

func (h *Host) destinationTaken(x *passage, among func(*foreign.Chain) bool) *Finding {
	if x.out.DNAT.Kind == ruleset.Continue {
		return nil
	}
	for _, c := range h.Rules.Foreign.Base(x.out.Arrived.Source.Is6(), foreign.Prerouting) {
		if c.Type != "nat" || c.Priority > dnatPriority || !among(c) {
			continue
		}
		o := c.Walk(x.at(foreign.Prerouting, false, false)) // what stands behind ours is not told
		d := o.DNAT
		if d == nil {
			continue
		}
		f := &Finding{
			Severity: Broken, Weight: 870,
			Title:    fmt.Sprintf("%s translates what %s is for, before it", programOf(c).chain(c), x.entry),
			Evidence: []string{decided(c, d), fmt.Sprintf("%s (%s) is for %s %v too, at priority %d", x.entry, x.place, protocolName(x.out.Packet.Protocol), portText(x.out.Arrived.Destination, x.out.Arrived.DestinationPort), dnatPriority)},
			Mend:     h.mendNAT(c, d, x),
		}
		order := h.orderOf(c, dnatPriority)
		met, _ := d.Packets()
		switch {
		case o.Accept != nil || o.Ours != nil:
			f.Severity, f.Weight = Risk, 410
			f.Title = fmt.Sprintf("%s may translate some of what %s is for, before it", programOf(c).chain(c), x.entry)
		case order == untold && met == 0:
			f.Severity, f.Weight = Risk, 405
			f.Title = fmt.Sprintf("%s and %s are for the same packets, and which of them is asked first cannot be told", programOf(c).chain(c), x.entry)
		case order == later:
			f.Severity, f.Weight = Risk, oursFirst
			f.Title = fmt.Sprintf("%s and %s are for the same packets", programOf(c).chain(c), x.entry)
		}
		return f
	}
	return nil
}

func (h *Host) sourceTaken(x *passage, among func(*foreign.Chain) bool) *Finding {
	if x.out.SNAT.Kind != ruleset.SNAT || x.out.SNAT.Origin == nil {
		return nil // a masquerade gives the same address
	}
	for _, c := range h.Rules.Foreign.Base(x.out.Arrived.Source.Is6(), foreign.Postrouting) {
		order := h.orderOf(c, snatPriority)
		if c.Type != "nat" || order == later || !among(c) {
			continue
		}
		o := c.Walk(x.at(foreign.Postrouting, false, false))
		if o.SNAT == nil || o.Accept != nil || o.Ours != nil {
			continue
		}
		if met, _ := o.SNAT.Packets(); order == untold && met == 0 {
			continue
		}
		return &Finding{
			Severity: Broken, Weight: 860,
			Title:    fmt.Sprintf("%s gives a source to what %s is for, before it", programOf(c).chain(c), x.out.SNAT.Origin.Entry),
			Evidence: []string{decided(c, o.SNAT), fmt.Sprintf("%s (%s) would have it leave as %v", x.out.SNAT.Origin.Entry, x.out.SNAT.Origin.Place, x.out.SNAT.Address)},
			Mend:     h.mendNAT(c, o.SNAT, x),
		}
	}
	return nil
}

// foreignUntrack is about others that have conntrack pass over what the policy
// translates.
func foreignUntrack(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil {
		return nil
	}
	var seen []string
	examples := h.filterable()
	for i := range examples {
		x := &examples[i]
		if x.out.DNAT.Kind == ruleset.Continue && x.out.SNAT.Kind == ruleset.Continue {
			continue
		}
		for _, c := range h.Rules.Foreign.Base(x.out.Arrived.Source.Is6(), foreign.Prerouting) {
			if c.Priority > conntrackPriority {
				continue
			}
			o := c.Walk(x.seenBy(c, false))
			if o.Untrack == nil || len(o.Untrack.Rule.Tests) > 0 && !certain(o.Untrack.Rule, x.seenBy(c, false)) {
				continue
			}
			at := decided(c, o.Untrack)
			if slices.Contains(seen, at) {
				continue
			}
			seen = append(seen, at)
			out = append(out, Finding{
				Severity: Broken, Weight: 865,
				Title:    fmt.Sprintf("%s has conntrack pass over what %s translates: nothing translates it then", programOf(c).chain(c), x.entry),
				Evidence: []string{at, fmt.Sprintf("%s (%s) translates it", x.entry, x.place)},
				Mend:     []string{removal(c, o.Untrack)},
			})
		}
	}
	return out
}

// certain says that all of a rule's conditions hold for sure.
func certain(r *foreign.Rule, p *foreign.Packet) bool {
	return !slices.ContainsFunc(r.Tests, func(t foreign.Test) bool { return t.Holds(p) != foreign.Yes })
}
