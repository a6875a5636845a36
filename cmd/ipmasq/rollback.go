package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/urfave/cli/v2"
)

func (p *program) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "go back to the policy before",
		Description: "Puts the policy that was in force before in force again, as apply does it. A policy that waits to be confirmed is as if " +
			"it had never been: where there was none before it, all that apply put in place is removed. A second rollback goes forth again; " +
			"--to goes further back: to a number of ipmasq history, or the beginning of a digest.",
		Flags: hostFlags(
			&cli.StringFlag{Name: "to", Usage: "go to the policy `DIGEST|N`"},
			&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, and say what would be done"},
			&cli.BoolFlag{Name: "keep-flows", Usage: "cut no flows"}, outputFlag(), noColorFlag(),
		),
		Action: p.onHost(checkOutput, func(ctx context.Context, c *cli.Context, e *engine.Engine) error {
			e.Session, e.KeepFlows = p.session(), c.Bool("keep-flows")
			to, err := rollbackTo(c, e)
			if err != nil {
				return err
			}
			do := e.Rollback
			if c.Bool("dry-run") {
				do = e.RollbackPlan
			}
			return p.rollback(c, do, ctx, to)
		}),
	}
}

// rollbackTo finds the digest that --to means: a number is a line of the history.
func rollbackTo(c *cli.Context, e *engine.Engine) (string, error) {
	to := c.String("to")
	if !c.IsSet("to") {
		return "", nil
	}
	if n, err := strconv.Atoi(to); err == nil && len(to) < shortestDigest {
		h, err := e.State.LoadHistory()
		if err != nil {
			return "", err
		}
		if n < 1 || n > len(h.Entries) {
			return "", fmt.Errorf("there is no number %s in the history, which has %s", to, counted(len(h.Entries), "entry", "entries"))
		}
		x := h.Entries[len(h.Entries)-n]
		if x.Digest == "" {
			return "", fmt.Errorf("number %s of the history is nothing; ipmasq delete removes all", to)
		}
		return x.Digest, nil
	}
	if len(to) < shortestDigest {
		return "", usagef("--to takes a number of ipmasq history, or at least %d digits of a digest", shortestDigest)
	}
	return to, nil
}

// shortestDigest is how many digits tell a digest from a number of the history.
const shortestDigest = 6

func (p *program) rollback(c *cli.Context, do func(context.Context, string) (*engine.Rollback, error), ctx context.Context, to string) error {
	r, err := do(ctx, to)
	if err != nil {
		return err
	}
	for _, w := range r.Warnings {
		p.warnf("%s", w)
	}
	dryRun := c.Bool("dry-run")
	if r.Plan != nil && !dryRun {
		p.warnCut(r.Plan.Cut)
	}
	err = p.output(c, func() any { return rollbackJSON(r, dryRun) }, func(w io.Writer) {
		verb, cut := "rolled back from", "cut"
		if dryRun {
			verb, cut = "would roll back from", "would cut"
		}
		from := policyText(r.From)
		if r.Unconfirmed {
			from += ", which was not confirmed,"
		}
		switch {
		case r.Deletion != nil:
			printDeletion(w, r.Deletion, dryRun)
		case r.Plan != nil:
			p.printPlan(c, w, r.Plan)
			printCut(w, r.Plan.Cut, cut)
		}
		fmt.Fprintf(w, "%s %s to %s\n", verb, from, policyText(r.To))
	})
	if err == nil && r.Unsaved != nil {
		err = fmt.Errorf("it is in force, but the state does not know of it, so roll back again when it can be written: %w", r.Unsaved)
	}
	return err
}

type rollbackDocument struct {
	FormatVersion int               `json:"format_version"`
	DryRun        bool              `json:"dry_run"`
	From          string            `json:"from,omitempty"` // digests; none: nothing
	To            string            `json:"to,omitempty"`
	Unconfirmed   bool              `json:"unconfirmed"`
	Plan          *planDocument     `json:"plan,omitempty"`
	Deletion      *deletionDocument `json:"deletion,omitempty"`
}

func rollbackJSON(r *engine.Rollback, dryRun bool) rollbackDocument {
	d := rollbackDocument{FormatVersion: formatVersion, DryRun: dryRun, Unconfirmed: r.Unconfirmed}
	if r.From != nil {
		d.From = r.From.Digest
	}
	if r.To != nil {
		d.To = r.To.Digest
	}
	if r.Plan != nil {
		pl := planJSON(r.Plan)
		d.Plan = &pl
	}
	if r.Deletion != nil {
		x := deletionJSON(r.Deletion)
		d.Deletion = &x
	}
	return d
}
