package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts flags before arguments, where the library looks for them, and
// refuses what it would misread. Behind -- everything is an argument.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	command, words := app.Command(args[0]), args[:1]
	if command == nil {
		switch args[0] {
		case "-h", "--help":
			return append([]string{"help"}, args[1:]...), nil
		case "-v", "--version":
			return append([]string{"version"}, args[1:]...), nil
		}
		if isFlag(args[0]) {
			return nil, usagef("%s stands before the command; flags follow it", args[0])
		}
		return nil, unknownCommand(app.Commands, args[0])
	}
	if len(command.Subcommands) > 0 {
		sub, help, err := subcommand(command, args[1:])
		if err != nil || help != nil {
			return help, err
		}
		command, words = sub, args[:2]
	}
	var flags, rest []string
	for i := len(words); i < len(args); i++ {
		a := args[i]
		if a == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if !isFlag(a) {
			rest = append(rest, a)
			continue
		}
		f, err := readFlag(command, a)
		switch {
		case err != nil:
			return nil, err
		case f.name == "help":
			return append([]string{"help", "--"}, words...), nil
		case f.takesValue && !f.hasValue:
			if i++; i == len(args) {
				return nil, usagef("%s needs a value", a)
			}
			if f.value = args[i]; isFlag(f.value) {
				return nil, usagef("%s needs a value, and %s looks like a flag; write %s=%s if it is meant", a, f.value, a, f.value)
			}
			f.hasValue = true
		}
		if f.hasValue {
			flags = append(flags, "--"+f.name+"="+f.value)
		} else {
			flags = append(flags, "--"+f.name)
		}
	}
	out := append(slices.Clone(words), flags...)
	if len(rest) > 0 {
		out = append(append(out, "--"), rest...)
	}
	return out, nil
}

// subcommand finds the one that args begin with, or how to ask for the help page
// that they ask for.
func subcommand(command *cli.Command, args []string) (sub *cli.Command, help []string, err error) {
	if len(args) == 0 {
		return nil, nil, usagef("%s needs to be told what to do: %s", command.Name, strings.Join(commandNames(command.Subcommands), ", "))
	}
	name := args[0]
	switch {
	case name == "-h" || name == "--help":
		return nil, append([]string{"help", "--", command.Name}, args[1:]...), nil
	case isFlag(name):
		return nil, nil, usagef("%s stands before what %s is to do (%s); flags follow it", name, command.Name, strings.Join(commandNames(command.Subcommands), ", "))
	}
	if sub = command.Command(name); sub == nil {
		return nil, nil, unknownSubcommand(command, name)
	}
	return sub, nil, nil
}

// isFlag says whether an argument is written as a flag is; - is standard input.
func isFlag(a string) bool { return len(a) > 1 && a[0] == '-' }

// typedFlag is a flag as it was typed.
type typedFlag struct {
	name, value          string
	takesValue, hasValue bool
}

// readFlag finds out which of a command's flags is meant: --output=json,
// --output, -o and -ojson.
func readFlag(c *cli.Command, typed string) (typedFlag, error) {
	name, value, hasValue := strings.Cut(strings.TrimLeft(typed, "-"), "=")
	if name == "h" || name == "help" {
		return typedFlag{name: "help"}, nil
	}
	if f := flagNamed(c, name); f != nil {
		return typedFlag{name, value, takesValue(f), hasValue}, nil
	}
	if typed[1] != '-' && len(typed) > 2 {
		if f := flagNamed(c, typed[1:2]); f != nil && takesValue(f) {
			return typedFlag{typed[1:2], typed[2:], true, true}, nil
		}
	}
	shown, _, _ := strings.Cut(typed, "=")
	if near := nearest(name, flagNames(c)); near != "" && len(name) > 1 {
		return typedFlag{}, usagef("no such flag: %s; did you mean --%s?", shown, near)
	}
	return typedFlag{}, usagef("no such flag: %s; ipmasq help %s lists them", shown, fullName(c))
}

func flagNamed(c *cli.Command, name string) cli.Flag {
	for _, f := range c.Flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	v, ok := f.(cli.DocGenerationFlag)
	return ok && v.TakesValue()
}

// flagNames are a command's long flags.
func flagNames(c *cli.Command) []string {
	var out []string
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				out = append(out, n)
			}
		}
	}
	return append(out, "help")
}

// onUsageError puts what the library says of a flag's value in our words.
func onUsageError(_ *cli.Context, err error, _ bool) error {
	text := strings.Replace(err.Error(), " for flag -", " for -", 1)
	text = strings.TrimSuffix(strings.Replace(text, " for -", " for --", 1), ": parse error")
	if strings.HasSuffix(text, " for --interval") {
		text += "; a time has a unit, as 5s or 500ms"
	}
	return usageError{text}
}

func unknownCommand(commands []*cli.Command, name string) error {
	return unknown(commands, "command", name, "ipmasq help")
}

func unknownSubcommand(c *cli.Command, name string) error {
	return unknown(c.Subcommands, c.Name+" command", name, "ipmasq help "+c.Name)
}

func unknown(commands []*cli.Command, what, name, help string) error {
	shown := name
	if strings.TrimSpace(name) == "" {
		shown = fmt.Sprintf("%q", name)
	}
	if near := nearest(name, commandNames(commands)); near != "" {
		return usagef("no such %s: %s; did you mean %s?", what, shown, near)
	}
	return usagef("no such %s: %s; %s lists them", what, shown, help)
}

func commandNames(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		out = append(out, c.Name)
	}
	return out
}

// fullName is how a command is called, as "connections list".
func fullName(c *cli.Command) string { return strings.TrimPrefix(c.HelpName, "ipmasq ") }

// nearest finds the word that a mistyped one was probably meant to be.
func nearest(word string, words []string) string {
	best, distance := "", len(word)/3+2
	for _, w := range words {
		if d := editDistance(word, w); d < distance && d < len(word) {
			best, distance = w, d
		}
	}
	return best
}

// editDistance is Levenshtein's, with a swap of neighbours counted as one.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// noArguments refuses what a command would otherwise pass over.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument, but %q is given", fullName(c.Command), c.Args().First())
	}
	return nil
}
