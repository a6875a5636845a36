package main

import (
	"fmt"
	"io"
	"os"

	"github.com/ipmasq/ipmasq/pkg/guard"
	"github.com/urfave/cli/v2"
)

// program is the command line as a value, with its three streams, so that a
// test can run it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	terminal       bool     // stdout is one
	args           []string // as they were given
}

func (p *program) errorf(format string, args ...any) {
	fmt.Fprintf(p.stderr, "ipmasq: error: "+format+"\n", args...)
}

func (p *program) warnf(format string, args ...any) {
	fmt.Fprintf(p.stderr, "ipmasq: warning: "+format+"\n", args...)
}

func (p *program) hintf(format string, args ...any) {
	fmt.Fprintf(p.stderr, "ipmasq: hint: "+format+"\n", args...)
}

// run is the whole program. It gives the exit code.
func (p *program) run(args []string) int {
	p.terminal = isTerminal(p.stdout)
	answer := &answer{Writer: p.stdout}
	p.stdout = answer
	p.args = args
	app := p.app()
	args, err := arrange(app, args)
	if err == nil {
		err = app.Run(append([]string{"ipmasq"}, args...))
	}
	code := p.report(err)
	if answer.failed != nil && code != exitFailed {
		p.errorf("print the answer: %v", answer.failed)
		return exitFailed
	}
	return code
}

// answer is standard output. It remembers the first failure: an answer that a
// full disk has cut off must not look like one.
type answer struct {
	io.Writer
	failed error
}

func (a *answer) Write(text []byte) (int, error) {
	n, err := a.Writer.Write(text)
	if a.failed == nil {
		a.failed = err
	}
	return n, err
}

// app describes the commands. The library would exit by itself, print usage to
// stdout and take a flag behind an argument for an argument; none of that
// happens here.
func (p *program) app() *cli.App {
	app := &cli.App{
		Name:            "ipmasq",
		Usage:           "masquerading, port forwarding and forwarding rules from one policy",
		HideVersion:     true,
		HideHelp:        true,
		HideHelpCommand: true,
		Reader:          p.stdin,
		Writer:          p.stdout,
		ErrWriter:       p.stderr,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    onUsageError,
		Commands: []*cli.Command{
			p.initCommand(), p.importCommand(), p.checkCommand(), p.renderCommand(), p.explainCommand(), p.testCommand(), p.planCommand(), p.applyCommand(), p.runCommand(), p.statusCommand(),
			p.confirmCommand(), p.rollbackCommand(), p.historyCommand(), p.connectionsCommand(), p.doctorCommand(), p.deleteCommand(), p.schemaCommand(), p.versionCommand(), p.completionCommand(), p.helpCommand(),
		},
		Action: func(*cli.Context) error {
			return usagef("no command is given; ipmasq help lists them")
		},
	}
	if len(p.args) > 0 && p.args[0] == guard.Command { // nobody is told of it
		app.Commands = append(app.Commands, p.guardCommand())
	}
	ours(app.Commands, "")
	return app
}

// ours takes from commands what the library would do by itself.
func ours(commands []*cli.Command, prefix string) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelp = true
		c.HelpName = prefix + c.Name
		ours(c.Subcommands, c.HelpName+" ")
	}
}

// isTerminal says whether a stream is one. /dev/null is no less of a character
// device, and nobody reads there.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
