package main

import (
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// logTime is a time as the log has it: UTC, to the millisecond.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// logColumn is a column of the log. Nothing is measured: a line is printed at
// once, and one that is wider moves the rest of itself.
type logColumn struct {
	name  string
	width int
}

func logColumns(wide bool) []logColumn {
	columns := []logColumn{{"TIME", 24}, {"EVENT", 14}, {"PROTOCOL", 8}, {"SOURCE", 20}, {"DESTINATION", 20}, {"TRANSLATED", 26},
		{"ENTRY", 24}, {"FROM", 8}, {"TO", 8}, {"DURATION", 8}}
	if !wide {
		return append(columns, logColumn{"PACKETS", 7}, logColumn{"BYTES", 0})
	}
	return append(columns, logColumn{"SENT", 7}, logColumn{"SENT BYTES", 10}, logColumn{"RECEIVED", 8}, logColumn{"RECEIVED BYTES", 14},
		logColumn{"STATE", 11}, logColumn{"MARK", 10}, logColumn{"ID", 0})
}

// heading prints the names of the columns, where there are some.
func (l *flowLog) heading() {
	if l.table == nil {
		return
	}
	l.table.rows = nil
	l.table.widths = l.table.widths[:0]
	l.table.row.reset()
	for _, c := range logColumns(l.table.wide) {
		l.table.widths = append(l.table.widths, c.width)
		l.table.row.add(c.name)
	}
	l.buffer = l.table.line(l.buffer, &l.table.row)
	l.flush()
}

func eventWord(e *conntrack.Event) string {
	switch e.Kind {
	case conntrack.EventNew:
		return "new"
	case conntrack.EventUpdate:
		return "update"
	case conntrack.EventDestroy:
		return "destroy"
	case conntrack.EventOpen:
		return "open"
	case conntrack.EventLost:
		return "lost"
	case conntrack.EventResync:
		return "resync"
	}
	return "begin"
}

// lasted is how long a connection that has ended did, if that is known.
func lasted(e *conntrack.Event) (time.Duration, bool) {
	if e.Kind != conntrack.EventDestroy || e.Compared || e.Began.IsZero() {
		return 0, false
	}
	end := e.Time
	if !e.Flow.Stop.IsZero() && !e.Flow.Start.IsZero() {
		end = e.Flow.Stop
	}
	return max(0, end.Sub(e.Began)), true
}

// write prints what happened to a connection.
func (l *flowLog) write(e *conntrack.Event, j *flows.Judgement) {
	if l.table == nil {
		l.object(e, j)
		return
	}
	f, r := &e.Flow, &l.table.row
	r.reset()
	r.text = e.Time.AppendFormat(r.text, logTime)
	r.cell()
	r.text = append(r.text, eventWord(e)...)
	if e.Compared {
		r.text = append(r.text, "/resync"...)
	}
	r.cell()
	r.text = appendProtocol(r.text, f.Protocol)
	r.cell()
	r.text = appendEnd(r.text, f.Original.Source, f.Original.SourcePort)
	r.cell()
	r.text = appendEnd(r.text, f.Original.Destination, f.Original.DestinationPort)
	r.cell()
	r.text = appendTranslated(r.text, f)
	r.cell()
	r.add(j.Origin.Entry)
	r.add(j.From)
	r.add(j.To)
	if d, known := lasted(e); known {
		r.text = appendDuration(r.text, d)
	}
	r.cell()
	l.amounts(e)
	if l.table.wide {
		l.details(e)
	}
	l.buffer = l.table.line(l.buffer, r)
}

// amounts adds what a connection carried: the kernel tells that at its end.
func (l *flowLog) amounts(e *conntrack.Event) {
	f, r := &e.Flow, &l.table.row
	exact := func(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
	sums := []uint64{f.Sent.Packets + f.Received.Packets, f.Sent.Bytes + f.Received.Bytes}
	if l.table.wide {
		sums = []uint64{f.Sent.Packets, f.Sent.Bytes, f.Received.Packets, f.Received.Bytes}
	}
	if e.Kind == conntrack.EventDestroy && !e.Compared || f.Counted {
		l.uncounted = l.uncounted || !f.Counted
		l.table.amounts(r, f.Counted, exact, sums...)
		return
	}
	for range sums {
		r.cell()
	}
}

func (l *flowLog) details(e *conntrack.Event) {
	r := &l.table.row
	if e.Kind == conntrack.EventDestroy && e.Compared {
		r.cell()
		r.cell()
	} else {
		r.add(e.Flow.Stage())
		r.text = strconv.AppendUint(append(r.text, "0x"...), uint64(e.Flow.Mark), 16)
		r.cell()
	}
	r.text = strconv.AppendUint(r.text, uint64(e.Flow.ID), 10)
	r.cell()
}

// object prints it as JSON.
func (l *flowLog) object(e *conntrack.Event, j *flows.Judgement) {
	b := l.open(e)
	if e.Compared {
		b = append(b, `,"resync":true`...)
	}
	if !e.Began.IsZero() {
		b = append(e.Began.UTC().AppendFormat(append(b, `,"began":"`...), logTime), '"')
	}
	if d, known := lasted(e); known {
		b = strconv.AppendFloat(append(b, `,"duration":`...), float64(d.Milliseconds())/1000, 'f', 3, 64)
	}
	l.encode.now = e.Time
	l.encode.ended, l.encode.bare = e.Kind == conntrack.EventDestroy, e.Compared && e.Kind == conntrack.EventDestroy
	b = l.encode.fields(append(b, ','), &e.Flow, j)
	l.buffer = append(b, "}\n"...)
}

// open begins an object.
func (l *flowLog) open(e *conntrack.Event) []byte {
	b := append(append(l.buffer, `{"format_version":1,"event":"`...), eventWord(e)...)
	return append(e.Time.AppendFormat(append(b, `","time":"`...), logTime), '"')
}

// note prints what befell the watch itself.
func (l *flowLog) note(e *conntrack.Event) {
	if l.table == nil {
		l.noteObject(e)
		return
	}
	b := append(append(e.Time.AppendFormat(l.buffer, logTime), "  "...), eventWord(e)...)
	for range logColumns(false)[1].width - len(eventWord(e)) + 2 {
		b = append(b, ' ')
	}
	switch e.Kind {
	case conntrack.EventBegin:
		b = append(b, counted(e.Open, "connection is", "connections are")...)
		b = append(b, " open"...)
	case conntrack.EventLost:
		b = append(append(b, lostMessages(e.Gap.Messages)...), " lost between "...)
		b = e.Gap.From.AppendFormat(b, logTime)
		b = e.Gap.To.AppendFormat(append(b, " and "...), logTime)
	case conntrack.EventResync:
		b = append(append(b, lostMessages(e.Resync.Messages)...), " made good: "...)
		b = append(append(b, counted(e.Resync.Began, "connection", "connections")...), " began and "...)
		b = strconv.AppendInt(b, int64(e.Resync.Ended), 10)
		b = append(b, " ended without a word; those that began and ended between "...)
		b = e.Resync.From.AppendFormat(b, logTime)
		b = e.Resync.To.AppendFormat(append(b, " and "...), logTime)
		b = append(b, " are not known"...)
	}
	l.buffer = append(b, '\n')
}

func lostMessages(n uint64) string {
	if n == 0 {
		return "messages of the kernel, it does not say how many,"
	}
	return counted(int(n), "message of the kernel", "messages of the kernel")
}

func (l *flowLog) noteObject(e *conntrack.Event) {
	b := l.open(e)
	gap := func(messages uint64, from, to time.Time) {
		b = strconv.AppendUint(append(b, `,"messages":`...), messages, 10)
		b = from.AppendFormat(append(b, `,"since":"`...), logTime)
		b = to.AppendFormat(append(b, `","until":"`...), logTime)
		b = append(b, '"')
	}
	switch e.Kind {
	case conntrack.EventBegin:
		b = strconv.AppendInt(append(b, `,"open":`...), int64(e.Open), 10)
	case conntrack.EventLost:
		gap(e.Gap.Messages, e.Gap.From, e.Gap.To)
	case conntrack.EventResync:
		gap(e.Resync.Messages, e.Resync.From, e.Resync.To)
		b = strconv.AppendInt(append(b, `,"new":`...), int64(e.Resync.Began), 10)
		b = strconv.AppendInt(append(b, `,"destroyed":`...), int64(e.Resync.Ended), 10)
	}
	l.buffer = append(b, "}\n"...)
}

// end prints that the log ends here, and not what it would have held.
func (l *flowLog) end() error {
	now := time.Now().UTC()
	if l.table == nil {
		b := append(l.buffer, `{"format_version":1,"event":"end","time":"`...)
		l.buffer = append(now.AppendFormat(b, logTime), "\"}\n"...)
	} else {
		l.buffer = append(now.AppendFormat(l.buffer, logTime), "  end\n"...)
	}
	l.flush()
	return l.failed
}
