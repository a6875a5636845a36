package main

import (
	"errors"
	"fmt"
	"io"

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
	pol, err := p.load(c)
	if err == nil {
		var r *compile.Result
		if r, err = p.compile(pol, compile.Facts{}); err == nil {
			d.Valid = true
			d.Warnings = mistakesJSON(r.Warnings)
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

// contents says in a line what a policy holds.
func contents(p *policy.Policy) string {
	return fmt.Sprintf("%s, %s, %s, %s", counted(len(p.Zones), "zone", "zones"),
		counted(len(p.Masquerade), "masquerade", "masquerades"), counted(len(p.PortForward), "port forward", "port forwards"),
		counted(len(p.Forward.Rules), "forward rule", "forward rules"))
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
