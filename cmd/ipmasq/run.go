package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/daemon"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/metrics"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "hold a policy in force, as a daemon",
		ArgsUsage: "[FILE...]",
		Description: "Applies the policy, and again when its files change or on SIGHUP. Adapts it to links, addresses and routes " +
			"that come and go, puts right what other programs change of its rules and sysctls, and says who that was. A policy with " +
			"mistakes is not applied: the one before stays in force. SIGTERM ends it and leaves the policy in force.",
		Flags: hostFlags(
			writableFlag(),
			&cli.BoolFlag{Name: "own-table", Usage: "keep others from changing the rules, and from flushing them with the whole ruleset (Linux 6.9)"},
			&cli.BoolFlag{Name: "delete-on-exit", Usage: "remove everything at the end, as delete does"},
			&cli.StringFlag{Name: "metrics", Usage: "serve Prometheus metrics on `ADDR`; a port alone is on the loopback addresses"},
		),
		Action: p.runDaemon,
	}
}

func (p *program) runDaemon(c *cli.Context) error {
	if slices.Contains(c.Args().Slice(), "-") {
		return usagef("standard input cannot be watched; name files")
	}
	if addr := c.String("metrics"); addr != "" {
		if _, err := metrics.ParseAddress(addr); err != nil {
			return usagef("--metrics: %v", err)
		}
	}
	e, closeHost, err := p.host(c)
	if err != nil {
		return err
	}
	defer closeHost()
	journal := p.toJournal()
	log := daemon.NewLog(p.stderr, journal)
	if !c.Bool("timings") {
		e.Step = nil // there is nobody to show progress to
	}
	e.Waiting = func(holder string) { log.Printf(daemon.Info, "waiting for another ipmasq to finish: %s", holder) }
	notify, err := daemon.NewNotifier(p.getenv, os.Getpid())
	if err != nil {
		return err
	}
	defer notify.Close()
	counted := &daemonNumbers{}
	d := &daemon.Daemon{
		Engine: e, Paths: p.watched(c), Log: log, Notify: notify, DeleteOnExit: c.Bool("delete-on-exit"), Done: counted.add,
		Load: func() (*policy.Policy, error) { return p.load(c) },
		Check: func(x *policy.Policy) error {
			r, err := compile.Compile(x, compile.Facts{})
			if err == nil {
				err = refusedBy(x, r)
			}
			return err
		},
		Explain: explained,
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the process at once
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	release, err := holdKernel(ctx, e, d, c.Bool("own-table"))
	if err != nil {
		return err
	}
	defer release()
	if addr := c.String("metrics"); addr != "" {
		ended, err := p.serveMetrics(ctx, addr, e, counted, log)
		if err != nil {
			return err
		}
		defer func() { stop(); <-ended }()
	}
	return d.Run(ctx, reload)
}

// watched are the paths that load reads, whether they are there or not.
func (p *program) watched(c *cli.Context) []string {
	if c.Args().Len() > 0 {
		return c.Args().Slice()
	}
	return []string{defaultFile, defaultFolder}
}

// explained gives the text of an error, with the lines that mistakes are in.
func explained(err error) string {
	var bad *invalid
	var writable *untrusted
	if errors.As(err, &writable) {
		return err.Error() + "\n" + writable.hint()
	}
	if !errors.As(err, &bad) {
		return err.Error()
	}
	var out strings.Builder
	policy.Print(&out, bad.Errors, bad.sources)
	return out.String()
}

// serveMetrics serves until the context ends.
func (p *program) serveMetrics(ctx context.Context, addr string, e *engine.Engine, counted *daemonNumbers, log *daemon.Log) (ended <-chan struct{}, err error) {
	// A reading is the engine's of another command: it shares no answers.
	reads := engine.Engine{Backend: e.Backend, Backends: e.Backends, State: e.State, NetNS: e.NetNS}
	status := func(ctx context.Context) (*engine.Status, error) {
		one := reads // it may come to use another backend
		return one.Status(ctx)
	}
	collector := metrics.New(status, counted.get, metricsBuild(),
		func(err error) { log.Printf(daemon.Warning, "a scrape could not read the host: %v", err) })
	server, err := metrics.Listen(ctx, addr, collector)
	if err != nil {
		return nil, err
	}
	for _, a := range server.Addrs() {
		log.Printf(daemon.Info, "metrics are served on http://%v/metrics", a)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ctx); err != nil {
			log.Printf(daemon.Error, "metrics are no longer served: %v", err)
		}
	}()
	return done, nil
}

// daemonNumbers counts what the daemon did, for its metrics.
type daemonNumbers struct {
	mu  sync.Mutex
	now metrics.Daemon
}

func (n *daemonNumbers) get() metrics.Daemon {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *daemonNumbers) add(r daemon.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Applied {
		switch {
		case r.Failed:
			n.now.Applies.Failed++
		case r.Changed:
			n.now.Applies.Changed++
		default:
			n.now.Applies.Unchanged++
		}
		n.now.ApplyDurations.Observe(r.Took)
		n.now.LastApply, n.now.LastApplyFailed = time.Now(), r.Failed
	}
	count := func(to *uint64, on bool) {
		if on {
			*to++
		}
	}
	count(&n.now.Corrections.Rules, r.Rules)
	count(&n.now.Corrections.Sysctls, r.Sysctls)
	count(&n.now.Corrections.Routing, r.Routing)
	count(&n.now.ReloadFailures, r.Read && r.Withheld)
	if r.Read {
		n.now.ReloadFailed = r.Withheld
	}
	n.now.Digest, n.now.Applied = r.Digest, r.Since
}
