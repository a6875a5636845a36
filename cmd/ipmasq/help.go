package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// helpWidth is where the text of a help page is wrapped.
const helpWidth = 80

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:        "help",
		Usage:       "explain a command, or the exit codes",
		ArgsUsage:   "[COMMAND | exit-codes]",
		Description: "Lists the commands, explains one of them, or says what the exit codes mean.",
		Action: func(c *cli.Context) error {
			topic := c.Args().First()
			command := c.App.Command(topic)
			if c.NArg() == 2 && command != nil && len(command.Subcommands) > 0 {
				sub := command.Command(c.Args().Get(1))
				if sub == nil {
					return unknownSubcommand(command, c.Args().Get(1))
				}
				printCommandHelp(p.stdout, sub)
				return nil
			}
			if c.NArg() > 1 {
				return usagef("help explains one command at a time")
			}
			switch {
			case topic == "":
				printHelp(p.stdout, c.App)
			case topic == "exit-codes", topic == "exit":
				fmt.Fprint(p.stdout, exitCodesHelp)
			case command == nil:
				return unknownCommand(c.App.Commands, topic)
			case len(command.Subcommands) > 0:
				printGroupHelp(p.stdout, command)
			default:
				printCommandHelp(p.stdout, command)
			}
			return nil
		},
	}
}

func printHelp(w io.Writer, app *cli.App) {
	fmt.Fprintf(w, "ipmasq: %s\n\nUsage: ipmasq COMMAND [FLAG...] [FILE...]\n\n", app.Usage)
	fmt.Fprintln(w, wrap("Without a file, "+defaultFile+" and "+defaultFolder+"/*.yaml are read; - is standard input. "+
		"ipmasq help COMMAND lists the flags of a command.", helpWidth, ""))
	printCommands(w, app.Commands)
	fmt.Fprintf(w, "\n%s", exitCodesHelp)
}

func printCommands(w io.Writer, commands []*cli.Command) {
	fmt.Fprintf(w, "\nCommands:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(t, "  %s\t%s\n", c.Name, c.Usage)
	}
	t.Flush()
}

// printGroupHelp explains a command that others stand below.
func printGroupHelp(w io.Writer, c *cli.Command) {
	fmt.Fprintf(w, "ipmasq %s: %s\n\nUsage: ipmasq %[1]s COMMAND [FLAG...]\n\n%[3]s\n", c.Name, c.Usage, wrap(c.Description, helpWidth, ""))
	printCommands(w, c.Subcommands)
	fmt.Fprintf(w, "\nipmasq help %s COMMAND lists the flags of one.\n", c.Name)
}

func printCommandHelp(w io.Writer, c *cli.Command) {
	usage := []string{"ipmasq", fullName(c)}
	if len(c.Flags) > 0 {
		usage = append(usage, "[FLAG...]")
	}
	if c.ArgsUsage != "" {
		usage = append(usage, c.ArgsUsage)
	}
	fmt.Fprintf(w, "ipmasq %s: %s\n\nUsage: %s\n\n%s\n\nFlags:\n", fullName(c), c.Usage, strings.Join(usage, " "), wrap(c.Description, helpWidth, ""))
	type row struct{ flag, usage string }
	rows := make([]row, 0, len(c.Flags)+1)
	widest := 0
	add := func(flag, usage string) {
		rows = append(rows, row{flag, usage})
		widest = max(widest, len(flag))
	}
	for _, f := range c.Flags {
		names := f.Names()
		flag := "    --" + names[0]
		if len(names) > 1 {
			flag = "-" + names[1] + ", --" + names[0]
		}
		placeholder, usage := "", ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			usage = d.GetUsage()
		}
		if _, rest, ok := strings.Cut(usage, "`"); ok && takesValue(f) {
			placeholder, _, _ = strings.Cut(rest, "`")
			flag += " " + placeholder
		}
		add(flag, strings.ReplaceAll(usage, "`", ""))
	}
	add("-h, --help", "print this page")
	for _, r := range rows {
		indent := strings.Repeat(" ", 2+widest+2)
		fmt.Fprintf(w, "  %-*s  %s\n", widest, r.flag, strings.TrimPrefix(wrap(r.usage, helpWidth, indent), indent))
	}
}

// wrap breaks each line of a text between words, so that none is wider than
// width, and puts indent before each.
func wrap(text string, width int, indent string) string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		if len(indent)+len(paragraph) <= width {
			lines = append(lines, indent+paragraph) // as it is: a table, perhaps
			continue
		}
		line := indent
		for _, word := range strings.Fields(paragraph) {
			if len(line) > len(indent) && len(line)+1+len(word) > width {
				lines = append(lines, line)
				line = indent
			}
			if len(line) > len(indent) {
				line += " "
			}
			line += word
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
