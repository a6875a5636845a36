package main

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

func (p *program) schemaCommand() *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the policy language",
		Description: "Prints the JSON Schema (draft 2020-12) of policy files, for editors and programs that write policies. " +
			"It takes what check takes, and does not see every mistake that check sees.",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			text, err := policy.Schema()
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stdout, "%s", text)
			return nil
		},
	}
}
