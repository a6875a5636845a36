package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v4"
)

// formatVersion is that of all JSON and YAML output. It changes when a field
// changes its meaning or goes; new fields do not change it.
const formatVersion = 1

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `FORMAT`: table, json or yaml"}
}

func noColorFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-color", Usage: "print no colours (also: NO_COLOR in the environment)"}
}

// output prints data in the form that was asked for. Table prints it for
// people; data is asked for only where it is not them.
func (p *program) output(c *cli.Context, data func() any, table func(w io.Writer)) error {
	switch format := c.String("output"); format {
	case "table":
		table(p.stdout)
		return nil
	case "json":
		text, err := json.MarshalIndent(data(), "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "%s\n", text)
		return err
	case "yaml":
		text, err := json.Marshal(data())
		if err != nil {
			return err
		}
		text, err = blockYAML(text)
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(text)
		return err
	default:
		return usagef("no such output format: %s; there are table, json and yaml", format)
	}
}

// checkOutput refuses a wrong format before anything is done.
func checkOutput(c *cli.Context) error {
	switch c.String("output") {
	case "table", "json", "yaml":
		return nil
	}
	return usagef("no such output format: %s; there are table, json and yaml", c.String("output"))
}

// blockYAML turns JSON, which is YAML, into the style that people read.
func blockYAML(text []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return nil, err
	}
	var plain func(*yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0
		for _, child := range n.Content {
			plain(child)
		}
	}
	plain(&n)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// colour wraps text in an ANSI colour where that is wanted.
func (p *program) colour(c *cli.Context, code, text string) string {
	if !p.terminal || p.getenv("NO_COLOR") != "" || c.Bool("no-color") {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
