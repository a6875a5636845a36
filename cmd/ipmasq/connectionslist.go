package main

import (
	"bytes"
	"io"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/urfave/cli/v2"
)

func (p *program) connectionsListCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list connections",
		Description: "Prints the connections that the filter flags allow: where each comes from and goes to, what the translation made " +
			"of that, and which entry of the policy translated it or let it pass. They come as the kernel's table is read, in no " +
			"order, unless they are sorted. The table changes meanwhile: a connection may be missing, or be listed twice.",
		Flags: placeFlags(append(filterFlags(),
			&cli.StringFlag{Name: "sort", Usage: "sort by `ORDER`: bytes, packets, age, timeout (the most first), source, destination or entry"},
			&cli.BoolFlag{Name: "reverse", Usage: "turn the order of --sort round"},
			&cli.IntFlag{Name: "limit", Usage: "list `N` connections at most"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `FORMAT`: table, wide, json or yaml"},
			&cli.BoolFlag{Name: "expected", Usage: "list what helpers have announced, such as the data connections of FTP, and has not come yet"},
			&cli.BoolFlag{Name: "stream", Usage: "print JSON, an object on a line for each connection"},
		)...),
		Action: p.listConnections,
	}
}

func (p *program) listConnections(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	order, err := readOrder(c.String("sort"), c.Bool("reverse"))
	if err != nil {
		return err
	}
	limit := c.Int("limit")
	if c.IsSet("limit") && limit < 1 {
		return usagef("--limit %d: has to be 1 or more", limit)
	}
	format := c.String("output")
	switch {
	case format != "table" && format != "wide" && format != "json" && format != "yaml":
		return usagef("no such output format: %s; there are table, wide, json and yaml", format)
	case c.Bool("stream") && c.IsSet("output") && format != "json":
		return usagef("--stream prints JSON, and --output is %s", format)
	case c.Bool("stream") && order != nil && limit == 0:
		return usagef("--stream holds no table in memory to sort; give --limit too")
	case c.Bool("expected"):
		return p.listExpected(c)
	case c.Bool("stream"):
		format = "stream"
	}
	x, err := p.openConnections(c, true)
	if err != nil {
		return err
	}
	defer x.close()
	list := newFlowList(p.stdout, format, time.Now())
	if order == nil {
		n := 0
		err = x.each(func(f *conntrack.Flow, j *flows.Judgement) bool {
			n++
			return list.print(f, j) && (limit == 0 || n < limit)
		})
	} else {
		first := firsts{order: order, limit: limit}
		err = x.each(func(f *conntrack.Flow, j *flows.Judgement) bool {
			first.add(f, j)
			return true
		})
		for _, f := range first.sorted() {
			list.print(&f.Flow, &f.Judgement)
		}
	}
	if err != nil {
		return err
	}
	if err := list.end(); err != nil {
		return err
	}
	p.explainMissing(list, c.String("sort"))
	return nil
}

// explainMissing says once how to have what is n/a.
func (p *program) explainMissing(list *flowList, sort string) {
	if list.uncounted && (list.table != nil || sort == "bytes" || sort == "packets") {
		p.hintf("packets and bytes are counted of connections that begin with gateway.conntrack.accounting: true in the policy " +
			"(or net.netfilter.nf_conntrack_acct=1)")
	}
	if list.ageless && (list.table != nil || sort == "age") {
		p.hintf("ages are known of connections that begin with net.netfilter.nf_conntrack_timestamp=1")
	}
}

// flowList prints connections in one of the formats, as they come.
type flowList struct {
	w      io.Writer
	format string
	buffer []byte
	n      int
	failed error
	encode flowEncoder
	table  *flowTable // of table and wide
	// uncounted and ageless say that there was a connection that the kernel has
	// no counters or time for.
	uncounted, ageless bool
}

// flushAt is when what is printed is written.
const flushAt = 64 << 10

func newFlowList(w io.Writer, format string, now time.Time) *flowList {
	l := &flowList{w: w, format: format, buffer: make([]byte, 0, flushAt+4096), encode: flowEncoder{now: now}}
	switch format {
	case "table", "wide":
		l.table = newFlowTable(format == "wide", now)
	}
	return l
}

// print adds a connection, and says whether the next one can still be written.
func (l *flowList) print(f *conntrack.Flow, j *flows.Judgement) bool {
	b := l.buffer
	switch l.format {
	case "stream":
		b = append(b, `{"format_version":1,`...)
		b = append(l.encode.fields(b, f, j), "}\n"...)
	case "json":
		if l.n == 0 {
			b = append(b, "{\n  \"format_version\": 1,\n  \"connections\": [\n    "...)
		} else {
			b = append(b, ",\n    "...)
		}
		b = l.encode.append(b, f, j)
	case "yaml":
		if l.n == 0 {
			b = append(b, "format_version: 1\nconnections:\n"...)
		}
		b = l.yaml(b, f, j)
	default:
		b = l.table.append(b, f, j)
	}
	l.n++
	l.uncounted, l.ageless = l.uncounted || !f.Counted, l.ageless || f.Start.IsZero()
	if l.buffer = b; len(b) >= flushAt {
		l.flush()
	}
	return l.failed == nil
}

// yaml adds a connection as an element of a list: the whole list would have to
// be in memory to be turned into YAML at once.
func (l *flowList) yaml(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	text, err := blockYAML(append(l.encode.append([]byte{'['}, f, j), ']'))
	if err != nil {
		l.failed = err
		return b
	}
	for line := range bytes.Lines(text) {
		b = append(append(b, "  "...), line...)
	}
	return b
}

func (l *flowList) flush() {
	if l.failed == nil && len(l.buffer) > 0 {
		_, l.failed = l.w.Write(l.buffer)
	}
	l.buffer = l.buffer[:0]
}

// end prints what stands behind the last connection.
func (l *flowList) end() error {
	switch {
	case l.format == "json" && l.n == 0:
		l.buffer = append(l.buffer, "{\n  \"format_version\": 1,\n  \"connections\": []\n}\n"...)
	case l.format == "json":
		l.buffer = append(l.buffer, "\n  ]\n}\n"...)
	case l.format == "yaml" && l.n == 0:
		l.buffer = append(l.buffer, "format_version: 1\nconnections: []\n"...)
	case l.table != nil:
		l.buffer = l.table.end(l.buffer)
	}
	l.flush()
	return l.failed
}
