package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// columns are lines whose cells stand below each other. The first cell may
// have a colour, which takes no room.
type columns struct{ rows []row }

type row struct {
	colour string
	cells  []string
}

// widest bounds a column: a cell that is longer moves the rest of its line, and
// not that of all lines.
const widest = 48

func (t *columns) add(colour string, cells ...string) {
	t.rows = append(t.rows, row{colour, cells})
}

func (t *columns) print(p *program, c *cli.Context, w io.Writer) {
	var widths []int
	for _, r := range t.rows {
		for i, cell := range r.cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if n := utf8.RuneCountInString(cell); n <= widest {
				widths[i] = max(widths[i], n)
			}
		}
	}
	for _, r := range t.rows {
		var line strings.Builder
		for i, cell := range r.cells {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		text := strings.TrimRight(line.String(), " ")
		if first := r.cells[0]; r.colour != "" {
			text = p.colour(c, r.colour, first) + text[len(first):]
		}
		fmt.Fprintln(w, text)
	}
}
