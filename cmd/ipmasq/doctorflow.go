package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/doctor"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// doctorFlow walks one flow.
func (p *program) doctorFlow(c *cli.Context, h *doctor.Host, f *doctor.Flow) error {
	way, err := h.Walk(f)
	var question *simulate.QuestionError
	switch {
	case errors.Is(err, doctor.ErrNoPolicy):
		return fmt.Errorf("%w: give a FILE, or apply one", err)
	case errors.As(err, &question):
		return usagef("--flow %q: %v", c.String("flow"), question)
	case err != nil:
		return err
	}
	if err := p.output(c, func() any { return wayJSON(way) }, func(w io.Writer) { p.printWay(c, w, way) }); err != nil {
		return err
	}
	lacks := p.unreadOf(h)
	if way.Stopped() != nil {
		return errDifferent
	}
	return lacks
}

func (p *program) printWay(c *cli.Context, w io.Writer, way *doctor.Way) {
	const indent = "               "
	fmt.Fprintf(w, "%s\n\n", &way.Flow)
	for i := range way.Stages {
		s := &way.Stages[i]
		text, colour := s.Text, "32"
		switch s.Verdict {
		case doctor.Stops:
			text, colour = "STOPPED: "+text, "31"
		case doctor.Unsure:
			text, colour = "maybe: "+text, "33"
		}
		fmt.Fprintf(w, "  %s%s\n", p.colour(c, colour, fmt.Sprintf("%-13s", s.At)), text)
		for _, e := range s.Evidence {
			fmt.Fprintf(w, "%s%s\n", indent, e)
		}
		for n, m := range s.Mend {
			lead := "mend: "
			if n > 0 {
				lead = "      "
			}
			fmt.Fprintf(w, "%s%s%s\n", indent, lead, m)
		}
	}
	fmt.Fprintln(w)
	if s := way.Stopped(); s != nil {
		fmt.Fprintf(w, "it is stopped at %s: %s\n", s.At, s.Text)
		return
	}
	fmt.Fprintln(w, "nothing that can be seen from here stops it")
}

type wayDocument struct {
	FormatVersion int             `json:"format_version"`
	Flow          askedDocument   `json:"flow"`
	Stopped       bool            `json:"stopped"`
	StoppedAt     string          `json:"stopped_at,omitempty"`
	Stages        []stageDocument `json:"stages"`
}

type askedDocument struct {
	Protocol        string `json:"protocol"`
	Source          string `json:"source"`
	SourcePort      uint16 `json:"source_port,omitempty"`
	Destination     string `json:"destination"`
	DestinationPort uint16 `json:"destination_port,omitempty"`
	Interface       string `json:"interface,omitempty"`
}

type stageDocument struct {
	At       string   `json:"at"`
	Verdict  string   `json:"verdict"`
	Text     string   `json:"text"`
	Evidence []string `json:"evidence"`
	Mend     []string `json:"mend"`
}

func wayJSON(way *doctor.Way) wayDocument {
	f := &way.Flow
	source := "gateway"
	if f.Source != (netip.Addr{}) {
		source = f.Source.String()
	}
	d := wayDocument{FormatVersion: formatVersion, Stages: []stageDocument{}, Flow: askedDocument{
		policy.ProtocolName(f.Protocol), source, f.SourcePort, f.Destination.String(), f.DestinationPort, f.Interface,
	}}
	if s := way.Stopped(); s != nil {
		d.Stopped, d.StoppedAt = true, s.At
	}
	for i := range way.Stages {
		s := &way.Stages[i]
		d.Stages = append(d.Stages, stageDocument{s.At, string(s.Verdict), s.Text, append([]string{}, s.Evidence...), append([]string{}, s.Mend...)})
	}
	return d
}

// readFlow reads the flag --flow; nil where it is not given.
func readFlow(c *cli.Context) (*doctor.Flow, error) {
	if !c.IsSet("flow") {
		return nil, nil
	}
	f, err := doctor.ParseFlow(strings.TrimSpace(c.String("flow")))
	if err != nil {
		return nil, usagef("--flow %q: %v", c.String("flow"), err)
	}
	return f, nil
}
