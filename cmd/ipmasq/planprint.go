package main

import (
	"fmt"
	"io"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
	"github.com/urfave/cli/v2"
)

// entriesShown bounds how many entries plan prints; the rest is counted.
const entriesShown = 200

func (p *program) printPlan(c *cli.Context, w io.Writer, pl *engine.Plan) {
	if pl.Empty() {
		if pl.Cut.Total == 0 {
			fmt.Fprintln(w, "no difference: the host is as the policy wants it")
		}
		return
	}
	p.printEntryChanges(c, w, pl.Rules, false)
	var sysctls columns
	for _, s := range pl.Sysctls {
		if s.Writes() {
			sysctls.add("33", fmt.Sprintf("~ sysctl %s: %s -> %s", s.Name, s.Before, s.After), s.Why)
		}
	}
	sysctls.print(p, c, w)
	p.printRouting(c, w, pl.Routing)
	p.printDocker(c, w, pl.Docker)
	for _, l := range pl.Left {
		fmt.Fprintf(w, "%s\n", p.colour(c, "31", fmt.Sprintf("- all of %s, once %s has taken its place", rulesIn(l.Backend), rulesIn(pl.Backend))))
	}
	fmt.Fprintf(w, "%s: %s\n", rulesIn(pl.Backend), pl.Rules.Summary())
}

// printEntryChanges prints what happens to each entry, and no more than
// entriesShown lines of it. What the entries stand on changes with them in a
// plan, which goes without saying; as drift it is somebody's doing.
func (p *program) printEntryChanges(c *cli.Context, w io.Writer, changes *plan.Changes, drift bool) {
	entries := changes.Entries()
	shown, structural := 0, 0
	var lines columns
	for i := range entries {
		e := &entries[i]
		if e.Structural() {
			structural++
			continue
		}
		if shown++; shown > entriesShown {
			continue
		}
		code := map[byte]string{'+': "32", '-': "31", '~': "33"}[e.Sign]
		lines.add(code, fmt.Sprintf("%c %s", e.Sign, e.Name()), e.Place.String(), e.Detail())
	}
	lines.print(p, c, w)
	if shown > entriesShown {
		fmt.Fprintf(w, "... and %s more (-o json lists all)\n", counted(shown-entriesShown, "entry", "entries"))
	}
	if structural > 0 && (drift || shown == 0) {
		fmt.Fprintf(w, "%s\n", p.colour(c, "33", "~ what the entries stand on (zones, chains)"))
	}
}

// rulesIn says where the rules of a backend are.
func rulesIn(backend string) string {
	if backend != "nftables" {
		return backend + " (IPMASQ-*)"
	}
	return "table inet " + nftables.Table
}

// leftNames are the backends that a plan or a deletion removes everything from,
// beside its own.
func leftNames(left []engine.Left) []string {
	out := []string{}
	for _, l := range left {
		out = append(out, l.Backend)
	}
	return out
}

type planDocument struct {
	FormatVersion int               `json:"format_version"`
	Different     bool              `json:"different"`
	Backend       string            `json:"backend"`
	Leaves        []string          `json:"leaves"` // backends that all is removed from
	Summary       string            `json:"summary"`
	Entries       []entryDocument   `json:"entries"`
	Sysctls       []sysctlDocument  `json:"sysctls"`
	Routing       []routingDocument `json:"routing"`
	Docker        []dockerDocument  `json:"docker"`
	Warnings      []mistakeDocument `json:"warnings"`
	// Unconfirmed is there where apply has left a policy to be confirmed.
	Unconfirmed *unconfirmedDocument `json:"unconfirmed,omitempty"`
	cutDocument
}

type entryDocument struct {
	Change          string `json:"change"` // add, change or remove
	Entry           string `json:"entry"`
	Place           string `json:"place,omitempty"`
	RulesAdded      int    `json:"rules_added"`
	RulesRemoved    int    `json:"rules_removed"`
	ElementsAdded   int    `json:"elements_added"`
	ElementsRemoved int    `json:"elements_removed"`
}

type sysctlDocument struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
	Why    string `json:"why,omitempty"`
}

func planJSON(pl *engine.Plan) planDocument {
	warnings := mistakesJSON(pl.Compiled.Warnings)
	for _, w := range pl.Warnings {
		warnings = append(warnings, mistakeDocument{Message: w})
	}
	return planDocument{
		FormatVersion: formatVersion, Different: !pl.Empty() || pl.Cut.Total > 0, Backend: pl.Backend, Leaves: leftNames(pl.Left), Summary: pl.Rules.Summary(),
		Entries: entriesJSON(pl.Rules), Sysctls: sysctlsJSON(pl.Sysctls), Routing: routingJSON(pl.Routing), Docker: dockerJSON(pl.Docker),
		Warnings: warnings, Unconfirmed: unconfirmedJSON(pl.Unconfirmed), cutDocument: cutJSON(pl.Cut),
	}
}

func entriesJSON(c *plan.Changes) []entryDocument {
	out := []entryDocument{}
	for _, e := range c.Entries() {
		if e.Structural() {
			continue
		}
		out = append(out, entryDocument{
			Change: map[byte]string{'+': "add", '-': "remove", '~': "change"}[e.Sign], Entry: e.Entry, Place: e.Place.String(),
			RulesAdded: e.RulesAdded, RulesRemoved: e.RulesRemoved, ElementsAdded: e.ElementsAdded, ElementsRemoved: e.ElementsRemoved,
		})
	}
	return out
}

func sysctlsJSON(changes []sysctl.Change) []sysctlDocument {
	out := []sysctlDocument{}
	for _, s := range changes {
		if s.Writes() {
			out = append(out, sysctlDocument{s.Name, s.Before, s.After, s.Why})
		}
	}
	return out
}

type rulesetDocument struct {
	FormatVersion int                  `json:"format_version"`
	Forwarding    forwardingDocument   `json:"forwarding"`
	Ruleset       nftables.Description `json:"ruleset"`
}

type forwardingDocument struct {
	IPv4 bool `json:"ipv4"`
	IPv6 bool `json:"ipv6"`
}

func rulesetJSON(r *compile.Result) rulesetDocument {
	return rulesetDocument{formatVersion, forwardingDocument{r.IPv4, r.IPv6}, nftables.Describe(r.Ruleset)}
}
