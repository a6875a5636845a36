package main

import (
	"fmt"
	"strings"

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
		return strings.Join(commandNames(app), " ") + " exit-codes"
	}
	return ""
}

// valueWords are what a flag may be set to.
func valueWords(flag string) string {
	switch flag {
	case "output":
		return "table json yaml"
	case "format":
		return "nft json"
	}
	return ""
}

func bashCompletion(app *cli.App) string {
	var b strings.Builder
	b.WriteString(`_ipmasq() {
	local cur=${COMP_WORDS[COMP_CWORD]} flags="" arguments=""
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
`)
	fmt.Fprintf(&b, "\t\tmapfile -t COMPREPLY < <(compgen -W %q -- \"$cur\")\n\t\treturn\n\tfi\n", strings.Join(commandNames(app), " "))
	fmt.Fprintf(&b, `	case "${COMP_WORDS[COMP_CWORD-1]}" in
	-o | --output) mapfile -t COMPREPLY < <(compgen -W %q -- "$cur"); return ;;
	--format) mapfile -t COMPREPLY < <(compgen -W %q -- "$cur"); return ;;
	--netns) mapfile -t COMPREPLY < <(compgen -f -- "$cur"; [ ! -d /run/netns ] || (cd /run/netns && compgen -f -- "$cur")); return ;;
	--state-dir) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
	esac
	case "${COMP_WORDS[1]}" in
`, valueWords("output"), valueWords("format"))
	for _, c := range app.Commands {
		fmt.Fprintf(&b, "\t%s) flags=%q arguments=%q ;;\n", c.Name, flagWords(c), argumentWords(app, c))
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
	b.WriteString("#compdef ipmasq\n_ipmasq() {\n\tif (( CURRENT == 2 )); then\n\t\tlocal -a commands=(\n")
	for _, c := range app.Commands {
		fmt.Fprintf(&b, "\t\t\t%q\n", c.Name+":"+c.Usage)
	}
	fmt.Fprintf(&b, "\t\t)\n\t\t_describe command commands\n\t\treturn\n\tfi\n"+
		"\tcase $words[CURRENT-1] in\n\t-o | --output) compadd -- %s; return ;;\n\t--format) compadd -- %s; return ;;\n\tesac\n"+
		"\tcase $words[2] in\n", valueWords("output"), valueWords("format"))
	for _, c := range app.Commands {
		other := "_files"
		if words := argumentWords(app, c); words != "" {
			other = "compadd -- " + words
		}
		fmt.Fprintf(&b, "\t%s) [[ $words[CURRENT] == -* ]] && compadd -- %s || %s ;;\n", c.Name, flagWords(c), other)
	}
	b.WriteString("\tesac\n}\n_ipmasq \"$@\"\n")
	return b.String()
}

func fishCompletion(app *cli.App) string {
	var b strings.Builder
	for _, c := range app.Commands {
		fmt.Fprintf(&b, "complete -c ipmasq -n __fish_use_subcommand -f -a %s -d %q\n", c.Name, c.Usage)
		if words := argumentWords(app, c); words != "" {
			fmt.Fprintf(&b, "complete -c ipmasq -n '__fish_seen_subcommand_from %s' -f -a %q\n", c.Name, words)
		}
		for _, name := range flagNames(c) {
			line := fmt.Sprintf("complete -c ipmasq -n '__fish_seen_subcommand_from %s' -l %s", c.Name, name)
			if words := valueWords(name); words != "" {
				line += fmt.Sprintf(" -x -a %q", words)
			} else if f := flagNamed(c, name); f != nil && takesValue(f) {
				line += " -r"
			}
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
