package main

import (
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script for bash, zsh or fish",
		ArgsUsage: "bash | zsh | fish",
		Description: "bash: ipmasq completion bash > /etc/bash_completion.d/ipmasq\n" +
			"zsh:  ipmasq completion zsh > /usr/local/share/zsh/site-functions/_ipmasq\n" +
			"fish: ipmasq completion fish > ~/.config/fish/completions/ipmasq.fish",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("completion takes the name of a shell: bash, zsh or fish")
			}
			var script string
			switch c.Args().First() {
			case "bash":
				script = bashCompletion(c.App)
			case "zsh":
				script = zshCompletion(c.App)
			case "fish":
				script = fishCompletion(c.App)
			default:
				return usagef("no completion for %s; there is one for bash, zsh and fish", c.Args().First())
			}
			fmt.Fprint(p.stdout, script)
			return nil
		},
	}
}

// flagWords are a command's long flags as they are typed.
func flagWords(c *cli.Command) string {
	return "--" + strings.Join(flagNames(c), " --")
}

// argumentWords are what a command takes in place of files; files where it is
// empty.
func argumentWords(app *cli.App, c *cli.Command) string {
	switch c.Name {
	case "completion":
		return "bash zsh fish"
	case "help":
		return strings.Join(commandNames(app.Commands), " ") + " exit-codes"
	}
	return strings.Join(commandNames(c.Subcommands), " ")
}

// valueWords are what a flag of a command may be set to.
func valueWords(c *cli.Command, flag string) string {
	switch fullName(c) + " --" + flag {
	case "status --output":
		return "table json yaml prometheus"
	case "explain --state":
		return strings.Join(simulate.States(), " ")
	case "render --format":
		return "nft iptables ip6tables ipset json"
	case "import --format":
		return "auto iptables ip6tables nft"
	case "connections list --output":
		return "table wide json yaml"
	case "connections watch --output":
		return "table wide json"
	case "connections watch --events":
		return strings.Join(eventWords(), " ")
	case "connections list --sort":
		return strings.Join(sortWords(), " ")
	case "connections count --by":
		return strings.Join(groupWords(), " ")
	}
	switch flag {
	case "output":
		return "table json yaml"
	case "format":
		return "nft json"
	case "icmp-type":
		var names []string
		for _, t := range policy.ICMPTypes() {
			names = append(names, t.Name)
		}
		return strings.Join(names, " ")
	case "protocol":
		return strings.Join(protocolWords(), " ")
	case "family":
		return "ipv4 ipv6"
	case "state":
		return strings.Join(stateWords(), " ")
	}
	return ""
}

// withSubcommands lists commands, each with those below it.
func withSubcommands(commands []*cli.Command) []*cli.Command {
	var out []*cli.Command
	for _, c := range commands {
		out = append(append(out, c), withSubcommands(c.Subcommands)...)
	}
	return out
}

// eachValued calls do with the flags that have words, and the ways to type each
// behind its command.
func eachValued(app *cli.App, do func(typed []string, words string)) {
	for _, c := range withSubcommands(app.Commands) {
		for _, f := range c.Flags {
			words := valueWords(c, f.Names()[0])
			if words == "" {
				continue
			}
			var typed []string
			for _, n := range f.Names() {
				typed = append(typed, fullName(c)+" "+strings.Repeat("-", min(len(n), 2))+n)
			}
			do(typed, words)
		}
	}
}

func bashCompletion(app *cli.App) string {
	var b strings.Builder
	b.WriteString("_ipmasq() {\n" +
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} flags=\"\" arguments=\"\"\n" +
		"\tCOMPREPLY=()\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n")
	fmt.Fprintf(&b, "\t\tmapfile -t COMPREPLY < <(compgen -W %q -- \"$cur\")\n\t\treturn\n\tfi\n", strings.Join(commandNames(app.Commands), " "))
	for _, c := range app.Commands {
		if len(c.Subcommands) > 0 {
			fmt.Fprintf(&b, "\tif [ \"$command\" = %s ] && [ \"$COMP_CWORD\" -gt 2 ]; then command=\"$command ${COMP_WORDS[2]}\"; fi\n", c.Name)
		}
	}
	b.WriteString("\tcase \"$command ${COMP_WORDS[COMP_CWORD-1]}\" in\n")
	eachValued(app, func(typed []string, words string) {
		fmt.Fprintf(&b, "\t\"%s\") mapfile -t COMPREPLY < <(compgen -W %q -- \"$cur\"); return ;;\n", strings.Join(typed, `" | "`), words)
	})
	b.WriteString(`	*" --netns") mapfile -t COMPREPLY < <(compgen -f -- "$cur"; [ ! -d /run/netns ] || (cd /run/netns && compgen -f -- "$cur")); return ;;
	*" --state-dir") mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
	esac
`)
	b.WriteString("\tcase \"$command\" in\n")
	for _, c := range withSubcommands(app.Commands) {
		fmt.Fprintf(&b, "\t%q) flags=%q arguments=%q ;;\n", fullName(c), flagWords(c), argumentWords(app, c))
	}
	b.WriteString(`	esac
	case "$cur" in
	-*) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur") ;;
	*) if [ -n "$arguments" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$arguments" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi ;;
	esac
}
complete -o filenames -F _ipmasq ipmasq
`)
	return b.String()
}

