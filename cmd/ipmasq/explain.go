package main

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

func (p *program) explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what becomes of a packet, step by step, and why",
		ArgsUsage: "[FILE...]",
		Description: "Walks one packet through the rules that a policy compiles to, as the kernel would, and sends nothing: each step with the " +
			"entry and its place, the verdict, what leaves where, what conntrack would hold, and how the answer comes back. " +
			"Without a file it is the policy that was applied, else the default files. Links, addresses and routes are this host's, " +
			"unless --host describes another, or --offline makes one up from the policy. No privilege is needed. " +
			"Rules of other tables are not known, and limits are taken not to be reached; each is told.\n\n" +
			"  ipmasq explain --from lan --source 192.168.1.10 \\\n" +
			"    --destination 198.51.100.7:443 --protocol tcp",
		Flags: placeFlags(slices.Concat(packetFlags(), liveFlags(), []cli.Flag{
			&cli.StringFlag{Name: "host", Usage: "the gateway is as `FILE` describes it: links, addresses, routes"},
			&cli.BoolFlag{Name: "offline", Usage: "ask this host nothing: make links, addresses and routes up from the policy"},
			&cli.BoolFlag{Name: "all", Usage: "print the rules that only lead the way, too"},
			outputFlag(), noColorFlag(),
		})...),
		Action: p.explain,
	}
}

func (p *program) explain(c *cli.Context) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	packet, err := readPacket(c)
	if err != nil {
		return err
	}
	g, err := p.gateway(c)
	if err != nil {
		return err
	}
	out, err := g.simulated.Send(packet)
	var question *simulate.QuestionError
	switch {
	case errors.As(err, &question):
		return usagef("--%s: %s", question.Field, question.Message)
	case err != nil:
		return err
	}
	if g.foreign != "" {
		p.hintf("%s", g.foreign)
	}
	document := func() any { return explainJSON(g, out) }
	print := func(w io.Writer) { p.printOutcome(c, w, out) }
	if wait == 0 {
		return p.output(c, document, print)
	}
	return p.explainLive(c, g, packet, out, wait)
}

// explainLive prints what is foreseen, and then what the kernel does. A
// difference is an answer of its own.
func (p *program) explainLive(c *cli.Context, g *gateway, packet simulate.Packet, out *simulate.Outcome, wait time.Duration) error {
	table := c.String("output") == "table"
	if table {
		p.printOutcome(c, p.stdout, out)
	}
	var walks []*liveWalk
	err := p.traceLive(c, g, packet, out, wait, func(x *liveWalk) {
		walks = append(walks, x)
		if table {
			p.printWalk(c, p.stdout, x)
		}
	})
	if err != nil {
		return err
	}
	if !table {
		d := explainJSON(g, out)
		list := []walkDocument{}
		for _, x := range walks {
			list = append(list, walkJSON(x))
		}
		d.Live = &list
		if err := p.output(c, func() any { return d }, nil); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(walks, func(x *liveWalk) bool { return x.difference != nil }) {
		return errDifferent
	}
	return nil
}
