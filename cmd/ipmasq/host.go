package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

// defaultState is where the state is kept; systemd's StateDirectory= wins.
const defaultState = "/var/lib/ipmasq"

func netnsFlag() cli.Flag {
	return &cli.StringFlag{Name: "netns", Usage: "work in the network namespace `NAME|PATH`"}
}

// hostFlags are those of commands that take steps.
func hostFlags(more ...cli.Flag) []cli.Flag {
	return placeFlags(append([]cli.Flag{&cli.BoolFlag{Name: "timings", Usage: "print how long each step took, to stderr"}}, more...)...)
}

// placeFlags say what a command works on.
func placeFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		netnsFlag(),
		&cli.StringFlag{Name: "state-dir", Usage: "keep the state in `DIR` (default: $STATE_DIRECTORY, else " + defaultState + ", with a folder of its own for each --netns)"},
	}, more...)
}

// host opens what a command that touches the kernel works on, and tells of its
// steps. Close what it returns.
func (p *program) host(c *cli.Context) (*engine.Engine, func(), error) {
	e, closeHost, err := p.quietHost(c)
	if err != nil {
		return nil, nil, err
	}
	progress := &progress{program: p}
	if c.Bool("timings") {
		e.Step = func(name string, took time.Duration) {
			fmt.Fprintf(p.stderr, "%-14s %9.3f ms\n", name, float64(took.Microseconds())/1000)
		}
	} else if isTerminal(p.stderr) {
		e.Step = progress.step
		progress.start()
	}
	return e, func() { progress.stop(); closeHost() }, nil
}

// quietHost is host for commands that show by themselves that they are at work,
// or ask something.
func (p *program) quietHost(c *cli.Context) (e *engine.Engine, closeHost func(), err error) {
	ns, err := openNetNS(c)
	if err != nil {
		return nil, nil, err
	}
	dir, err := state.Open(p.stateDir(c))
	if err == nil {
		e, err = newEngine(ns, dir, p.hintf)
	}
	if err != nil {
		ns.Close()
		return nil, nil, err
	}
	e.By = p.by()
	e.Waiting = func(holder string) { p.hintf("waiting for another ipmasq to finish: %s", holder) }
	return e, func() { ns.Close() }, nil
}

// onHost makes the action of a command that takes no argument and works on a
// host: check looks at the output format, and act has as long as a command may
// wait for another one.
func (p *program) onHost(check func(*cli.Context) error, act func(context.Context, *cli.Context, *engine.Engine) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := noArguments(c); err != nil {
			return err
		}
		if err := check(c); err != nil {
			return err
		}
		e, closeHost, err := p.host(c)
		if err != nil {
			return err
		}
		defer closeHost()
		ctx, cancel := bounded(c)
		defer cancel()
		return act(ctx, c, e)
	}
}

// openNetNS opens the namespace that the flag names, and finds out whether it
// can be entered.
func openNetNS(c *cli.Context) (*link.NetNS, error) {
	ns, err := link.OpenNetNS(c.String("netns"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, lacking{err, "the capability CAP_SYS_PTRACE is needed to open the namespace of somebody else's process: run it as root, or with sudo"}
	}
	if err != nil {
		return nil, err
	}
	if err := ns.Do(func() error { return nil }); err != nil {
		ns.Close()
		return nil, lacking{err, "the capability CAP_SYS_ADMIN is needed to enter a network namespace: run it as root, or with sudo"}
	}
	return ns, nil
}

// stateDir is where the state of the namespace is kept: two namespaces never
// share one, and a namespace has one whether it is named or its path given.
func (p *program) stateDir(c *cli.Context) string {
	if dir := c.String("state-dir"); dir != "" {
		return dir
	}
	dir := defaultState
	if env := p.getenv("STATE_DIRECTORY"); env != "" {
		dir = filepath.SplitList(env)[0]
	}
	ns := c.String("netns")
	if ns == "" {
		return dir
	}
	ns = filepath.Clean(ns)
	for _, named := range []string{"/run/netns/", "/var/run/netns/"} {
		if name, ok := strings.CutPrefix(ns, named); ok {
			ns = name
		}
	}
	return filepath.Join(dir, "netns", strings.ReplaceAll(strings.Trim(ns, "/"), "/", "-"))
}

// progress tells a person at a terminal what a command that takes longer than
// a second is doing.
type progress struct {
	*program
	mu    sync.Mutex
	timer *time.Timer // nil where there is nobody to tell
	last  string
	ended bool
}

func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(time.Second, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ended {
			return
		}
		after := "started"
		if p.last != "" {
			after = "done with: " + p.last
		}
		p.hintf("still working (%s)", after)
		p.timer.Reset(5 * time.Second)
	})
}

func (p *progress) step(name string, _ time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = name
}

func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
