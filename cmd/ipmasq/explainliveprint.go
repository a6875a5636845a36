package main

import (
	"fmt"
	"io"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// printWalk prints the kernel's walk of a packet: what matters of ours, and all
// that others decided, with the first difference marked.
func (p *program) printWalk(c *cli.Context, w io.Writer, x *liveWalk) {
	o := &outcomePrinter{p, c, w}
	fmt.Fprintln(w)
	o.line("live", "", packetText(&x.foreseen.Packet))
	matters := map[*ruleset.Rule]*simulate.Step{}
	for i := range x.foreseen.Steps {
		if s := &x.foreseen.Steps[i]; s.Rule != nil {
			matters[s.Rule] = s
		}
	}
	last := ""
	for i := range x.seen {
		s := &x.seen[i]
		differs := x.difference != nil && x.difference.At == i
		step := matters[s.Rule]
		if !differs && !o.c.Bool("all") && (s.Ours && (step == nil || !step.Matters) || !s.Ours && (s.Verdict == "" || s.Verdict == "continue")) {
			continue
		}
		name := ""
		if s.Hook != last {
			name, last = s.Hook, s.Hook
		}
		text, colour := seenText(s), ""
		if step != nil && !differs && s.Ours && step.Does != "" {
			text += "; foreseen: " + step.Does
		}
		switch {
		case differs:
			text, colour = "> "+text, red
		case !s.Ours:
			colour = yellow
		}
		o.line(name, colour, text)
	}
	text, colour := kernelText(x)
	o.line("kernel", colour, text)
	if d := x.difference; d != nil {
		o.line("difference", red, d.Text)
		foreseen, _ := verdictText(x.foreseen)
		o.line("foreseen", "", foreseen)
	} else {
		o.line("", green, "as foreseen")
	}
}

func seenText(s *simulate.Seen) string {
	what := s.Comment
	if what == "" {
		switch {
		case s.Policy:
			what = "the chain's policy"
		case s.Handle != 0:
			what = fmt.Sprintf("rule with handle %d", s.Handle)
		default:
			what = "the chain's end"
		}
	}
	text := fmt.Sprintf("%s %s, %s: %s", s.Table, s.Chain, what, s.Verdict)
	if s.To != "" {
		text += " " + s.To
	}
	if !s.Ours {
		text += " (not ipmasq's)"
	}
	return text
}

func kernelText(x *liveWalk) (text, colour string) {
	last := &simulate.Seen{}
	if n := len(x.seen); n > 0 {
		last = &x.seen[n-1]
	}
	switch x.verdict {
	case string(simulate.Forwarded):
		return "PASSES: it went through the last chain of postrouting", green
	case string(simulate.Delivered):
		return "PASSES: it reached the gateway itself", green
	case "drop":
		text = fmt.Sprintf("DROPPED in table %s chain %s", last.Table, last.Chain)
		if last.Comment != "" {
			text += ", " + last.Comment
		}
		return text, red
	case "queue":
		return fmt.Sprintf("GIVEN TO A PROGRAM by table %s chain %s", last.Table, last.Chain), yellow
	}
	if x.difference == nil {
		return verdictText(x.foreseen)
	}
	return fmt.Sprintf("NOT SEEN any more behind table %s chain %s", last.Table, last.Chain), red
}

// walkDocument is the kernel's walk of a packet, as data.
type walkDocument struct {
	Packet     packetDocument  `json:"packet"`
	Verdict    string          `json:"verdict"`
	Foreseen   string          `json:"foreseen"`
	Same       bool            `json:"same"`
	Difference string          `json:"difference"`
	DiffersAt  *int            `json:"differs_at"`
	Steps      []traceDocument `json:"steps"`
}

type traceDocument struct {
	Hook    string      `json:"hook"`
	Table   string      `json:"table"`
	Chain   string      `json:"chain"`
	Ours    bool        `json:"ours"`
	Entry   string      `json:"entry"`
	Rule    string      `json:"rule"`
	Handle  uint64      `json:"handle"`
	Verdict string      `json:"verdict"`
	To      string      `json:"to"`
	Ends    *packetEnds `json:"ends"`
}

func walkJSON(x *liveWalk) walkDocument {
	d := walkDocument{Packet: packetJSON(&x.foreseen.Packet), Verdict: x.verdict, Foreseen: string(x.foreseen.Verdict), Same: x.difference == nil,
		Steps: []traceDocument{}}
	if x.difference != nil {
		d.Difference, d.DiffersAt = x.difference.Text, &x.difference.At
	}
	for i := range x.seen {
		s := &x.seen[i]
		t := traceDocument{Hook: s.Hook, Table: s.Table, Chain: s.Chain, Ours: s.Ours, Entry: s.Comment, Handle: s.Handle, Verdict: s.Verdict, To: s.To}
		if s.Rule != nil {
			t.Rule, t.Entry = s.Rule.ID, s.Rule.Origin.Entry
		}
		if s.Ends != nil {
			e := endsJSON(*s.Ends)
			t.Ends = &e
		}
		d.Steps = append(d.Steps, t)
	}
	return d
}
