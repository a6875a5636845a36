package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// lockTime bounds the wait for another ipmasq to finish.
const lockTime = 2 * time.Minute

func bounded(c *cli.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(c.Context, lockTime, fmt.Errorf("given up after %v", lockTime))
}

func (p *program) planCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "show what apply would change",
		ArgsUsage: "[FILE...]",
		Description: "Compares the policy with what the kernel holds, has the kernel check the difference without applying it, " +
			"and prints it entry by entry, with the open flows that would be cut. Exit code 0: no difference; 2: a difference.",
		Flags:  hostFlags(&cli.StringFlag{Name: "out", Usage: "save the plan in `FILE`, for apply --plan"}, writableFlag(), outputFlag(), noColorFlag()),
		Action: p.plan,
	}
}

func (p *program) applyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "put a policy in force",
		ArgsUsage: "[FILE... | --plan FILE]",
		Description: "Commits the difference between the policy and the kernel in one transaction, reads it back, turns on the " +
			"forwarding that the policy needs, remembers what to put back, and cuts the open flows that the policy contradicts. " +
			"Applying again changes nothing, and counters go on.",
		Flags: hostFlags(
			&cli.BoolFlag{Name: "dry-run", Usage: "change nothing: the same as plan"},
			&cli.StringFlag{Name: "plan", Usage: "apply what plan --out has saved in `FILE`, or nothing if it would do something else now"},
			&cli.BoolFlag{Name: "keep-flows", Usage: "cut no flows"}, confirmFlag(),
			&cli.BoolFlag{Name: "at-boot", Usage: "do not apply a policy again that was not confirmed, or that was rolled back, but the one before"},
			writableFlag(), outputFlag(), noColorFlag(),
		),
		Action: func(c *cli.Context) error {
			window, err := windowOf(c)
			switch {
			case err != nil:
				return err
			case c.Bool("at-boot") && (window > 0 || c.Bool("dry-run")):
				return usagef("--at-boot goes with neither --confirm nor --dry-run: nobody is there to see")
			case c.IsSet("plan") && c.Bool("at-boot"):
				return usagef("--plan goes without --at-boot: no plan outlives the boot that it was made in")
			case c.IsSet("plan") && c.Bool("dry-run"):
				return usagef("a saved plan is what it is, and --dry-run shows the plan of now: give it the policy's files")
			case c.Bool("dry-run"):
				return p.plan(c)
			case c.Bool("at-boot"):
				return p.applyAtBoot(c)
			}
			return p.apply(c)
		},
	}
}

func (p *program) plan(c *cli.Context) error {
	pl, _, err := p.planned(c, (*engine.Engine).Plan)
	if err != nil {
		return err
	}
	if c.IsSet("out") {
		if err := savePlan(c.String("out"), pl); err != nil {
			return err
		}
	}
	if pl.Cut.Problem != nil {
		p.warnf("it is not known which flows would be cut: %v", pl.Cut.Problem)
	}
	err = p.output(c, func() any { return planJSON(pl) }, func(w io.Writer) {
		p.printPlan(c, w, pl)
		printCut(w, pl.Cut, "would cut")
	})
	if err == nil && (!pl.Empty() || pl.Cut.Total > 0) {
		err = errDifferent
	}
	return err
}

func (p *program) apply(c *cli.Context) error {
	pl, saved, err := p.planned(c, (*engine.Engine).Apply)
	if err != nil {
		return saved.outdated(err)
	}
	saved.printFlows(p, pl.Cut.Total)
	err = p.applied(c, pl)
	if err == nil {
		err = p.await(c, pl.Unconfirmed)
	}
	if err == nil && pl.Cut.Retries {
		err = errDifferent
	}
	return err
}

// applied prints what an apply did.
func (p *program) applied(c *cli.Context, pl *engine.Plan) error {
	p.warnCut(pl.Cut)
	p.warnDaemon(c)
	return p.output(c, func() any { return planJSON(pl) }, func(w io.Writer) {
		if pl.Empty() {
			if pl.Cut.Total == 0 {
				fmt.Fprintln(w, "nothing changed: the host is as the policy wants it")
			}
			printCut(w, pl.Cut, "cut")
			return
		}
		p.printPlan(c, w, pl)
		fmt.Fprintln(w, "applied and read back")
		printCut(w, pl.Cut, "cut")
		if len(pl.Policy.Zones) == 0 {
			p.hintf("the rules are gone and the sysctls stay as they are; ipmasq delete puts those back too")
		}
	})
}

// planned runs Plan or Apply on the policy that the arguments name, or that is
// in a saved plan.
func (p *program) planned(c *cli.Context, do func(*engine.Engine, context.Context, *policy.Policy) (*engine.Plan, error)) (*engine.Plan, *planFile, error) {
	if err := checkOutput(c); err != nil {
		return nil, nil, err
	}
	start := time.Now()
	pol, saved, err := p.policyOf(c)
	if err != nil {
		return nil, nil, err
	}
	e, closeHost, err := p.host(c)
	if err != nil {
		return nil, saved, err
	}
	defer closeHost()
	e.Session, e.KeepFlows, e.Expected = p.session(), c.Bool("keep-flows"), saved.outline()
	window, err := windowOf(c)
	if err != nil {
		return nil, nil, err
	}
	p.window(e, window)
	if c.Bool("timings") {
		e.Step("parse", time.Since(start))
	}
	ctx, cancel := bounded(c)
	defer cancel()
	pl, err := do(e, ctx, pol)
	if err != nil {
		return nil, saved, wrong(err, pol)
	}
	if pl == nil {
		return nil, nil, nil
	}
	p.warn(pol, pl.Compiled.Warnings)
	for _, w := range pl.Warnings {
		p.warnf("%s", w)
	}
	for _, h := range pl.Hints {
		p.hintf("%s", h)
	}
	return pl, saved, nil
}
