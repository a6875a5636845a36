package main

import (
	"errors"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/top"
	"github.com/urfave/cli/v2"
)

func (p *program) connectionsTopCommand() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show who sends how much, live",
		Description: "Shows the connections that the filter flags allow by host, entry of the policy, destination or by themselves, with their rates. " +
			"The key ? explains the keys. Rates need net.netfilter.nf_conntrack_acct to be 1 when a connection begins. " +
			"A table that takes long to read is read less often: reading never takes more than a third of a processor.",
		Flags: placeFlags(append(filterFlags(),
			&cli.StringFlag{Name: "by", Value: "host", Usage: "a row is a `WHAT`: host, entry, destination or flow"},
			&cli.StringFlag{Name: "sort", Value: "rate", Usage: "sort by `COLUMN`: rate, sent, received, packets-sent, packets-received, bytes, flows or name"},
			&cli.BoolFlag{Name: "reverse", Usage: "sort the other way round"},
			&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "read the table every `TIME`"},
			&cli.BoolFlag{Name: "batch", Usage: "print text and ask for nothing, for scripts"},
			&cli.IntFlag{Name: "samples", Usage: "with --batch: end after `N` samples; the first has no rates (default: go on)"},
			noColorFlag())...),
		Action: p.connectionsTop,
	}
}

func (p *program) connectionsTop(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	o, err := p.topOptions(c)
	if err != nil {
		return err
	}
	x, err := p.openConnections(c, true)
	if err != nil {
		return err
	}
	defer x.close()
	judge, err := x.judge()
	if err != nil {
		return err
	}
	if judge != nil {
		o.Judge = judge
	}
	o.Source, o.Filter, o.Fill = x.Conn, x.filter.kernel, x.fill
	if x.filter.rest() {
		o.Match = x.filter.matchesRest
	}
	if x.filter.judged() {
		o.MatchPolicy = x.filter.matchesPolicy
	}
	if session := p.session(); session != nil {
		o.Spare = func(f *conntrack.Flow) bool { return isSession(session, f) }
	}
	// Most of a large table's memory holds no pointers, so that it costs little to
	// collect often, and half as much again not to.
	debug.SetGCPercent(30)
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if c.Bool("batch") {
		return top.Batch(ctx, p.stdout, o, c.Int("samples"))
	}
	err = top.Run(ctx, o)
	if errors.Is(err, top.ErrNoTerminal) {
		err = advised{err, "--batch prints the same as text"}
	}
	return err
}

// topOptions reads the flags that are about the view.
func (p *program) topOptions(c *cli.Context) (o top.Options, err error) {
	var known bool
	if o.View, known = top.ParseView(c.String("by")); !known {
		return o, usagef("--by %s: %v", shownValue(c.String("by")), notOneOf("view", c.String("by"), top.Views(), ""))
	}
	if o.Sort, known = top.ParseColumn(c.String("sort")); !known {
		return o, usagef("--sort %s: %v", shownValue(c.String("sort")), notOneOf("column", c.String("sort"), top.Columns(), ""))
	}
	o.Interval, o.Reversed = c.Duration("interval"), c.Bool("reverse")
	switch {
	case o.Interval < 100*time.Millisecond:
		return o, usagef("--interval %s: is too short; 100ms is the shortest", o.Interval)
	case c.IsSet("samples") && !c.Bool("batch"):
		return o, usagef("--samples: is for --batch")
	case c.IsSet("samples") && c.Int("samples") < 1:
		return o, usagef("--samples %d: is less than one", c.Int("samples"))
	}
	o.NoColor = c.Bool("no-color") || p.getenv("NO_COLOR") != ""
	if ns := c.String("netns"); ns != "" {
		o.Name = filepath.Base(ns)
	}
	return o, nil
}

// rest says whether matchesRest could refuse anything.
func (f *flowFilter) rest() bool { return len(f.ports)+len(f.states)+len(f.marks) > 0 }

// fill reads how full the namespace's table is.
func (x *connections) fill() (count, limit uint64, err error) {
	entries, most, err := x.Count()
	return uint64(entries), uint64(most), err
}
