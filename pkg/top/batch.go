package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Batch prints samples as plain text, one below the other, until there were as
// many as asked for (0: without end) or ctx is done. The first has no rates.
func Batch(ctx context.Context, w io.Writer, o Options, samples int) error {
	s := newSampler(&o)
	want := settings{question: Question{Sort: o.Sort, Reversed: o.Reversed}, interval: o.Interval}
	for i := 0; ; i++ {
		began := time.Now()
		r := s.read(ctx, want.question)
		if ctx.Err() != nil {
			return nil
		}
		if r.err != nil {
			return r.err
		}
		r.took = time.Since(began)
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := r.print(w, &o, want); err != nil {
			return err
		}
		if i == samples-1 {
			return nil
		}
		rest := time.NewTimer(time.Until(began.Add(pace(o.Interval, r.took))))
		select {
		case <-ctx.Done():
			rest.Stop()
			return nil
		case <-rest.C:
		}
	}
}

// print writes a sample as wide as it needs.
func (r *reading) print(w io.Writer, o *Options, want settings) error {
	var b strings.Builder
	h := r.head(o, want)
	for _, line := range []string{h.title, h.fill, h.traffic, r.sample.hint()} {
		if line != "" {
			fmt.Fprintln(&b, line)
		}
	}
	rows, left := r.sample.Rows(o.View, want.question)
	fields := layout(o.View, 1000, o.Sort)
	fields[0].width = utf8.RuneCountInString(fields[0].title)
	for i := range rows {
		fields[0].width = max(fields[0].width, utf8.RuneCountInString(rows[i].Text()))
	}
	line := func(cell func(f *field) string) {
		var l strings.Builder
		for i := range fields {
			f := &fields[i]
			if f.right {
				fmt.Fprintf(&l, "%*s", f.width, cell(f))
			} else {
				fmt.Fprintf(&l, "%-*s", f.width, cell(f))
			}
		}
		fmt.Fprintln(&b, strings.TrimRight(l.String(), " "))
	}
	line(func(f *field) string { return f.title })
	for i := range rows {
		line(func(f *field) string { return f.text(r.sample, &rows[i]) })
	}
	if left > 0 {
		fmt.Fprintf(&b, "and %d more flows\n", left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
