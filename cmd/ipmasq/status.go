package main

import (
	"fmt"
	"io"
	"strings"
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
		switch {
		case s.Drifted():
			force += ", with drift (below)"
		case s.Digest != "":
			force += ", as applied"
		}
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
		fmt.Fprintf(w, "conntrack   %d of %d flows (%.1f %%)%s\n", s.Conntrack.Count, s.Conntrack.Max, 100*float64(s.Conntrack.Count)/float64(s.Conntrack.Max), failuresText(s.Conntrack))
	}
	for _, e := range s.Entries {
		if e.Pool != nil {
			fmt.Fprintf(w, "pool        %s %s: %d in use of %s, %s\n", e.Section, e.Name, e.Pool.InUse, poolText(e.Pool.Addresses), counted(e.Pool.Flows, "flow", "flows"))
		}
	}
	if s.Conntrack.Exhausted != "" {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", s.Conntrack.Exhausted))
	}
	if len(s.Entries) > 0 {
		fmt.Fprintln(w)
		p.printEntries(c, w, s)
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
		p.hintf("ipmasq apply puts it right")
	}
}

// failuresText says what did not get into the table, if anything.
func failuresText(c engine.Conntrack) string {
	if c.InsertFailed == 0 && c.Dropped == 0 {
		return ""
	}
	return fmt.Sprintf(", %s, %s dropped", counted(int(c.InsertFailed), "insert failure", "insert failures"), counted(int(c.Dropped), "packet", "packets"))
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

// poolText names the addresses of a pool, as many as a line has room for.
func poolText(addresses []string) string {
	const room = 50
	shown, length := 0, 0
	for shown < len(addresses) && (shown == 0 || length+len(addresses[shown]) < room) {
		length += len(addresses[shown]) + 1
		shown++
	}
	text := strings.Join(addresses[:shown], " ")
	if n := len(addresses) - shown; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func (p *program) printEntries(c *cli.Context, w io.Writer, s *engine.Status) {
	var t columns
	t.add("", "ENTRY", "NEW FLOWS", "REFUSED", "LEAKS", "PLACE")
	folder := commonFolder(s.Entries)
	for i := range s.Entries {
		if i == entriesShown {
			break
		}
		e := &s.Entries[i]
		flows, refused, leaks := fmt.Sprint(e.Flows), "-", "-"
		if e.Refuses {
			flows, refused = "-", fmt.Sprint(e.Packets)
		}
		if e.Limited {
			refused = fmt.Sprint(e.LimitStopped)
		}
		if e.Name != "" && (e.Section == "masquerade" || e.Section == "snat" || e.Section == "one_to_one") {
			leaks = fmt.Sprint(e.LeaksStopped)
		}
		t.add("", rowName(e), flows, refused, leaks, strings.TrimPrefix(e.Place.String(), folder))
	}
	t.print(p, c, w)
	if n := len(s.Entries); n > entriesShown {
		fmt.Fprintf(w, "... and %s more (-o json lists all)\n", counted(n-entriesShown, "entry", "entries"))
	}
}

// rowName is what people read for an entry, or for a counter that stands on its
// own.
func rowName(e *engine.Entry) string {
	name := strings.TrimSpace(e.Section + " " + e.Name)
	switch {
	case e.Forwards > 1:
		return fmt.Sprintf("%s (%d forwards)", name, e.Forwards)
	case name == "invalid":
		return "invalid forward"
	case name == "one_to_one":
		return "one_to_one, not exposed"
	}
	return name
}

// commonFolder is the folder that all places have in common, which the line of
// the policy names: without it the places fit beside the counters.
func commonFolder(entries []engine.Entry) string {
	folder, found := "", false
	for i := range entries {
		file := entries[i].Place.File
		if file == "" {
			continue
		}
		here := file[:strings.LastIndexByte(file, '/')+1]
		if !found {
			folder, found = here, true
		}
		for !strings.HasPrefix(here, folder) {
			folder = folder[:strings.LastIndexByte(folder[:len(folder)-1], '/')+1]
		}
	}
	return folder
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
	RoutingDrift  []routingDocument  `json:"routing_drift"`
	Problem       string             `json:"routing_problem,omitempty"`
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
	Section        string        `json:"section"`
	Name           string        `json:"name"`
	Place          string        `json:"place,omitempty"`
	NewFlows       uint64        `json:"new_flows"`
	RefusedPackets uint64        `json:"refused_packets"`
	LeaksStopped   uint64        `json:"leaks_stopped"`
	LimitStopped   uint64        `json:"limit_stopped"`
	Forwards       int           `json:"forwards,omitempty"`
	Pool           *poolDocument `json:"pool,omitempty"`
}

type poolDocument struct {
	Addresses []string `json:"addresses"`
	InUse     int      `json:"in_use"`
	Flows     int      `json:"flows"`
}

type conntrackDocument struct {
	Count        uint64 `json:"count"`
	Max          uint64 `json:"max"`
	InsertFailed uint64 `json:"insert_failed"`
	Dropped      uint64 `json:"dropped"`
	Exhausted    string `json:"exhausted,omitempty"`
}

func statusJSON(s *engine.Status) statusDocument {
	d := statusDocument{
		FormatVersion: formatVersion, Backend: s.Backend, InForce: s.InForce,
		Forwarding: forwardingDocument(s.Forwarding), Conntrack: conntrackDocument(s.Conntrack),
		Uplinks: []uplinkDocument{}, Entries: []counterDocument{}, Drift: []entryDocument{},
		SysctlDrift: sysctlsJSON(s.SysctlDrift), Drifted: s.Drifted(),
		RoutingDrift: routingJSON(s.RoutingDrift), Problem: messageOf(s.RoutingProblem),
	}
	if s.Digest != "" {
		d.Policy = &appliedDocument{s.Files, s.Digest, s.Applied}
	}
	for _, u := range s.Uplinks {
		d.Uplinks = append(d.Uplinks, uplinkDocument{u.Zone, u.Interface, u.Up, append([]string{}, u.Addresses...)})
	}
	for _, e := range s.Entries {
		d.Entries = append(d.Entries, counterDocument{e.Section, e.Name, e.Place.String(), e.Flows, e.Packets, e.LeaksStopped, e.LimitStopped, e.Forwards, (*poolDocument)(e.Pool)})
	}
	if s.Drift != nil {
		d.Drift = entriesJSON(s.Drift)
	}
	return d
}
