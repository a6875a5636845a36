package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "validate a policy, offline",
		ArgsUsage: "[FILE...]",
		Description: "Reads the files and says what is wrong with them, every mistake at once, each at its line and column; " +
			"then what may not be meant. It asks neither the kernel nor the host, and needs no privilege.",
		Flags:  []cli.Flag{outputFlag()},
		Action: p.check,
	}
}

func (p *program) check(c *cli.Context) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	d := checkDocument{FormatVersion: formatVersion, Mistakes: []mistakeDocument{}, Warnings: []mistakeDocument{}}
	pol, err := p.loadToShow(c)
	if err == nil {
		var r *compile.Result
		if r, err = p.compile(pol, compile.Facts{}); err == nil {
			err = refusedBy(pol, r)
		}
		if err == nil {
			d.Valid = true
			d.Warnings = mistakesJSON(r.Warnings)
			for _, z := range (compile.Facts{}).Unresolved(pol) {
				p.hintf("zone %s is where the default route leads, which only the host knows: ipmasq plan sees the rest", z.Name)
			}
		}
	}
	var bad *invalid
	switch {
	case errors.As(err, &bad):
		d.Mistakes = mistakesJSON(bad.Errors)
	case err != nil:
		return err
	}
	failed := p.output(c, func() any { return d }, func(w io.Writer) {
		if err != nil {
			return // the mistakes go to stderr, where they are read
		}
		fmt.Fprintf(w, "valid: %s", contents(pol))
		if n := len(d.Warnings); n > 0 {
			fmt.Fprintf(w, "; %s", counted(n, "warning", "warnings"))
		}
		fmt.Fprintln(w)
	})
	if failed != nil {
		return failed
	}
	return err
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// contents says in a line what a policy holds, section by section.
func contents(p *policy.Policy) string {
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			parts = append(parts, counted(n, one, many))
		}
	}
	add(len(p.Zones), "zone", "zones")
	add(len(p.Sets), "set", "sets")
	add(len(p.OneToOne), "one_to_one", "one_to_one")
	add(len(p.SNAT), "snat", "snat")
	add(len(p.Masquerade), "masquerade", "masquerades")
	add(len(p.PortForward), "port forward", "port forwards")
	add(len(p.Redirect), "redirect", "redirects")
	add(len(p.Forward.Rules), "forward rule", "forward rules")
	if p.Input != nil {
		add(len(p.Input.Rules), "input rule", "input rules")
		if len(p.Input.Rules) == 0 {
			parts = append(parts, "input without rules")
		}
	}
	if len(parts) == 0 {
		return "nothing in it"
	}
	return strings.Join(parts, ", ")
}

type checkDocument struct {
	FormatVersion int               `json:"format_version"`
	Valid         bool              `json:"valid"`
	Mistakes      []mistakeDocument `json:"mistakes"`
	Warnings      []mistakeDocument `json:"warnings"`
}

type mistakeDocument struct {
	File    string            `json:"file"`
	Line    int               `json:"line"`
	Column  int               `json:"column"`
	Message string            `json:"message"`
	Notes   []mistakeDocument `json:"notes,omitempty"`
}

func mistakesJSON(errs policy.Errors) []mistakeDocument {
	out := []mistakeDocument{}
	for _, e := range errs {
		d := mistakeDocument{File: e.File, Line: e.Line, Column: e.Column, Message: e.Message}
		for _, n := range e.Notes {
			d.Notes = append(d.Notes, mistakeDocument{File: n.File, Line: n.Line, Column: n.Column, Message: n.Message})
		}
		out = append(out, d)
	}
	return out
}
