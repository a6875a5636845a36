package main

import (
	"os/signal"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/guard"
	"github.com/urfave/cli/v2"
)

// guardCommand is for apply, and not for people.
func (p *program) guardCommand() *cli.Command {
	return &cli.Command{
		Name:        guard.Command,
		Usage:       "go back from a policy unless it is confirmed; apply --confirm starts it",
		Description: "Waits until the policy that an apply with --confirm has put in force is confirmed, and goes back if it is not.",
		Flags: hostFlags(
			&cli.StringFlag{Name: "id", Usage: "guard the apply `ID`"},
			&cli.IntFlag{Name: "apply", Usage: "it is the process `PID`"},
			&cli.StringFlag{Name: "namespace", Usage: "the identity that --netns has is `ID`"},
			&cli.BoolFlag{Name: "inherited", Usage: "take over open files"},
			&cli.BoolFlag{Name: "other", Usage: "there is another guard"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			err := p.guard(c)
			if err != nil && c.Bool("inherited") {
				guard.Refuse(err)
			}
			return err
		},
	}
}

func (p *program) guard(c *cli.Context) error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)
	e, closeHost, err := p.quietHost(c)
	if err != nil {
		return err
	}
	defer closeHost()
	e.Waiting, e.Session, e.By.Command = nil, p.session(), "ipmasq "+guard.Command
	g := &guard.Guard{Engine: e, ID: c.String("id"), Log: p.systemLog}
	if c.Bool("inherited") {
		err = g.Inherited(c.Int("apply"), p.getenv("SSH_CONNECTION"), c.Bool("other"))
	} else {
		err = g.Service(c.Int("apply"), c.String("namespace"))
	}
	if err != nil {
		return err
	}
	return g.Run(c.Context)
}
