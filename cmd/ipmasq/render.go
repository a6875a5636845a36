package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/urfave/cli/v2"
)

func (p *program) renderCommand() *cli.Command {
	return &cli.Command{
		Name:      "render",
		Usage:     "print the rules that a policy compiles to",
		ArgsUsage: "[FILE...]",
		Description: "Prints what apply would install: as a file for nft(8), which loads it as one transaction, as files for iptables-restore and ip6tables-restore (with --noflush) and for ipset restore, which goes before them, or as JSON. " +
			"What a policy leaves to the host (the addresses of its links) is read from this one, as apply does; --offline leaves it out. " +
			"No privilege is needed.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Value: "nft", Usage: "print `FORMAT`: nft, iptables, ip6tables, ipset or json"},
			&cli.BoolFlag{Name: "offline", Usage: "ask this host nothing"},
			netnsFlag(),
		},
		Action: func(c *cli.Context) error {
			format := c.String("format")
			switch format {
			case "nft", "iptables", "ip6tables", "ipset", "json":
			default:
				return usagef("no such format: %s; there are nft, iptables, ip6tables, ipset and json", format)
			}
			pol, err := p.loadToShow(c)
			if err != nil {
				return err
			}
			var facts compile.Facts
			if !c.Bool("offline") {
				if facts, err = readFacts(c); err != nil {
					return err
				}
			}
			if zones := facts.Unresolved(pol); len(zones) > 0 {
				return fmt.Errorf("%s: zone %s is where the default route leads, which only the host knows; render it without --offline, or with --netns", zones[0].Place, zones[0].Name)
			}
			r, err := p.compile(pol, facts)
			if err != nil {
				return err
			}
			if strings.HasSuffix(format, "tables") {
				if err := refusedByIPTables(pol, r); err != nil {
					return err
				}
			}
			switch format {
			case "nft":
				return nftables.Text(p.stdout, r.Ruleset)
			case "iptables":
				return iptables.Text(p.stdout, r.Ruleset, ruleset.IPv4)
			case "ip6tables":
				return iptables.Text(p.stdout, r.Ruleset, ruleset.IPv6)
			case "ipset":
				return iptables.TextSets(p.stdout, r.Ruleset)
			}
			e := json.NewEncoder(p.stdout)
			e.SetIndent("", "  ")
			return e.Encode(rulesetJSON(r))
		},
	}
}

func readFacts(c *cli.Context) (compile.Facts, error) {
	ns, err := openNetNS(c)
	if err != nil {
		return compile.Facts{}, err
	}
	defer ns.Close()
	var facts link.Facts
	err = ns.Do(func() (err error) {
		facts, err = link.Read()
		return err
	})
	return engine.CompileFacts(facts), err
}
