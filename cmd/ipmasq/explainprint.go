package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// Colours of what is printed of a packet.
const (
	green  = "32"
	red    = "31"
	yellow = "33"
	bold   = "1"
	dim    = "2"
)

// outcomePrinter writes what became of a packet.
type outcomePrinter struct {
	*program
	c *cli.Context
	w io.Writer
}

// labelWidth is the first column: the hook, or what a paragraph is about.
const labelWidth = 13

// line prints a paragraph beside its label, wrapped.
func (o *outcomePrinter) line(name, colour, text string) {
	o.indented(name, colour, labelWidth, text)
}

// together is what stands for a space that no line is broken at.
const together = "\x00"

func (o *outcomePrinter) indented(name, colour string, width int, text string) {
	indent := strings.Repeat(" ", width)
	text = strings.ReplaceAll(text, " > ", together+">"+together)
	text = wrap(text, helpWidth, indent)
	text = strings.ReplaceAll(text[labelWidth:], together, " ")
	if colour != "" {
		lines := strings.Split(text, "\n")
		for i, l := range lines {
			bare := strings.TrimLeft(l, " ")
			lines[i] = l[:len(l)-len(bare)] + o.colour(o.c, colour, bare)
		}
		text = strings.Join(lines, "\n")
	}
	head := fmt.Sprintf("%-*s", labelWidth, name)
	if name != "" {
		head = o.colour(o.c, bold, strings.TrimRight(head, " ")) + head[len(name):]
	}
	fmt.Fprintln(o.w, strings.TrimRight(head+text, " "))
}

func (p *program) printOutcome(c *cli.Context, w io.Writer, out *simulate.Outcome) {
	o := &outcomePrinter{p, c, w}
	o.line("packet", "", packetText(&out.Packet))
	text, colour := verdictText(out)
	o.line("verdict", colour, text)
	if out.Hint != "" {
		o.line("what helps", "", out.Hint)
	}
	for _, n := range out.Notes {
		o.line("note", yellow, n)
	}
	fmt.Fprintln(w)
	o.steps(out.Steps)
	if f := out.Flow; f != nil {
		fmt.Fprintln(w)
		o.flow(out, f)
	}
	if a := out.Answer; a != nil {
		fmt.Fprintln(w)
		o.line("answer", "", answerText(a))
		for _, n := range a.Notes {
			o.line("note", yellow, n)
		}
		o.stepsThat(a.Steps, mattersOfAnswer)
	}
}

// steps prints the way, hook by hook, each with the ends that the packet has
// there.
func (o *outcomePrinter) steps(steps []simulate.Step) {
	o.stepsThat(steps, func(s *simulate.Step) bool { return s.Matters })
}

func (o *outcomePrinter) stepsThat(steps []simulate.Step, matters func(*simulate.Step) bool) {
	last := ""
	for i := range steps {
		s := &steps[i]
		if !matters(s) && !o.c.Bool("all") {
			continue
		}
		hook := s.Hook.String()
		if s.By == simulate.ByRouting {
			hook = "routing"
		}
		name := ""
		if hook != last {
			name = hook
		}
		switch s.By {
		case simulate.ByRule:
			if name != "" {
				o.line(name, dim, endsText(simulate.Ends{Source: s.Source, Destination: s.Destination, SourcePort: s.SourcePort, DestinationPort: s.DestinationPort}))
			}
			o.rule(s)
		case simulate.ByConntrack:
			o.line(name, "", "conntrack: "+s.Does)
		default:
			o.line(name, "", s.Does)
		}
		last = hook
	}
}

// mattersOfAnswer leaves out what is done to answers as to all other packets:
// what decides, translates or leads them elsewhere is left.
func mattersOfAnswer(s *simulate.Step) bool {
	if s.By != simulate.ByRule || !s.Matters {
		return s.Matters
	}
	marks := slices.ContainsFunc(s.Rule.Do, func(do ruleset.Statement) bool { return do.Kind == ruleset.SetMark || do.Kind == ruleset.SetAddress })
	switch s.Rule.Action.Kind {
	case ruleset.Drop, ruleset.Reject:
		return true
	case ruleset.Accept:
		return marks || s.Hook == ruleset.Forward || s.Hook == ruleset.Input
	}
	return marks
}

func (o *outcomePrinter) rule(s *simulate.Step) {
	does := s.Does
	if does == "" {
		does = "leads on"
	}
	o.line("", stepColour(s), s.Origin.Entry+": "+does)
	if s.Limit != "" {
		o.indented("", yellow, labelWidth+2, "limit: "+s.Limit)
	}
	where := "chain " + s.Chain.Name
	if place := s.Origin.Place.String(); place != "" {
		where = place + ", " + where
	}
	if len(s.Looked) > 0 {
		where += ": " + strings.Join(s.Looked, ", ")
	}
	o.indented("", dim, labelWidth+2, where)
}

func stepColour(s *simulate.Step) string {
	switch {
	case s.Limited:
		return ""
	case strings.HasPrefix(s.Does, "drops") || strings.HasPrefix(s.Does, "rejects"):
		return red
	case s.Does == "passes":
		return green
	}
	return ""
}

