package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/doctor"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "find out why traffic does not pass",
		ArgsUsage: "[FILE...]",
		Description: "Looks at links, routes, sysctls, rules of everybody, and flows, and says what is wrong: most likely cause first, each with " +
			"where it was seen and the commands that mend it. It changes nothing. It judges the policy that was applied last or, with files, " +
			"one that is not applied yet. Exit code 0: nothing is wrong; 2: something is.",
		Flags: hostFlags(
			&cli.StringFlag{Name: "flow", Usage: "walk one flow, and say what stops it first: `FLOW` is \"tcp 192.168.1.5 -> 203.0.113.9:443\""},
			&cli.BoolFlag{Name: "probe", Usage: "connect to the targets of port forwards (TCP), to see whether they answer; nothing is sent over it"},
			outputFlag(), noColorFlag()),
		Action: p.doctor,
	}
}

func (p *program) doctor(c *cli.Context) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	flow, err := readFlow(c)
	if err != nil {
		return err
	}
	source := doctor.Source{Place: p.placeOf(c), Probe: c.Bool("probe"), Flow: flow}
	if c.Args().Present() {
		pol, err := p.loadToShow(c)
		if err != nil {
			return err
		}
		source.Policy, source.Files = pol, c.Args().Slice()
	}
	ns, err := openNetNS(c)
	if err != nil {
		return err
	}
	defer ns.Close()
	dir, err := state.Open(p.stateDir(c))
	if err != nil {
		source.StateProblem = err
	}
	if source.Engine, err = newEngine(ns, dir, p.hintf); err != nil {
		return err
	}
	ctx, cancel := bounded(c)
	defer cancel()
	host, err := doctor.Read(ctx, source)
	if err != nil {
		return wrong(err, source.Policy)
	}
	if flow != nil {
		return p.doctorFlow(c, host, flow)
	}
	findings := doctor.Examine(host)
	if err := p.output(c, func() any { return doctorJSON(host, findings) }, func(w io.Writer) { p.printFindings(c, w, host, findings) }); err != nil {
		return err
	}
	return p.verdict(host, findings)
}

// verdict is the exit code. What could not be looked at is no finding, but then
// nobody knows that all is well.
func (p *program) verdict(h *doctor.Host, findings []doctor.Finding) error {
	lacks := p.unreadOf(h)
	if doctor.Wrong(findings) {
		return errDifferent
	}
	return lacks
}

// unreadOf warns of what could not be looked at. The error is of what the process
// lacks for that.
func (p *program) unreadOf(h *doctor.Host) (lacks error) {
	for _, u := range h.Unread {
		p.warnf("%s could not be looked at: %s", u.What, u.Why)
		if u.Capability != "" {
			lacks = notPermitted{fmt.Errorf("the doctor could not look at everything: the capability %s is missing", u.Capability)}
		}
	}
	return lacks
}

// placeOf is how commands reach the host that the flags name.
func (p *program) placeOf(c *cli.Context) (out doctor.Place) {
	if ns := c.String("netns"); ns != "" {
		out.Flags = append(out.Flags, "--netns", ns)
		out.Prefix = []string{"ip", "netns", "exec", ns}
		if strings.Contains(ns, "/") {
			out.Prefix = []string{"nsenter", "--net=" + ns}
		}
	}
	if dir := c.String("state-dir"); dir != "" {
		out.Flags = append(out.Flags, "--state-dir", dir)
	}
	return out
}

// again is how a command is called for the host that the flags name.
func (p *program) again(c *cli.Context, command string) string {
	return strings.Join(append([]string{"ipmasq", command}, p.placeOf(c).Flags...), " ")
}

// reservation is what a host without findings is not said to be.
func reservation(h *doctor.Host) string {
	switch {
	case len(h.Unread) > 0:
		return " with what could be looked at"
	case h.Given:
		return ", and " + strings.Join(h.Files, ", ") + " would work here"
	case h.Status != nil && h.Status.InForce && h.Status.Backend != "nftables":
		return " with the rules in " + h.Status.Backend
	}
	return ""
}

var severityColours = map[doctor.Severity]string{doctor.Broken: "31", doctor.Risk: "33", doctor.Note: "36"}

func (p *program) printFindings(c *cli.Context, w io.Writer, h *doctor.Host, findings []doctor.Finding) {
	if !doctor.Wrong(findings) {
		fmt.Fprintf(w, "nothing is wrong%s: looked at %s\n", reservation(h), strings.Join(h.Looked, ", "))
	}
	for i, f := range findings {
		brief := f.Severity == doctor.Note && doctor.Wrong(findings)
		if (i > 0 || !doctor.Wrong(findings)) && !(brief && findings[i-1].Severity == doctor.Note) {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s [%s]\n", p.colour(c, severityColours[f.Severity], f.Severity.String()), f.Title, f.ID)
		if brief {
			continue // there is something else to do
		}
		for _, e := range f.Evidence {
			fmt.Fprintf(w, "  %s\n", e)
		}
		for n, m := range f.Mend {
			lead := "        "
			if n == 0 {
				lead = "  mend: "
			}
			fmt.Fprintln(w, lead+m)
		}
	}
}
