package main

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/draft"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a first policy for this host",
		Description: "Looks at the links, addresses and routes of the host, and writes a policy with comments that say why. " +
			"It lets the inside out and nothing in, leaves the host's own ports as they are, and changes nothing itself. No privilege is needed.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write `FILE` instead of the standard output"},
			&cli.BoolFlag{Name: "force", Usage: "let --out replace a file that is there"},
			netnsFlag(),
		},
		Action: p.init,
	}
}

func (p *program) init(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	out := c.String("out")
	if c.Bool("force") && out == "" {
		return usagef("--force is for --out FILE")
	}
	if c.IsSet("out") && out == "" {
		return usagef("--out takes the name of a file")
	}
	host, err := p.hostToDraft(c)
	if err != nil {
		return err
	}
	d, err := draft.Write(host)
	if err != nil {
		return fmt.Errorf("draft a policy: %w", err)
	}
	name := out
	if name == "" {
		name = "policy.yaml"
	}
	// What is handed out has been checked.
	pol, err := policy.Parse(name, d.Text)
	if err == nil {
		_, err = p.compile(pol, engine.CompileFacts(host.Facts))
	}
	if err != nil {
		return fmt.Errorf("the draft for this host is no valid policy, which is a mistake of ipmasq: please report it with what `ip address` and `ip route` say: %w", err)
	}
	if out == "" {
		fmt.Fprintf(p.stdout, "%s", d.Text)
	} else {
		if err := writeNew(out, d.Text, c.Bool("force")); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s: %s\n", out, contents(pol))
	}
	for _, h := range d.Hints {
		p.hintf("%s", h)
	}
	return nil
}

// hostToDraft reads what a draft is made of.
func (p *program) hostToDraft(c *cli.Context) (host draft.Host, err error) {
	ns, err := openNetNS(c)
	if err != nil {
		return host, err
	}
	defer ns.Close()
	err = ns.Do(func() (err error) {
		if host.Facts, err = link.Read(); err == nil {
			host.Neighbors, err = link.Neighbors()
		}
		return err
	})
	if s := p.session(); s != nil && holds(host.Facts, s.Server.Addr()) {
		host.Session = &draft.Session{Client: s.Client, Server: s.Server}
	}
	return host, err
}

// holds says whether an address is one of the host's.
func holds(f link.Facts, a netip.Addr) bool {
	for _, l := range f.Links {
		for _, own := range l.Addresses {
			if own.Prefix.Addr() == a.WithZone("") {
				return true
			}
		}
	}
	return false
}