// flow prints what conntrack would hold.
func (o *outcomePrinter) flow(out *simulate.Outcome, f *simulate.Flow) {
	o.line("conntrack", "", fmt.Sprintf("%s, answers %s", endsText(f.Original), endsText(f.Reply)))
	for _, c := range out.Choices {
		of := c.Of
		more := ""
		if n := len(of); n > 8 {
			of, more = of[:8], fmt.Sprintf(" and %d more", n-8)
		}
		o.line("", "", fmt.Sprintf("the %s is chosen from %s%s: %s", c.What, strings.Join(of, ", "), more, c.How))
	}
	if f.Mark != 0 {
		o.line("", "", fmt.Sprintf("mark %#x", f.Mark))
	}
	if len(f.Helpers) > 0 {
		o.line("", "", "helper "+strings.Join(f.Helpers, ", "))
	}
	if len(f.Timeouts) > 0 {
		var list []string
		for _, t := range f.Timeouts {
			list = append(list, fmt.Sprintf("%s %d s", t.State, t.Seconds))
		}
		o.line("", "", "timeouts "+strings.Join(list, ", "))
	}
	if f.Flowtable != "" {
		o.line("", "", "offloaded to the flowtable "+f.Flowtable+" once it is established: its packets then come by no rule")
	}
}

// packetText is a packet in a line.
func packetText(p *simulate.Packet) string {
	text := policy.ProtocolName(p.Protocol)
	if p.Protocol == policy.ProtocolICMP || p.Protocol == policy.ProtocolICMPv6 {
		text += " " + icmpName(p.Protocol, p.ICMPType)
	}
	text += " " + endsText(simulate.Ends{Source: p.Source, Destination: p.Destination, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort})
	switch {
	case p.From == flows.Gateway:
		text += ", sent by the gateway itself"
	case p.From == "":
		text += ", from no zone, by " + p.Interface
	default:
		text += fmt.Sprintf(", from zone %s, by %s", p.From, p.Interface)
	}
	if p.State != ruleset.CtNew {
		text += ", " + simulate.StateName(p.State) + " to conntrack"
	}
	if p.Protocol == policy.ProtocolTCP && (p.State != ruleset.CtNew || p.TCPFlags != ruleset.TCPSyn) {
		text += ", flags " + simulate.FlagNames(p.TCPFlags)
	}
	if p.Mark != 0 {
		text += fmt.Sprintf(", mark %#x", p.Mark)
	}
	return text
}

func icmpName(protocol, number uint8) string {
	for _, t := range policy.ICMPTypes() {
		if protocol == policy.ProtocolICMP && t.V4 == int(number) || protocol == policy.ProtocolICMPv6 && t.V6 == int(number) {
			return t.Name
		}
	}
	return fmt.Sprintf("type %d", number)
}

func endsText(e simulate.Ends) string {
	return string(appendEnd(nil, e.Source, e.SourcePort)) + " > " + string(appendEnd(nil, e.Destination, e.DestinationPort))
}

func byText(o ruleset.Origin) string {
	if place := o.Place.String(); place != "" {
		return fmt.Sprintf("%s (%s)", o.Entry, place)
	}
	return o.Entry
}

// verdictText says what became of the packet, in the colour that it has.
func verdictText(out *simulate.Outcome) (text, colour string) {
	by := ""
	if out.By.Entry != "" {
		by = " by " + byText(out.By)
	}
	switch out.Verdict {
	case simulate.Dropped:
		return "DROPPED" + by, red
	case simulate.Rejected:
		return "REJECTED" + by, red
	case simulate.Unrouted:
		for _, s := range out.Steps {
			if s.By == simulate.ByRouting {
				return "STAYS HERE: " + s.Does, red
			}
		}
		return "STAYS HERE", red
	case simulate.Synproxy:
		return "ANSWERED by the gateway for " + byText(out.By) + ", which opens the connection when the client has", green
	case simulate.Delivered:
		text = "PASSES" + by + ": it is for the gateway itself, " + reachedText(out.Left)
	default:
		text = "PASSES" + by + ": it leaves by " + out.Out
		if out.To != "" {
			text += " to zone " + out.To
		} else {
			text += ", which is in no zone,"
		}
		text += " as " + endsText(out.Left)
	}
	if out.Left == out.Arrived {
		text += ", untranslated"
	}
	return text, green
}

func reachedText(e simulate.Ends) string {
	return string(appendEnd(nil, e.Destination, e.DestinationPort))
}

func answerText(a *simulate.Answer) string {
	text := endsText(a.Sent)
	if a.In != "" {
		text += ", arrives by " + a.In
	} else {
		text += ", from the gateway itself"
	}
	switch {
	case !a.Verdict.Passes():
		text += ", and is DROPPED by " + byText(a.By)
	case a.Out == "":
		text += ", and comes back as " + endsText(a.Received)
	default:
		text += fmt.Sprintf(", and leaves by %s as %s", a.Out, endsText(a.Received))
	}
	return text
}
