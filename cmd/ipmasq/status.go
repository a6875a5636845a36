package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/metrics"
	"github.com/urfave/cli/v2"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what is in force",
		Description: "Reads the kernel: forwarding, uplinks and their addresses now, the entries with what the kernel counted for " +
			"them and the flows that are open, and how all this differs from the policy that was applied last. The kernel does not " +
			"count flows by entry: where there are many, that is done with --flows alone. Exit code 0: no drift; 2: drift.",
		Flags: hostFlags(&cli.BoolFlag{Name: "flows", Usage: "count the open flows of each entry, however many there are"}, statusOutputFlag(), noColorFlag()),
		Action: p.onHost(checkStatusOutput, func(ctx context.Context, c *cli.Context, e *engine.Engine) error {
			e.CountFlows = c.Bool("flows")
			s, err := e.Status(ctx)
			if err != nil {
				return err
			}
			if c.String("output") == prometheusFormat {
				err = metrics.Write(p.stdout, s, metricsBuild())
			} else {
				d := p.runningDaemon(c)
				err = p.output(c, func() any { return withDaemon(statusJSON(s), d) }, func(w io.Writer) { printDaemon(w, d); p.printStatus(c, w, s) })
				p.warnWithheld(d)
			}
			if err != nil {
				return err
			}
			if u := s.Unconfirmed; u != nil && (u.Left <= 0 || !u.Guarded) {
				p.warnf("%s", unconfirmedText(u))
			}
			for _, w := range s.Warnings {
				p.warnf("%s: %s", w.About, w.Message)
			}
			if s.Drifted() {
				return errDifferent
			}
			return nil
		}),
	}
}

func (p *program) printStatus(c *cli.Context, w io.Writer, s *engine.Status) {
	onOff := func(on bool) string {
		if on {
			return "on"
		}
		return "off"
	}
	force := "nothing of ipmasq's is in the kernel"
	if s.InForce {
		force = rulesIn(s.Backend) + " is in force"
		if s.Backend != "nftables" {
			force = "chains IPMASQ-* are in force"
		}
		switch {
		case s.Drifted():
			force += ", with drift (below)"
		case s.Digest != "":
			force += ", as applied"
		}
	}
	fmt.Fprintf(w, "backend     %s, %s\n", s.Backend, force)
	for _, name := range s.Left {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", fmt.Sprintf("also        %s: rules of ipmasq's are left there, which apply and delete remove", rulesIn(name))))
	}
	if s.Digest != "" {
		fmt.Fprintf(w, "policy      %s, applied %s (%s)\n", strings.Join(s.Files, ", "), s.Applied.UTC().Format("2006-01-02 15:04:05 MST"), s.Digest[:12])
	} else {
		fmt.Fprintf(w, "policy      none was applied\n")
	}
	if s.Unconfirmed != nil {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", "unconfirmed "+unconfirmedText(s.Unconfirmed)))
	}
	if s.Lapsed != "" {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", fmt.Sprintf("unconfirmed the policy %s was not confirmed when the machine stopped, and is not applied at boot", s.Lapsed[:12])))
	}
	fmt.Fprintf(w, "forwarding  IPv4 %s, IPv6 %s\n", onOff(s.Forwarding.IPv4), onOff(s.Forwarding.IPv6))
	for _, u := range s.Uplinks {
		fmt.Fprintf(w, "uplink      %s\n", uplinkText(u))
	}
	for _, c := range s.Docker {
		fmt.Fprintf(w, "docker      %s lets pass what the policy accepts\n", engine.UserChainName(c))
	}
	for _, c := range s.Foreign {
		fmt.Fprintf(w, "others      %s\n", foreignText(c))
	}
	if s.ForeignProblem != nil {
		fmt.Fprintf(w, "others      not all could be read: %v\n", s.ForeignProblem)
	}
	if s.Conntrack.Max > 0 {
		fmt.Fprintf(w, "conntrack   %s%s\n", p.fillText(c, s), failuresText(s.Conntrack))
	}
	for _, e := range s.Entries {
		if e.Pool != nil {
			fmt.Fprintf(w, "pool        %s %s: %s\n", e.Section, e.Name, poolText(e.Pool, s.FlowsCounted))
		}
	}
	if s.Conntrack.Exhausted != "" {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", s.Conntrack.Exhausted))
	}
	if len(s.Entries) > 0 {
		fmt.Fprintln(w)
		p.printEntries(c, w, s)
	}
	if s.FlowsProblem != nil {
		p.warnf("flows are not counted by entry: %v", s.FlowsProblem)
	} else if s.InForce && s.Digest != "" && !s.FlowsCounted {
		p.hintf("flows are not counted by entry where there are more than %d: ipmasq status --flows does it, and takes about %s", engine.CountedAtOnce, countingTime(s.Conntrack.Count))
	}
	if s.Drifted() {
		fmt.Fprintf(w, "\n%s\n", p.colour(c, "33", "drift: the host is not what was applied last; apply would do this"))
		if s.Drift != nil {
			p.printEntryChanges(c, w, s.Drift, true)
		}
		for _, x := range s.SysctlDrift {
			fmt.Fprintf(w, "~ sysctl %s is %s, not %s\n", x.Name, x.Before, x.After)
		}
		p.printRouting(c, w, s.RoutingDrift)
		if s.RoutingProblem != nil {
			fmt.Fprintln(w, s.RoutingProblem)
		}
		p.printDocker(c, w, s.DockerDrift)
		if s.DockerProblem != nil {
			fmt.Fprintln(w, s.DockerProblem)
		}
		with := "" // what apply reads where no file is named need not be this policy
		if slices.ContainsFunc(s.Files, func(f string) bool { return f != defaultFile && !strings.HasPrefix(f, defaultFolder+"/") }) {
			with = ", with the policy's files,"
		}
		p.hintf("%s%s puts it right", p.again(c, "apply"), with)
	}
}

// countingTime is about how long so many flows take to be read and judged.
func countingTime(flows uint64) time.Duration {
	const each = 3 * time.Microsecond
	return max(time.Duration(flows)*each, 100*time.Millisecond).Round(100 * time.Millisecond)
}

// fillText says how full the table of flows is.
func (p *program) fillText(c *cli.Context, s *engine.Status) string {
	fill := fmt.Sprintf("%d of %d flows (%.1f %%)", s.Conntrack.Count, s.Conntrack.Max, 100*float64(s.Conntrack.Count)/float64(s.Conntrack.Max))
	if slices.ContainsFunc(s.Warnings, func(w engine.Warning) bool { return w.About == "conntrack" }) {
		return p.colour(c, "33", fill+", nearly full")
	}
	return fill
}

// failuresText says what did not get into the table, if anything.
func failuresText(c engine.Conntrack) (text string) {
	if c.InsertFailed > 0 || c.Dropped > 0 {
		text = fmt.Sprintf(", %s, %s dropped", counted(int(c.InsertFailed), "insert failure", "insert failures"), counted(int(c.Dropped), "packet", "packets"))
	}
	if c.EarlyDropped > 0 {
		text += fmt.Sprintf(", %s for want of room", counted(int(c.EarlyDropped), "early drop", "early drops"))
	}
	return text
}

func uplinkText(u engine.Uplink) string {
	state := "up"
	if !u.Up {
		state = "down"
	}
	switch {
	case !u.Up && u.Addresses == nil:
		state = "not there, or down"
	case len(u.Addresses) == 0:
		state += ", without an address"
	default:
		state += ", " + strings.Join(u.Addresses, " ")
	}
	return fmt.Sprintf("%s (%s): %s", u.Interface, u.Zone, state)
}
