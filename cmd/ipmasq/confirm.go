package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

func (p *program) confirmCommand() *cli.Command {
	return &cli.Command{
		Name:  "confirm",
		Usage: "keep the policy that apply --confirm has put in force",
		Description: "Ends the wait of an apply with --confirm: the policy stays in force. Run it from a connection that was " +
			"opened after the apply, for that is what has to work.",
		Flags: hostFlags(outputFlag()),
		Action: p.onHost(checkOutput, func(ctx context.Context, c *cli.Context, e *engine.Engine) error {
			u, err := e.Confirm(ctx)
			if err != nil {
				return err
			}
			if u.Warning != "" {
				p.warnf("%s", u.Warning)
			}
			return p.output(c, func() any { return confirmedDocument{formatVersion, u.Digest} }, func(w io.Writer) {
				fmt.Fprintf(w, "confirmed: the policy %s stays in force\n", u.Digest[:12])
			})
		}),
	}
}

type confirmedDocument struct {
	FormatVersion int    `json:"format_version"`
	Digest        string `json:"digest"`
}

// unconfirmedDocument is a policy that waits to be confirmed.
type unconfirmedDocument struct {
	Digest      string  `json:"digest"`
	SecondsLeft float64 `json:"seconds_left"`
	Back        string  `json:"back,omitempty"` // the digest of the policy to go back to; none: nothing
	Guarded     bool    `json:"guarded"`
}

func unconfirmedJSON(u *engine.Unconfirmed) *unconfirmedDocument {
	if u == nil {
		return nil
	}
	d := &unconfirmedDocument{Digest: u.Digest, SecondsLeft: u.Left.Round(time.Millisecond).Seconds(), Guarded: u.Guarded}
	if u.Back != nil {
		d.Back = u.Back.Digest
	}
	return d
}

// policyText is a policy as a line of text names it.
func policyText(a *state.Applied) string {
	if a == nil {
		return "nothing"
	}
	return fmt.Sprintf("the policy %s of %s", a.Digest[:12], a.Time.UTC().Format("2006-01-02 15:04:05 MST"))
}

// seconds gives a time to wait, and none only when it is over.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%d s", max(0, (d+time.Second-1)/time.Second))
}

// unconfirmedText is the line that status has about it.
func unconfirmedText(u *engine.Unconfirmed) string {
	text := fmt.Sprintf("the policy goes back to %s in %s unless ipmasq confirm keeps it", backText(u), seconds(u.Left))
	switch {
	case u.Left <= 0 && !u.Guarded:
		return "the policy was not confirmed in time, and its guard is gone: it did not go back; ipmasq rollback goes back, ipmasq confirm keeps it"
	case u.Left <= 0:
		return "the policy was not confirmed in time, and is going back to " + backText(u)
	case !u.Guarded:
		return fmt.Sprintf("the guard is gone: the policy does not go back by itself in %s; ipmasq rollback goes back, ipmasq confirm keeps it", seconds(u.Left))
	}
	return text
}

func backText(u *engine.Unconfirmed) string { return policyText(u.Back) }

// hintUnconfirmed says how to go on where a policy waits.
func (p *program) hintUnconfirmed(err error) {
	var waits *engine.UnconfirmedError
	if errors.As(err, &waits) {
		p.hintf("ipmasq confirm keeps it, ipmasq rollback goes back; then apply again")
	}
}
