package main

import (
	"context"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// applyAtBoot is apply without anybody there.
func (p *program) applyAtBoot(c *cli.Context) error {
	var start *engine.Start
	boot := func(e *engine.Engine, ctx context.Context, pol *policy.Policy) (pl *engine.Plan, err error) {
		start, err = e.Boot(ctx, pol)
		if err != nil {
			return nil, err
		}
		return start.Plan, nil
	}
	pl, _, err := p.planned(c, boot)
	if err != nil {
		return err
	}
	switch {
	case start.Waits != nil:
		p.warnf("nothing is applied: %s", unconfirmedText(start.Waits))
		return nil
	case start.Withheld != "":
		p.warnf("%s", start.Withheld)
		p.hintf("ipmasq apply puts it in force all the same; or mend the files, or make them those of the policy that is to be in force")
	}
	if pl == nil {
		fmt.Fprintln(p.stdout, "nothing is in force")
		return nil
	}
	return p.applied(c, pl)
}
