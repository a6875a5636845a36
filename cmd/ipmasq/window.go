package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/guard"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

// How long there may be to confirm a policy.
const (
	shortestWindow = time.Second
	longestWindow  = 24 * time.Hour
)

func confirmFlag() cli.Flag {
	return &cli.StringFlag{Name: "confirm", Usage: "go back by itself after `DURATION` (60s, 5m) unless ipmasq confirm keeps the policy, whatever happens to this process, its terminal and its session"}
}

// windowOf reads --confirm; 0 is none.
func windowOf(c *cli.Context) (time.Duration, error) {
	if !c.IsSet("confirm") {
		return 0, nil
	}
	text := c.String("confirm")
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, usagef("--confirm takes a duration such as 60s or 5m, and not %q", text)
	}
	if d < shortestWindow || d > longestWindow {
		return 0, usagef("--confirm takes from %v to %v, and not %s", shortestWindow, longestWindow, text)
	}
	return d, nil
}

// window has an engine's applies go back by themselves.
func (p *program) window(e *engine.Engine, d time.Duration) {
	if d == 0 {
		return
	}
	session := p.getenv("SSH_CONNECTION")
	if s := e.Session; s != nil {
		session = fmt.Sprintf("%s %d %s %d", s.Client.Addr(), s.Client.Port(), s.Server.Addr(), s.Server.Port())
	}
	e.Window = &engine.Window{For: d, Guard: func(u *state.Unconfirmed) error { return guard.Start(e, u.ID, session) }}
}

// errWentBack ends an apply that was not confirmed.
var errWentBack = errors.New("the policy was not confirmed, and is not in force")

// await tells what was left to be confirmed. At a terminal it asks, and waits
// until the policy is confirmed or has gone back, here or elsewhere.
func (p *program) await(c *cli.Context, u *engine.Unconfirmed) error {
	if u == nil {
		if c.IsSet("confirm") {
			p.hintf("nothing changed that could go back: there is nothing to confirm")
		}
		return nil
	}
	if c.String("output") != "table" {
		return nil // the answer says so
	}
	if !isTerminal(p.stdin) || !isTerminal(p.stderr) {
		p.hintf("can you open a *new* connection to this host? %s keeps the policy; without it, it goes back to %s in %s", p.again(c, "confirm"), backText(u), seconds(u.Left))
		return nil
	}
	e, closeHost, err := p.quietHost(c)
	if err != nil {
		return err
	}
	defer closeHost()
	e.Waiting, e.Session = nil, p.session()
	interrupted, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	changes, stopWatching, err := e.State.Watch()
	if err != nil {
		return err
	}
	defer stopWatching()
	answers := p.answers()
	fmt.Fprintf(p.stderr, "Can you open a *new* connection to this host? yes keeps the policy; no goes back to %s.\n", backText(u))
	for {
		now, err := e.Unconfirmed()
		if err != nil {
			return err
		}
		if now == nil || now.ID != u.ID {
			fmt.Fprintln(p.stderr)
			return p.outcome(c, e, u)
		}
		if now.Left <= 0 { // here or in the guard, whoever is first
			fmt.Fprintln(p.stderr)
			_, r, err := e.Expire(c.Context, u.ID)
			switch {
			case errors.Is(err, engine.ErrNothingUnconfirmed):
				return p.outcome(c, e, u)
			case err != nil:
				return err
			case r != nil:
				p.printWentBack(r)
				return errWentBack
			}
			continue
		}
		fmt.Fprintf(p.stderr, "\r\x1b[Kgoing back in %s [yes/no]: ", seconds(now.Left))
		select {
		case <-interrupted.Done():
			fmt.Fprintln(p.stderr)
			return p.goBack(c, e)
		case answer, open := <-answers:
			switch {
			case !open: // the terminal is closed: the guard waits
				return nil
			case strings.EqualFold(answer, "yes") || strings.EqualFold(answer, "y"):
				return p.keep(c, e)
			case strings.EqualFold(answer, "no") || strings.EqualFold(answer, "n"):
				return p.goBack(c, e)
			}
		case <-changes:
		case <-time.After(now.Left - (now.Left-1)/time.Second*time.Second):
		}
	}
}

// answers are the lines that somebody types.
func (p *program) answers() <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		lines := bufio.NewScanner(p.stdin)
		for lines.Scan() {
			out <- strings.TrimSpace(lines.Text())
		}
	}()
	return out
}

// keep is yes.
func (p *program) keep(c *cli.Context, e *engine.Engine) error {
	ctx, cancel := bounded(c)
	defer cancel()
	u, err := e.Confirm(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "confirmed: the policy %s stays in force\n", u.Digest[:12])
	return nil
}

// goBack is no.
func (p *program) goBack(c *cli.Context, e *engine.Engine) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(c.Context), lockTime, fmt.Errorf("given up after %v", lockTime))
	defer cancel()
	r, err := e.Rollback(ctx, "")
	if err != nil {
		return err
	}
	p.printWentBack(r)
	return errWentBack
}

func (p *program) printWentBack(r *engine.Rollback) {
	for _, w := range r.Warnings {
		p.warnf("%s", w)
	}
	if r.Unsaved != nil {
		p.warnf("the state does not know of it, so roll back again when it can be written: %v", r.Unsaved)
	}
	fmt.Fprintf(p.stdout, "went back: %s is in force\n", policyText(r.To))
}

// outcome is what somebody else made of a policy that waited.
func (p *program) outcome(c *cli.Context, e *engine.Engine, u *engine.Unconfirmed) error {
	s, err := e.State.Load()
	if err != nil {
		return err
	}
	if s.Applied != nil && s.Applied.Digest == u.Digest {
		fmt.Fprintf(p.stdout, "confirmed: the policy %s stays in force\n", u.Digest[:12])
		return nil
	}
	fmt.Fprintf(p.stdout, "went back: %s is in force\n", policyText(s.Applied))
	return errWentBack
}
