package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// table prints rows as they come.
type table struct{ *tabwriter.Writer }

func newTable(title string, columns ...string) *table {
	fmt.Printf("\n%s\n", title)
	t := &table{tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)}
	for i, c := range columns {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, c)
	}
	fmt.Fprintln(t)
	return t
}

func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, c)
	}
	fmt.Fprintln(t)
}

// sample is one measurement of each round.
type sample []float64

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Clone(s)
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// over is the median of the ratios of each round: what is slow for both in a
// round does not count.
func (s sample) over(base sample) float64 {
	var r sample
	for i := range s {
		if i < len(base) && base[i] > 0 {
			r = append(r, s[i]/base[i])
		}
	}
	return r.median()
}

// target tells a ratio, the target, and whether it was met.
func target(ratio, limit float64) string {
	verdict := "met"
	if ratio > limit {
		verdict = "MISSED"
	}
	return fmt.Sprintf("x%.2f (target x%.2f: %s)", ratio, limit, verdict)
}

func ms(v float64) string {
	switch {
	case v < 1:
		return fmt.Sprintf("%.3f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

func ns(v float64) string { return fmt.Sprintf("%.0f ns", v) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
