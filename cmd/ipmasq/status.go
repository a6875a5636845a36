package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/urfave/cli/v2"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what is in force",
		Description: "Reads the kernel: forwarding, uplinks and their addresses now, the entries with what the kernel counted for " +
			"them, and how all this differs from the policy that was applied last. Exit code 0: no drift; 2: drift.",
		Flags: hostFlags(outputFlag(), noColorFlag()),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if err := checkOutput(c); err != nil {
				return err
			}
			e, closeHost, err := p.host(c)
			if err != nil {
				return err
			}
			defer closeHost()
			ctx, cancel := bounded(c)
			defer cancel()
			s, err := e.Status(ctx)
			if err != nil {
				return err
			}
			if err := p.output(c, func() any { return statusJSON(s) }, func(w io.Writer) { p.printStatus(c, w, s) }); err != nil {
				return err
			}
			if s.Drifted() {
				return errDifferent
			}
			return nil
		},
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
		force = tableName + " is in force"
	}
	fmt.Fprintf(w, "backend     %s, %s\n", s.Backend, force)
	if s.Digest != "" {
		fmt.Fprintf(w, "policy      %s, applied %s (%s)\n", strings.Join(s.Files, ", "), s.Applied.UTC().Format("2006-01-02 15:04:05 MST"), s.Digest[:12])
	} else {
		fmt.Fprintf(w, "policy      none was applied\n")
	}
	fmt.Fprintf(w, "forwarding  IPv4 %s, IPv6 %s\n", onOff(s.Forwarding.IPv4), onOff(s.Forwarding.IPv6))
	for _, u := range s.Uplinks {
		fmt.Fprintf(w, "uplink      %s\n", uplinkText(u))
	}
	if s.Conntrack.Max > 0 {
		fmt.Fprintf(w, "conntrack   %d of %d flows (%.1f %%)\n", s.Conntrack.Count, s.Conntrack.Max, 100*float64(s.Conntrack.Count)/float64(s.Conntrack.Max))
	}
	if len(s.Entries) > 0 {
		fmt.Fprintln(w)
		p.printEntries(w, s)
	}
	if s.Drifted() {
		fmt.Fprintf(w, "\n%s\n", p.colour(c, "33", "drift: the host is not what was applied last; apply would do this"))
		if s.Drift != nil {
			p.printEntryChanges(c, w, s.Drift)
		}
		for _, x := range s.SysctlDrift {
			fmt.Fprintf(w, "~ sysctl %s is %s, not %s\n", x.Name, x.Before, x.After)
		}
		p.hintf("ipmasq apply puts it right")
	}
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

func (p *program) printEntries(w io.Writer, s *engine.Status) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ENTRY\tNEW FLOWS\tREFUSED\tLEAKS STOPPED\tPLACE")
	shown := 0
	for _, e := range s.Entries {
		if shown++; shown > entriesShown {
			break
		}
		name := strings.TrimSpace(e.Section + " " + e.Name)
		if e.Forwards > 1 {
			name += fmt.Sprintf(" (%d forwards)", e.Forwards)
		}
		flows, refused, leaks := fmt.Sprint(e.Flows), "-", "-"
		if e.Refuses {
			flows, refused = "-", counted(int(e.Packets), "packet", "packets")
		}
		if e.Section == "masquerade" {
			leaks = fmt.Sprint(e.LeaksStopped)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, flows, refused, leaks, e.Place)
	}
	t.Flush()
	if n := len(s.Entries); n > entriesShown {
		fmt.Fprintf(w, "... and %s more (-o json lists all)\n", counted(n-entriesShown, "entry", "entries"))
	}
}

type statusDocument struct {
	FormatVersion int                `json:"format_version"`
	Backend       string             `json:"backend"`
	InForce       bool               `json:"in_force"`
	Policy        *appliedDocument   `json:"policy"`
	Forwarding    forwardingDocument `json:"forwarding"`
	Uplinks       []uplinkDocument   `json:"uplinks"`
	Entries       []counterDocument  `json:"entries"`
	Conntrack     conntrackDocument  `json:"conntrack"`
	Drift         []entryDocument    `json:"drift"`
	SysctlDrift   []sysctlDocument   `json:"sysctl_drift"`
	Drifted       bool               `json:"drifted"`
}

type appliedDocument struct {
	Files   []string  `json:"files"`
	Digest  string    `json:"digest"`
	Applied time.Time `json:"applied"`
}

type uplinkDocument struct {
	Zone      string   `json:"zone"`
	Interface string   `json:"interface"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
}

type counterDocument struct {
	Section        string `json:"section"`
	Name           string `json:"name"`
	Place          string `json:"place,omitempty"`
	NewFlows       uint64 `json:"new_flows"`
	RefusedPackets uint64 `json:"refused_packets"`
	LeaksStopped   uint64 `json:"leaks_stopped"`
	Forwards       int    `json:"forwards,omitempty"`
}

type conntrackDocument struct {
	Count uint64 `json:"count"`
	Max   uint64 `json:"max"`
}

func statusJSON(s *engine.Status) statusDocument {
	d := statusDocument{
		FormatVersion: formatVersion, Backend: s.Backend, InForce: s.InForce,
		Forwarding: forwardingDocument(s.Forwarding), Conntrack: conntrackDocument(s.Conntrack),
		Uplinks: []uplinkDocument{}, Entries: []counterDocument{}, Drift: []entryDocument{},
		SysctlDrift: sysctlsJSON(s.SysctlDrift), Drifted: s.Drifted(),
	}
	if s.Digest != "" {
		d.Policy = &appliedDocument{s.Files, s.Digest, s.Applied}
	}
	for _, u := range s.Uplinks {
		d.Uplinks = append(d.Uplinks, uplinkDocument{u.Zone, u.Interface, u.Up, append([]string{}, u.Addresses...)})
	}
	for _, e := range s.Entries {
		d.Entries = append(d.Entries, counterDocument{e.Section, e.Name, e.Place.String(), e.Flows, e.Packets, e.LeaksStopped, e.Forwards})
	}
	if s.Drift != nil {
		d.Drift = entriesJSON(s.Drift)
	}
	return d
}
