package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is what the runs of a peer gave.
type row struct {
	peer string
	rate int // that was asked for
	runs []*measured
}

// columns are those of the table, each with what it shows of a run.
func columns() []column {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return []column{
		{"of an open flow lost", func(m *measured) float64 { return float64(m.reloads.lost) }},
		{"of", func(m *measured) float64 { return float64(m.reloads.sent) }},
		{"longest gap, ms", func(m *measured) float64 { return ms(m.reloads.gap) }},
		{"left untranslated", func(m *measured) float64 { return float64(m.reloads.leaked) }},
		{"forbidden, passed", func(m *measured) float64 { return float64(m.reloads.passed) }},
		{"first of a flow, lost", func(m *measured) float64 { return float64(m.reloads.freshLost) }},
		{"connections late", func(m *measured) float64 { return float64(m.reloads.late) }},
		{"failed", func(m *measured) float64 { return float64(m.reloads.failed) }},
		{"of", func(m *measured) float64 { return float64(m.reloads.dialed) }},
		{"transfer cut", func(m *measured) float64 { return float64(m.reloads.cut) }},
		{"longest stall, ms", func(m *measured) float64 { return ms(m.reloads.stall) }},
		{"without reloads", func(m *measured) float64 { return ms(m.calm.stall) }},
		{"a reload, ms", func(m *measured) float64 { return ms(m.median()) }},
	}
}

type column struct {
	name string
	of   func(*measured) float64
}

// header is the head of the table, as documents have it.
func header() string {
	names := []string{"reload by"}
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return fmt.Sprintf("| %s |\n|---|%s", strings.Join(names, " | "), strings.Repeat("--:|", len(names)-1))
}

// String is the row of the table.
func (r row) String() string {
	cells := []string{r.label()}
	for _, c := range columns() {
		cells = append(cells, cell(r.runs, c))
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

// label says what there is to say about the runs.
func (r row) label() string {
	label, slowest := r.peer, r.rate
	for _, m := range r.runs {
		slowest = min(slowest, m.calm.rate)
	}
	if slowest < r.rate {
		label += fmt.Sprintf(", at %d packets/s", slowest)
	}
	if r.doubtful() {
		label += " *"
	}
	return label
}

// doubtful reports whether the machine itself lost packets in a run.
func (r row) doubtful() bool {
	return slices.ContainsFunc(r.runs, func(m *measured) bool { return !m.reliable() })
}

// cell is one number, or the least and the most of several runs.
func cell(runs []*measured, c column) string {
	least, most := c.of(runs[0]), c.of(runs[0])
	for _, m := range runs[1:] {
		least, most = min(least, c.of(m)), max(most, c.of(m))
	}
	if from, to := fmt.Sprintf("%.0f", least), fmt.Sprintf("%.0f", most); from != to {
		return from + " to " + to
	}
	return fmt.Sprintf("%.0f", most)
}
