package top

import (
	"slices"
	"strings"
)

// Rows are the rows of a view that hold a text, in order. Left is how many more
// flows there are, for which there was no room.
func (s *Sample) Rows(v View, q Question) (rows []Row, left int) {
	word := strings.ToLower(q.Text)
	rows = slices.Clone(s.rows[v])
	if word != "" {
		rows = slices.DeleteFunc(rows, func(r Row) bool { return !r.contains(word) })
	}
	o := order{q.Sort, q.Reversed}
	slices.SortFunc(rows, func(a, b Row) int { return o.compare(&a, &b) })
	if v == ByFlow && len(s.rows[v]) == maxFlowRows {
		left = s.Flows - maxFlowRows
	}
	return rows, left
}

// Known says whether there are rates: not in the first sample, and not where
// the kernel counts for no flow.
func (s *Sample) Known(r *Row) bool { return s.Since > 0 && r.Counted }

// Number is what stands in a column: bits and packets a second, bytes, flows.
func (s *Sample) Number(r *Row, c Column) float64 {
	n := float64(r.number(c))
	switch c {
	case Rate, Sent, Received:
		n *= 8
	case Bytes, Flows, Name:
		return n
	}
	return n / s.Since.Seconds()
}
