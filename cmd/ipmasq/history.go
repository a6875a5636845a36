package main

import (
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

func (p *program) historyCommand() *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "show what was applied, when and by whom",
		Description: "Lists the last 100 applies and rollbacks, the newest first: when, by whom, the digest of the policy, what it changed, " +
			"and what became of it. The policies of the last ten are stored: ipmasq rollback --to goes there.",
		Flags: hostFlags(outputFlag()),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if err := checkOutput(c); err != nil {
				return err
			}
			dir, err := state.Open(p.stateDir(c))
			if err != nil {
				return err
			}
			h, err := dir.LoadHistory()
			if err != nil {
				return err
			}
			d := historyJSON(h, dir)
			return p.output(c, func() any { return d }, func(w io.Writer) { printHistory(w, d) })
		},
	}
}

type historyDocument struct {
	FormatVersion int             `json:"format_version"`
	Entries       []entryOfPolicy `json:"entries"` // the newest first
}

type entryOfPolicy struct {
	Number int  `json:"number"`
	Stored bool `json:"stored"` // rollback --to can go there
	state.Entry
}

func historyJSON(h *state.History, dir *state.Dir) historyDocument {
	d := historyDocument{formatVersion, []entryOfPolicy{}}
	for i := len(h.Entries) - 1; i >= 0; i-- {
		x := h.Entries[i]
		d.Entries = append(d.Entries, entryOfPolicy{len(h.Entries) - i, dir.Holds(x.Digest), x})
	}
	return d
}

func printHistory(w io.Writer, d historyDocument) {
	if len(d.Entries) == 0 {
		fmt.Fprintln(w, "nothing was applied")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "N\tTIME\tBY\tPOLICY\tCHANGES\tRESULT\tCOMMAND")
	for i := range d.Entries {
		x := &d.Entries[i]
		digest := "-"
		if x.Digest != "" {
			digest = x.Digest[:12]
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Number, x.Time.UTC().Format("2006-01-02 15:04:05"), whoText(&x.By), digest,
			strings.ReplaceAll(orDash(x.Summary), "\t", " "), resultText(&x.Entry), orDash(x.By.Command))
	}
	t.Flush()
}

func resultText(x *state.Entry) string {
	text := string(x.Result)
	if x.EndedBy != nil && x.Why == "" {
		text += " by " + whoText(x.EndedBy)
	}
	if x.Why != "" {
		text += ": " + x.Why
	}
	return text
}

// whoText is the person, rather than the user whose rights they had.
func whoText(by *state.By) string {
	switch {
	case by.Sudo != "":
		return by.Sudo
	case by.Login != nil:
		return userName(strconv.FormatUint(uint64(*by.Login), 10))
	case by.UID < 0:
		return "-"
	}
	return userName(strconv.Itoa(by.UID))
}

func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}
