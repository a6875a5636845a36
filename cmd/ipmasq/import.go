package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/adopt"
	"github.com/urfave/cli/v2"
)

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "turn iptables or nftables rules into a policy",
		ArgsUsage: "FILE...",
		Description: "Reads what iptables-save, ip6tables-save or `nft -j list ruleset` printed, and prints a policy that does the same, as far as a policy can. " +
			"What it does not say as the rules did is listed by line, and nothing is opened that they closed. It asks neither the kernel nor the host.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write the policy to `FILE`, which must not exist"},
			&cli.BoolFlag{Name: "force", Usage: "with --out: replace the file"},
			&cli.StringFlag{Name: "format", Value: "auto", Usage: "the files are of `FORMAT`: auto, iptables, ip6tables or nft"},
			outputFlag(),
		},
		Action: p.importRules,
	}
}

func (p *program) importRules(c *cli.Context) error {
	if err := checkOutput(c); err != nil {
		return err
	}
	format := adopt.Format(c.String("format"))
	switch format {
	case "auto":
		format = adopt.Auto
	case adopt.IPTables, adopt.IP6Tables, adopt.NFT:
	default:
		return usagef("no such format: %s; there are auto, iptables, ip6tables and nft", format)
	}
	out := c.String("out")
	switch {
	case !c.Args().Present():
		return usagef("import takes the files to read; as in: iptables-save | ipmasq import -")
	case c.IsSet("out") && out == "":
		return usagef("--out needs the name of a file")
	case c.Bool("force") && out == "":
		return usagef("--force goes with --out")
	}
	inputs, err := p.rulesFiles(c.Args().Slice(), format)
	if err != nil {
		return err
	}
	r, err := adopt.Import(inputs)
	if err != nil {
		var torn *adopt.Mistake
		if errors.As(err, &torn) {
			return fmt.Errorf("import: %w", err)
		}
		return fmt.Errorf("import: %w; please report it, with the files", err)
	}
	if out != "" {
		if err := writeNew(out, r.Policy, c.Bool("force")); err != nil {
			return err
		}
	}
	if c.String("output") == "table" {
		p.listFindings(r.Findings)
	}
	err = p.output(c, func() any { return importJSON(inputs, r) }, func(w io.Writer) {
		if out == "" {
			_, _ = w.Write(r.Policy)
			return
		}
		fmt.Fprintf(w, "%s: made of %s in %s\n", out, counted(r.Rules, "rule", "rules"), counted(len(inputs), "file", "files"))
	})
	if err != nil {
		return err
	}
	if !r.Complete() {
		return errDifferent
	}
	return nil
}

// rulesFiles reads files, and standard input once. A format that is asked for
// is that of all files but those of sets.
func (p *program) rulesFiles(names []string, format adopt.Format) ([]adopt.Input, error) {
	var inputs []adopt.Input
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, usagef("%s is given twice", name)
		}
		var text []byte
		var err error
		if name == "-" {
			name = "stdin"
			text, err = io.ReadAll(p.stdin)
		} else {
			text, err = os.ReadFile(name)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, unreadable{fmt.Errorf("import: %w", err)}
		} else if err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		f := format
		if detected, ok := adopt.Detect(text); ok && detected == adopt.IPSet {
			f = adopt.IPSet
		}
		inputs = append(inputs, adopt.Input{Name: name, Text: text, Format: f})
	}
	return inputs, nil
}

// listFindings says what the policy does not say: what differs as a warning,
// the rest as hints.
func (p *program) listFindings(list []adopt.Finding) {
	for _, f := range list {
		say := p.hintf
		if f.Level == adopt.Error {
			say = p.warnf
		}
		text := f.Message
		if place := f.Place(); place != "" {
			text = place + ": " + text
		}
		if f.Rule != "" {
			text += "\n    " + strings.Map(func(r rune) rune {
				if r < ' ' || r >= 0x7f && r < 0xa0 {
					return '?' // a file must not be able to send a terminal control sequences
				}
				return r
			}, f.Rule)
		}
		say("%s", text)
	}
}

type importDocument struct {
	FormatVersion int               `json:"format_version"`
	Files         []importedFile    `json:"files"`
	Rules         int               `json:"rules"`
	LeftOut       int               `json:"left_out"`
	Complete      bool              `json:"complete"`
	Findings      []importedFinding `json:"findings"`
	Policy        string            `json:"policy"`
}

type importedFile struct {
	Name   string `json:"name"`
	Format string `json:"format"`
}

type importedFinding struct {
	Level   string `json:"level"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
}

func importJSON(inputs []adopt.Input, r *adopt.Result) importDocument {
	d := importDocument{FormatVersion: formatVersion, Rules: r.Rules, LeftOut: r.LeftOut, Complete: r.Complete(), Policy: string(r.Policy),
		Files: []importedFile{}, Findings: []importedFinding{}}
	for i, in := range inputs {
		d.Files = append(d.Files, importedFile{in.Name, string(r.Formats[i])})
	}
	for _, f := range r.Findings {
		d.Findings = append(d.Findings, importedFinding{string(f.Level), f.File, f.Line, f.Rule, f.Message})
	}
	return d
}
