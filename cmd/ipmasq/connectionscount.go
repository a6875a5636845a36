package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// groupsShown is how many groups are listed where nothing else is said.
const groupsShown = 20

// groupsCounted bounds how many groups are told apart; what belongs to others
// is counted together. The table is in the order of a hash, so that a large
// group is met among the first of its connections.
const groupsCounted = 100_000

func (p *program) connectionsCountCommand() *cli.Command {
	return &cli.Command{
		Name:  "count",
		Usage: "count connections",
		Description: "Counts the connections that the filter flags allow, by groups if --by is given. Without a flag it asks the kernel, " +
			"which keeps count, and the table is not read.",
		Flags: placeFlags(append(filterFlags(),
			&cli.StringFlag{Name: "by", Usage: "count by `WHAT`: entry, zone, protocol, source or destination"},
			&cli.IntFlag{Name: "limit", Value: groupsShown, Usage: "list the `N` largest groups"},
			outputFlag(),
		)...),
		Action: p.countConnections,
	}
}

func (p *program) countConnections(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	by, limit := c.String("by"), c.Int("limit")
	group := groupBy(by)
	switch {
	case c.IsSet("by") && group == nil:
		return usagef("--by %s: %v", shownValue(by), notOneOf("group", by, groupWords(), ""))
	case c.IsSet("limit") && group == nil:
		return usagef("--limit is how many groups are listed, and there are none without --by")
	case limit < 1:
		return usagef("--limit %d: has to be 1 or more", limit)
	}
	x, err := p.openConnections(c, by == "entry" || by == "zone")
	if err != nil {
		return err
	}
	defer x.close()
	if group == nil {
		n, err := x.count()
		if err != nil {
			return err
		}
		return p.output(c, func() any { return countDocument{FormatVersion: formatVersion, Count: n} }, func(w io.Writer) { fmt.Fprintln(w, n) })
	}
	g := groups{counts: map[string]int{}}
	var name []byte
	err = x.each(func(f *conntrack.Flow, j *flows.Judgement) bool {
		name = group(name[:0], f, j)
		g.add(name)
		return true
	})
	if err != nil {
		return err
	}
	d := g.document(by, limit)
	return p.output(c, func() any { return d }, func(w io.Writer) { p.printGroups(c, w, &d) })
}

// count counts what the filter allows. The kernel knows how many there are in
// all.
func (x *connections) count() (n int, err error) {
	if !x.filter.given {
		entries, _, err := x.Count()
		return int(entries), err
	}
	err = x.each(func(*conntrack.Flow, *flows.Judgement) bool { n++; return true })
	return n, err
}

func groupWords() []string { return []string{"entry", "zone", "protocol", "source", "destination"} }

// groupBy gives what adds the name of a connection's group.
func groupBy(by string) func(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	switch by {
	case "entry":
		return func(b []byte, _ *conntrack.Flow, j *flows.Judgement) []byte {
			return append(b, cmp.Or(j.Origin.Entry, "-")...)
		}
	case "zone":
		return func(b []byte, _ *conntrack.Flow, j *flows.Judgement) []byte {
			return append(append(append(b, cmp.Or(j.From, "-")...), " -> "...), cmp.Or(j.To, "-")...)
		}
	case "protocol":
		return func(b []byte, f *conntrack.Flow, _ *flows.Judgement) []byte {
			return append(b, policy.ProtocolName(f.Protocol)...)
		}
	case "source":
		return func(b []byte, f *conntrack.Flow, _ *flows.Judgement) []byte { return appendAddr(b, f.Original.Source) }
	case "destination":
		return func(b []byte, f *conntrack.Flow, _ *flows.Judgement) []byte {
			return appendAddr(b, f.Original.Destination)
		}
	}
	return nil
}

// groups counts connections by group.
type groups struct {
	counts map[string]int
	total  int
	beyond int // those of groups that are not told apart
}

func (g *groups) add(name []byte) {
	g.total++
	if _, known := g.counts[string(name)]; known || len(g.counts) < groupsCounted {
		g.counts[string(name)]++
	} else {
		g.beyond++
	}
}

type countDocument struct {
	FormatVersion int             `json:"format_version"`
	Count         int             `json:"count"`
	By            string          `json:"by,omitempty"`
	Groups        []groupDocument `json:"groups,omitempty"`
	Rest          int             `json:"rest,omitempty"`
}

type groupDocument struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// document gives the largest groups, and how many are in none of them.
func (g *groups) document(by string, limit int) countDocument {
	d := countDocument{FormatVersion: formatVersion, Count: g.total, By: by, Rest: g.beyond}
	for name, n := range g.counts {
		d.Groups = append(d.Groups, groupDocument{name, n})
	}
	slices.SortFunc(d.Groups, func(a, b groupDocument) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name))
	})
	for len(d.Groups) > limit {
		last := len(d.Groups) - 1
		d.Rest += d.Groups[last].Count
		d.Groups = d.Groups[:last]
	}
	return d
}

func (p *program) printGroups(c *cli.Context, w io.Writer, d *countDocument) {
	var t columns
	t.add("", strings.ToUpper(d.By), "CONNECTIONS")
	for _, g := range d.Groups {
		t.add("", g.Name, fmt.Sprint(g.Count))
	}
	if d.Rest > 0 {
		t.add("", "(the rest)", fmt.Sprint(d.Rest))
	}
	t.add("", "(all)", fmt.Sprint(d.Count))
	t.print(p, c, w)
}
