package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

// warnDaemon says that a daemon holds the policy in force, and until when.
func (p *program) warnDaemon(c *cli.Context) {
	if d := p.runningDaemon(c); d != nil {
		p.warnf("a daemon (pid %d) runs: it holds this policy in force until %s changes, or it gets SIGHUP", d.PID, strings.Join(d.Files, " or "))
	}
}

// runningDaemon is what the daemon says of itself; nil where none runs.
func (p *program) runningDaemon(c *cli.Context) *state.Daemon {
	dir, err := state.Open(p.stateDir(c))
	if err != nil {
		return nil
	}
	d, err := dir.LoadDaemon()
	if err != nil {
		return nil
	}
	return d
}

// printDaemon is a line of status.
func printDaemon(w io.Writer, d *state.Daemon) {
	if d == nil {
		return
	}
	owns := ""
	if d.Owns {
		owns = ", owns the table"
	}
	fmt.Fprintf(w, "daemon      pid %d, since %s%s\n", d.PID, d.Since.UTC().Format("2006-01-02 15:04:05 MST"), owns)
}

// warnWithheld says that the policy in the files is not in force.
func (p *program) warnWithheld(d *state.Daemon) {
	if d != nil && d.Problem != "" {
		p.warnf("the daemon does not apply the policy in %s, since %s: %s", strings.Join(d.Files, " or "), d.ProblemSince.UTC().Format("2006-01-02 15:04:05 MST"), d.Problem)
	}
}

// daemonDocument is the same for programs.
type daemonDocument struct {
	PID          int        `json:"pid"`
	Since        time.Time  `json:"since"`
	Files        []string   `json:"files"`
	OwnsTable    bool       `json:"owns_table"`
	Problem      string     `json:"problem,omitempty"`
	ProblemSince *time.Time `json:"problem_since,omitempty"`
}

func withDaemon(s statusDocument, d *state.Daemon) statusDocument {
	if d != nil {
		s.Daemon = &daemonDocument{d.PID, d.Since, append([]string{}, d.Files...), d.Owns, d.Problem, d.ProblemSince}
	}
	return s
}
