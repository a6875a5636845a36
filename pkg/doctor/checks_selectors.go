package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// mostAsked is for how many packets the kernel is asked for its way.
const mostAsked = 64

// detour is a packet that rules of routing lead elsewhere than the routes to its
// destination do, or nowhere. Such rules ask for its source, its link, or more.
type detour struct {
	of      *passage
	packet  link.Passage
	answer  bool
	out     string // "": nowhere
	why     error
	command string
	rule    *link.Selector // that is the cause, as far as can be told
}

// detours asks the kernel of packets that the policy is there for. It is made
// once.
func (h *Host) detours() []detour {
	if h.led != nil {
		return h.led
	}
	h.led = []detour{}
	if h.Routes == nil || h.source.Engine == nil {
		return h.led
	}
	asked := map[link.Passage]bool{}
	passages := h.passages()
	for i := range passages {
		x := &passages[i]
		for _, p := range h.packetsOf(x) {
			suspect := slices.IndexFunc(h.Routes.Selectors, func(s link.Selector) bool {
				return !s.Plain(s.Table) && s.May(p.packet)
			})
			if suspect < 0 || asked[p.packet] || len(asked) == mostAsked {
				continue
			}
			asked[p.packet] = true
			if d := h.ask(p); d != nil {
				h.led = append(h.led, *d)
			}
		}
	}
	return h.led
}

// packetsOf are the packet and its answer as they are routed. A mark that the
// policy gives is left alone: it is there to lead elsewhere.
func (h *Host) packetsOf(x *passage) (out []detour) {
	o := x.out
	if o.Verdict != simulate.Forwarded || o.Packet.Interface == "" || o.Mark != o.Packet.Mark || o.Out == "" {
		return nil
	}
	there := link.Passage{In: o.Packet.Interface, Source: o.Arrived.Source, Destination: o.Left.Destination, Protocol: o.Packet.Protocol, DestinationPort: o.Left.DestinationPort, Mark: o.Mark}
	out = append(out, detour{of: x, packet: there})
	if len(h.Compiled.Uplinks) == 0 {
		back := link.Passage{In: o.Out, Source: o.Left.Destination, Destination: o.Arrived.Source, Protocol: o.Packet.Protocol, SourcePort: o.Left.DestinationPort}
		out = append(out, detour{of: x, packet: back, answer: true})
	}
	return out
}

// ask asks the kernel of a packet; nil where it goes as its destination's routes
// have it.
func (h *Host) ask(d detour) *detour {
	p := d.packet
	leaves := h.Routes.Leaves(p.Destination)
	if len(leaves) == 0 {
		return nil // that is the reason
	}
	var out string
	err := h.do(func() (err error) {
		out, err = p.Leaves()
		return err
	})
	d.command = fmt.Sprintf("ip route get %s from %s iif %s", p.Destination, p.Source, p.In)
	switch {
	case errors.Is(err, syscall.EXDEV): // the filter of the reverse path
		return nil
	case errors.Is(err, link.ErrRefused):
		d.why = err
	case err != nil || out == "" || h.passesBy(&d, out):
		return nil
	}
	d.out = out
	for i := range h.Routes.Selectors {
		s := &h.Routes.Selectors[i]
		if !s.Plain(s.Table) && s.May(p) && d.causedBy(h, s) {
			d.rule = s
			break
		}
	}
	return &d
}

// causedBy says whether a rule that the packet may meet does what became of it.
func (d *detour) causedBy(h *Host, s *link.Selector) bool {
	if s.Action != link.KindUnicast {
		return d.out == ""
	}
	_, refused := h.Routes.Refuses(d.packet.Destination, func(table int) bool { return table == s.Table })
	return refused == (d.out == "")
}

// passesBy says whether a packet that leaves by another link fares there as the
// entry wants it.
func (h *Host) passesBy(d *detour, out string) bool {
	o := d.of.out
	expected := o.Out
	if d.answer {
		expected = o.Packet.Interface
	}
	if out == expected {
		return true
	}
	if d.answer {
		return false
	}
	for i := range h.Policy.Zones {
		z := &h.Policy.Zones[i]
		if !slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(out) }) {
			continue
		}
		p := o.Packet
		p.To = z.Name
		other, err := h.gateway().Send(p)
		if err == nil && other.Verdict == simulate.Forwarded && (o.SNAT.Kind == ruleset.Continue) == (other.SNAT.Kind == ruleset.Continue) {
			return true
		}
	}
	return false
}

// ruleRefuses is about rules of routing that refuse what the policy lets pass.
func ruleRefuses(h *Host) (out []Finding) {
	for _, d := range h.detours() {
		if d.out != "" {
			continue
		}
		x := Finding{
			Severity: Broken, Weight: 777,
			Title:    fmt.Sprintf("rules of routing refuse %s, which %s lets pass", d.what(), d.of.entry),
			Evidence: []string{d.command + ": " + strings.TrimPrefix(d.why.Error(), link.ErrRefused.Error()+": ")},
		}
		out = append(out, d.finding(h, x))
	}
	return merged(out, 3)
}

// ruleLeadsElsewhere is about rules of routing that send it by a link where the
// policy does not expect it.
func ruleLeadsElsewhere(h *Host) (out []Finding) {
	for _, d := range h.detours() {
		if d.out == "" {
			continue
		}
		where := "where " + d.of.entry + " is not for it"
		if d.answer {
			where = "and " + d.of.entry + " has let in what they answer by " + d.of.out.Packet.Interface
		}
		x := Finding{
			Severity: Broken, Weight: 776,
			Title:    fmt.Sprintf("rules of routing send %s out by %s, %s", d.what(), d.out, where),
			Evidence: []string{d.command + ": dev " + d.out, fmt.Sprintf("routes: without these rules %s is reached by %s", d.packet.Destination, strings.Join(h.Routes.Leaves(d.packet.Destination), ", "))},
		}
		out = append(out, d.finding(h, x))
	}
	return merged(out, 3)
}

func (d *detour) what() string {
	what := "what comes"
	if d.answer {
		what = "the answers"
	}
	return fmt.Sprintf("%s from %s by %s to %s", what, d.packet.Source, d.packet.In, d.packet.Destination)
}

// finding adds the rule to what is said, where it is known.
func (d *detour) finding(h *Host, x Finding) Finding {
	family := dash6(familyOf(d.packet.Destination))
	if d.rule == nil {
		x.Mend = []string{"# see which rule or route it is: ip " + family + "rule; " + d.command}
		return x
	}
	x.Evidence = append(x.Evidence, "rule "+d.rule.String())
	if r, refused := h.Routes.Refuses(d.packet.Destination, func(table int) bool { return table == d.rule.Table }); refused && d.out == "" {
		x.Evidence = append(x.Evidence, "routes: "+r.String())
	}
	x.Mend = []string{"# if the rule is not meant:", fmt.Sprintf("ip %srule delete pref %d", family, d.rule.Priority)}
	switch {
	case d.out != "" && d.answer:
		x.Mend = append([]string{fmt.Sprintf("# if it is, give the zone of %s `symmetric: true`, and apply: answers then leave where the flow came in", d.of.out.Packet.Interface)}, x.Mend...)
	case d.out != "":
		x.Mend = append([]string{fmt.Sprintf("# if it is, write %s into the zone that %s is for, at %s, and apply", d.out, d.of.entry, d.of.place)}, x.Mend...)
	}
	return x
}
