package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/urfave/cli/v2"
)

// targetsShown bounds how many targets of an entry status prints.
const targetsShown = 16

func (p *program) printEntries(c *cli.Context, w io.Writer, s *engine.Status) {
	var t columns
	limits := slices.ContainsFunc(s.Entries, func(e engine.Entry) bool { return e.Limit != nil })
	traffic := s.FlowsCounted && s.TrafficCounted
	// What no entry has takes no room.
	add := func(entry, open, limit, flows, refused, leaks, packets, bytes, place string) {
		cells := []string{entry, open}
		if limits {
			cells = append(cells, limit)
		}
		cells = append(cells, flows, refused, leaks)
		if traffic {
			cells = append(cells, packets, bytes)
		}
		t.add("", append(cells, place)...)
	}
	add("ENTRY", "OPEN", "LIMIT", "NEW FLOWS", "REFUSED", "LEAKS", "PACKETS", "BYTES", "PLACE")
	folder := commonFolder(s.Entries)
	for i := range s.Entries {
		if i == entriesShown {
			break
		}
		e := &s.Entries[i]
		open, limit, flows, refused, leaks, packets, bytes := "-", "-", fmt.Sprint(e.Flows), "-", "-", "-", "-"
		if e.Refuses {
			flows, refused = "-", fmt.Sprint(e.Packets)
		} else if s.FlowsCounted {
			open, packets, bytes = fmt.Sprint(e.Open.Flows), fmt.Sprint(e.Open.Packets), fmt.Sprint(e.Open.Bytes)
		}
		if e.Limit != nil {
			limit = limitText(e.Limit, s.FlowsCounted)
		}
		if e.Limited {
			refused = fmt.Sprint(e.LimitStopped)
		}
		if e.Name != "" && (e.Section == "masquerade" || e.Section == "snat" || e.Section == "one_to_one") {
			leaks = fmt.Sprint(e.LeaksStopped)
		}
		add(rowName(e), open, limit, flows, refused, leaks, packets, bytes, strings.TrimPrefix(e.Place.String(), folder))
		for n, target := range e.Targets {
			if n == targetsShown {
				add(fmt.Sprintf("  and %d more", len(e.Targets)-n), "", "", "", "", "", "", "", "")
				break
			}
			add("  to "+target.Target, fmt.Sprint(target.Flows), "", "", "", "", "", "", "")
		}
	}
	t.print(p, c, w)
	if n := len(s.Entries); n > entriesShown {
		fmt.Fprintf(w, "... and %s more (-o json lists all)\n", counted(n-entriesShown, "entry", "entries"))
	}
}

// limitText says what an entry's limit is and how much of it is in use: of the
// total, then of the host that uses most.
func limitText(l *engine.Limit, known bool) string {
	part := func(used int, of uint32) string {
		if !known {
			return fmt.Sprintf("-/%d", of)
		}
		return fmt.Sprintf("%d/%d", used, of)
	}
	var parts []string
	if l.Total > 0 {
		parts = append(parts, part(l.Used, l.Total))
	}
	switch {
	case l.PerHost == 0:
	case l.BusiestUsed > 0:
		parts = append(parts, l.Busiest.String()+" "+part(l.BusiestUsed, l.PerHost))
	default:
		parts = append(parts, part(0, l.PerHost)+" a host")
	}
	return strings.Join(parts, ", ")
}

// poolText says how much of a pool is in use, where that was counted.
func poolText(p *engine.Pool, known bool) string {
	if !known {
		return namesText(p.Addresses)
	}
	return fmt.Sprintf("%d in use of %s, %s", p.InUse, namesText(p.Addresses), counted(p.Flows, "flow", "flows"))
}

// namesText names the addresses of a pool, as many as a line has room for.
func namesText(addresses []string) string {
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
