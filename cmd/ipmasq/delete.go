package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/urfave/cli/v2"
)

func (p *program) deleteCommand() *cli.Command {
	return &cli.Command{
		Name:  "delete",
		Usage: "remove all that apply put in place",
		Description: "Turns off the forwarding that apply turned on, removes the rules in one transaction, cuts the flows that they " +
			"translated, and puts every sysctl back to what it was before the first apply, unless someone else has changed it since.",
		Flags: hostFlags(&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, and say what would be done"}, outputFlag(), noColorFlag()),
		Action: p.onHost(checkOutput, func(ctx context.Context, c *cli.Context, e *engine.Engine) error {
			d, err := e.Delete(ctx, c.Bool("dry-run"))
			if err != nil {
				return err
			}
			if d.Forgotten != nil {
				p.warnf("no flow is cut, for it is not known which of them are ipmasq's: %v", d.Forgotten)
			}
			if d.StillForwards {
				p.warnf("the host goes on forwarding, for it is not ipmasq that turned that on: what it forwards is no longer translated")
			}
			return p.output(c, func() any { return deletionJSON(d) }, func(w io.Writer) { printDeletion(w, d, c.Bool("dry-run")) })
		}),
	}
}

func printDeletion(w io.Writer, d *engine.Deletion, dryRun bool) {
	if d.Empty() {
		fmt.Fprintln(w, "nothing to delete: there is nothing of ipmasq's here")
	}
	removed, restored, left, cut := "removed", "put back", "left", "cut"
	if dryRun {
		removed, restored, left, cut = "would remove", "would put back", "would leave", "would cut"
	}
	if !d.Rules.Empty() {
		parts := []string{counted(len(d.Rules.Chains), "chain", "chains"), counted(len(d.Rules.Sets), "set or map", "sets and maps"),
			counted(len(d.Rules.Counters), "counter", "counters")}
		// Few policies have any of these.
		for _, kind := range objectKinds() {
			if n := objectsOf(d.Rules, kind.of); n > 0 {
				parts = append(parts, counted(n, string(kind.of), kind.many))
			}
		}
		fmt.Fprintf(w, "%s %s: %s\n", removed, rulesIn(d.Backend), strings.Join(parts, ", "))
	}
	for _, l := range d.Left {
		fmt.Fprintf(w, "%s %s\n", removed, rulesIn(l.Backend))
	}
	for _, s := range d.Restored {
		if s.Writes() {
			fmt.Fprintf(w, "%s sysctl %s: %s -> %s\n", restored, s.Name, s.After, s.Before)
		}
	}
	for _, s := range d.Kept {
		fmt.Fprintf(w, "%s sysctl %s, which somebody else has set since\n", left, s.Name)
	}
	for _, line := range d.Routing.Lines() {
		fmt.Fprintf(w, "%s %s\n", removed, line)
	}
	for _, line := range d.Docker.Removed() {
		fmt.Fprintf(w, "%s %s\n", removed, line)
	}
	if d.Flows > 0 {
		fmt.Fprintf(w, "%s %s\n", cut, counted(d.Flows, "translated flow", "translated flows"))
	}
}

type objectKind struct {
	of   plan.ObjectKind
	many string
}

func objectKinds() []objectKind {
	return []objectKind{{plan.CtHelper, "ct helpers"}, {plan.CtTimeout, "ct timeouts"}, {plan.Flowtable, "flowtables"}}
}

// objectsOf counts the objects of a kind that a deletion removes.
func objectsOf(c *plan.Changes, kind plan.ObjectKind) (n int) {
	for _, o := range c.Objects {
		if c.From.Objects[o.From].Kind == kind {
			n++
		}
	}
	return n
}

type deletionDocument struct {
	FormatVersion int               `json:"format_version"`
	Backend       string            `json:"backend"`
	Leaves        []string          `json:"leaves"` // other backends that all is removed from
	Chains        int               `json:"chains"`
	Sets          int               `json:"sets"`
	Counters      int               `json:"counters"`
	Helpers       int               `json:"ct_helpers"`
	Timeouts      int               `json:"ct_timeouts"`
	Flowtables    int               `json:"flowtables"`
	Restored      []sysctlDocument  `json:"restored"`
	Kept          []sysctlDocument  `json:"kept"`
	FlowsCut      int               `json:"flows_cut"`
	Routing       []routingDocument `json:"routing"`
	Docker        []dockerDocument  `json:"docker"`
	StillForwards bool              `json:"still_forwards"`
}

func deletionJSON(d *engine.Deletion) deletionDocument {
	// Before and after are those of this command: the other way round than
	// when the settings were made.
	restored := sysctlsJSON(d.Restored)
	for i := range restored {
		restored[i].Before, restored[i].After = restored[i].After, restored[i].Before
	}
	return deletionDocument{
		formatVersion, d.Backend, leftNames(d.Left), len(d.Rules.Chains), len(d.Rules.Sets), len(d.Rules.Counters),
		objectsOf(d.Rules, plan.CtHelper), objectsOf(d.Rules, plan.CtTimeout), objectsOf(d.Rules, plan.Flowtable),
		restored, sysctlsJSON(d.Kept), d.Flows, routingJSON(engine.Routing{Remove: d.Routing}), dockerJSON(d.Docker), d.StillForwards,
	}
}
