package main

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/top"
)

// measured is how many connections the widths of the columns are taken from. A
// table of connections may have a million rows, so that it is not held to be
// measured: what comes later and is wider moves the rest of its line.
const measured = 200

// flowTable prints connections below each other.
type flowTable struct {
	wide bool
	now  time.Time
	// rows are the first ones, and the heading; nil once they are printed.
	rows   []flowRow
	widths []int
	row    flowRow
}

// flowRow is a line: text, and where each cell ends in it.
type flowRow struct {
	text []byte
	ends []int
}

func (r *flowRow) reset() { r.text, r.ends = r.text[:0], r.ends[:0] }

// cell ends a cell, which has to have something.
func (r *flowRow) cell() {
	begin := 0
	if n := len(r.ends); n > 0 {
		begin = r.ends[n-1]
	}
	if len(r.text) == begin {
		r.text = append(r.text, '-')
	}
	r.ends = append(r.ends, len(r.text))
}

func (r *flowRow) add(text string) {
	r.text = append(r.text, text...)
	r.cell()
}

func newFlowTable(wide bool, now time.Time) *flowTable {
	t := &flowTable{wide: wide, now: now, rows: make([]flowRow, 0, measured+1)}
	heading := []string{"PROTOCOL", "STATE", "SOURCE", "DESTINATION", "TRANSLATED", "ENTRY", "AGE", "TIMEOUT", "PACKETS", "BYTES"}
	if wide {
		heading = []string{"PROTOCOL", "STATE", "SOURCE", "DESTINATION", "TRANSLATED", "ENTRY", "FROM", "TO", "AGE", "TIMEOUT",
			"SENT", "SENT BYTES", "RECEIVED", "RECEIVED BYTES", "MARK", "ID", "HELPER", "STATUS"}
	}
	var r flowRow
	for _, h := range heading {
		r.add(h)
	}
	t.rows, t.widths = append(t.rows, r), make([]int, len(heading))
	return t
}

// append adds what can be printed now that there is one more connection.
func (t *flowTable) append(b []byte, f *conntrack.Flow, j *flows.Judgement) []byte {
	t.row.reset()
	t.fill(&t.row, f, j)
	if t.rows == nil {
		return t.line(b, &t.row)
	}
	t.rows, t.row = append(t.rows, t.row), flowRow{}
	if len(t.rows) <= measured {
		return b
	}
	return t.end(b)
}

// end adds what is not printed yet.
func (t *flowTable) end(b []byte) []byte {
	for i := range t.rows {
		begin := 0
		for column, end := range t.rows[i].ends {
			if n := utf8.RuneCount(t.rows[i].text[begin:end]); n <= widest {
				t.widths[column] = max(t.widths[column], n)
			}
			begin = end
		}
	}
	for i := range t.rows {
		b = t.line(b, &t.rows[i])
	}
	t.rows = nil
	return b
}

func (t *flowTable) line(b []byte, r *flowRow) []byte {
	begin := 0
	for column, end := range r.ends {
		text := r.text[begin:end]
		b = append(b, text...)
		begin = end
		if column == len(r.ends)-1 {
			break
		}
		for range max(t.widths[column]-utf8.RuneCount(text), 0) + 2 {
			b = append(b, ' ')
		}
	}
	return append(b, '\n')
}

func (t *flowTable) fill(r *flowRow, f *conntrack.Flow, j *flows.Judgement) {
	r.text = appendProtocol(r.text, f.Protocol)
	r.cell()
	r.add(f.Stage())
	r.text = appendEnd(r.text, f.Original.Source, f.Original.SourcePort)
	r.cell()
	r.text = appendEnd(r.text, f.Original.Destination, f.Original.DestinationPort)
	r.cell()
	r.text = appendTranslated(r.text, f)
	r.cell()
	r.add(j.Origin.Entry)
	if t.wide {
		r.add(j.From)
		r.add(j.To)
	}
	if f.Start.IsZero() {
		r.add("n/a")
	} else {
		r.text = appendDuration(r.text, age(f, t.now))
		r.cell()
	}
	r.text = appendDuration(r.text, f.Timeout)
	r.cell()
	if !t.wide {
		t.amounts(r, f.Counted, top.AppendAmount, f.Sent.Packets+f.Received.Packets, f.Sent.Bytes+f.Received.Bytes)
		return
	}
	exact := func(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
	t.amounts(r, f.Counted, exact, f.Sent.Packets, f.Sent.Bytes, f.Received.Packets, f.Received.Bytes)
	r.text = strconv.AppendUint(append(r.text, "0x"...), uint64(f.Mark), 16)
	r.cell()
	r.text = strconv.AppendUint(r.text, uint64(f.ID), 10)
	r.cell()
	r.add(f.Helper)
	r.text = appendStatus(r.text, f.Status, "", ",")
	r.cell()
}

func (t *flowTable) amounts(r *flowRow, counted bool, write func([]byte, uint64) []byte, amounts ...uint64) {
	for _, n := range amounts {
		if counted {
			r.text = write(r.text, n)
			r.cell()
		} else {
			r.add("n/a")
		}
	}
}

func appendEnd(b []byte, a netip.Addr, port uint16) []byte {
	if port == 0 {
		return appendAddr(b, a)
	}
	return netip.AddrPortFrom(a, port).AppendTo(b)
}

// appendTranslated adds only what the translation changed.
func appendTranslated(b []byte, f *conntrack.Flow) []byte {
	arrow := "-> "
	change := func(word string, before, after netip.Addr, portBefore, portAfter uint16) {
		if before == after && portBefore == portAfter {
			return
		}
		b = append(append(b, arrow...), word...)
		if arrow = " "; portBefore == portAfter {
			portAfter = 0
		}
		b = appendEnd(b, after, portAfter)
	}
	change("from ", f.Original.Source, f.Reply.Destination, f.Original.SourcePort, f.Reply.DestinationPort)
	change("to ", f.Original.Destination, f.Reply.Source, f.Original.DestinationPort, f.Reply.SourcePort)
	return b
}
