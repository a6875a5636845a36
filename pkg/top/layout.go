package top

import (
	"fmt"
	"slices"
)

// field is a column of the screen.
type field struct {
	title string
	width int // with the gap before it; 0: what is left
	sort  Column
	text  func(s *Sample, r *Row) string
	right bool
	spare int // the higher, the sooner it goes where there is no room; 0: never
}

// nameWidth is what a row's name gets before other columns get anything.
var nameWidth = [views]int{ByHost: 22, ByEntry: 22, ByDestination: 22, ByFlow: 44}

// leastName is what a name gets in any case, if the terminal has so much.
const leastName = 12

// layout chooses the columns of a view for a width. What the rows are sorted by
// goes last, where hardly a name fits.
func layout(v View, width int, sorted Column) []field {
	fields := []field{
		{title: titles[v], sort: Name, text: func(_ *Sample, r *Row) string { return r.Text() }},
		{title: " STATE", width: 13, sort: columns, spare: 9, text: func(_ *Sample, r *Row) string { return " " + r.state() }},
		{title: " ENTRY", width: 24, sort: columns, spare: 6, text: func(_ *Sample, r *Row) string { return " " + r.Entry }},
		number("FLOWS", Flows, 1), number("BIT/S", Rate, 5), number("SENT", Sent, 3), number("RECV", Received, 2),
		number("PKT SENT", PacketsSent, 7), number("PKT RECV", PacketsReceived, 8), number("BYTES", Bytes, 4),
	}
	fields = slices.DeleteFunc(fields, func(f field) bool {
		if v == ByFlow {
			return f.sort == Flows // every flow is one
		}
		return f.sort == columns
	})
	for total(fields)+nameWidth[v] > width {
		i := 0
		for j, f := range fields {
			if f.sort != sorted && f.spare > fields[i].spare {
				i = j
			}
		}
		if i == 0 {
			break
		}
		fields = slices.Delete(fields, i, i+1)
	}
	if total(fields)+leastName > width {
		fields = fields[:1]
	}
	return fields
}

var titles = [views]string{ByHost: "HOST", ByEntry: "ENTRY", ByDestination: "DESTINATION", ByFlow: "FLOW"}

func number(title string, c Column, spare int) field {
	width := 8
	if len(title) == width {
		width++
	}
	return field{title: title, width: width, sort: c, right: true, spare: spare, text: func(s *Sample, r *Row) string {
		switch {
		case c == Flows:
			return fmt.Sprint(r.Flows)
		case !r.Counted:
			return "n/a"
		case c != Bytes && s.Since == 0:
			return "-"
		}
		return short(s.Number(r, c))
	}}
}

func total(fields []field) int {
	n := 0
	for _, f := range fields {
		n += f.width
	}
	return n
}

// arrow shows which way a column is sorted.
func arrow(c Column, reversed bool) string {
	if reversed != (c == Name) {
		return "↑"
	}
	return "↓"
}