func zshCompletion(app *cli.App) string {
	var b strings.Builder
	describe := func(commands []*cli.Command) {
		b.WriteString("\t\tlocal -a commands=(\n")
		for _, c := range commands {
			fmt.Fprintf(&b, "\t\t\t%q\n", c.Name+":"+c.Usage)
		}
		b.WriteString("\t\t)\n\t\t_describe command commands\n\t\treturn\n\tfi\n")
	}
	b.WriteString("#compdef ipmasq\n_ipmasq() {\n\tlocal command=$words[2]\n\tif (( CURRENT == 2 )); then\n")
	describe(app.Commands)
	for _, c := range app.Commands {
		if len(c.Subcommands) > 0 {
			fmt.Fprintf(&b, "\tif [[ $command == %s ]] && (( CURRENT == 3 )); then\n", c.Name)
			describe(c.Subcommands)
			fmt.Fprintf(&b, "\t[[ $command == %s ]] && command=\"$command $words[3]\"\n", c.Name)
		}
	}
	b.WriteString("\tcase \"$command $words[CURRENT-1]\" in\n")
	eachValued(app, func(typed []string, words string) {
		fmt.Fprintf(&b, "\t(\"%s\") compadd -- %s; return ;;\n", strings.Join(typed, `"|"`), words)
	})
	b.WriteString("\tesac\n\tcase $command in\n")
	for _, c := range withSubcommands(app.Commands) {
		other := "_files"
		if words := argumentWords(app, c); words != "" {
			other = "compadd -- " + words
		}
		fmt.Fprintf(&b, "\t(%q) [[ $words[CURRENT] == -* ]] && compadd -- %s || %s ;;\n", fullName(c), flagWords(c), other)
	}
	b.WriteString("\tesac\n}\n_ipmasq \"$@\"\n")
	return b.String()
}

func fishCompletion(app *cli.App) string {
	var b strings.Builder
	for _, c := range app.Commands {
		fmt.Fprintf(&b, "complete -c ipmasq -n __fish_use_subcommand -f -a %s -d %q\n", c.Name, c.Usage)
		if words := argumentWords(app, c); words != "" && len(c.Subcommands) == 0 {
			fmt.Fprintf(&b, "complete -c ipmasq -n '__fish_seen_subcommand_from %s' -f -a %q\n", c.Name, words)
		}
		condition := "__fish_seen_subcommand_from " + c.Name
		for _, sub := range c.Subcommands {
			fmt.Fprintf(&b, "complete -c ipmasq -n '%s; and not __fish_seen_subcommand_from %s' -f -a %s -d %q\n",
				condition, strings.Join(commandNames(c.Subcommands), " "), sub.Name, sub.Usage)
			fishFlags(&b, condition+"; and __fish_seen_subcommand_from "+sub.Name, sub)
		}
		if len(c.Subcommands) == 0 {
			fishFlags(&b, condition, c)
		}
	}
	return b.String()
}

func fishFlags(b *strings.Builder, condition string, c *cli.Command) {
	for _, name := range flagNames(c) {
		line := fmt.Sprintf("complete -c ipmasq -n '%s' -l %s", condition, name)
		if words := valueWords(c, name); words != "" {
			line += fmt.Sprintf(" -x -a %q", words)
		} else if f := flagNamed(c, name); f != nil && takesValue(f) {
			line += " -r"
		}
		b.WriteString(line + "\n")
	}
}
