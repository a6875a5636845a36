package top

import (
	"fmt"
	"strings"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
)

// The looks of things. Without colours the attributes are left.
var (
	plain     = tcell.StyleDefault
	titleLine = plain.Reverse(true)
	sortedBy  = titleLine.Bold(true)
	chosen    = plain.Reverse(true).Bold(true)
	warning   = plain.Foreground(color.Yellow).Bold(true)
	question  = plain.Foreground(color.Red).Bold(true)
	quiet     = plain.Dim(true)
)

// draw draws everything; the library sends what is different.
func (v *screen) draw() {
	v.terminal.Clear()
	v.terminal.HideCursor()
	width, height := v.terminal.Size()
	if v.reading == nil {
		v.put(0, 0, width, "ipmasq connections: reading ...", plain)
		v.last(width, height)
		v.terminal.Show()
		return
	}
	y := v.drawHead(width, height)
	if v.mode == helping {
		for i, line := range help {
			if y+i < height-1 {
				v.put(0, y+i, width, line, plain)
			}
		}
	} else {
		v.drawRows(y, width, height)
	}
	v.last(width, height)
	v.terminal.Show()
}

// drawHead leaves room for some rows, however low the terminal is.
func (v *screen) drawHead(width, height int) (next int) {
	h := v.reading.head(v.o, v.settings)
	fill := plain
	if h.nearlyFull {
		fill = warning
	}
	for _, line := range []struct {
		text  string
		style tcell.Style
	}{{h.title, plain.Bold(true)}, {h.fill, fill}, {h.traffic, plain}, {v.reading.sample.hint(), warning}} {
		if line.text != "" && next < height-5 {
			v.put(0, next, width, line.text, line.style)
			next++
		}
	}
	return next
}

func (v *screen) drawRows(y, width, height int) {
	q := v.settings.question
	fields := layout(v.view, width, q.Sort)
	fields[0].width = max(0, width-total(fields))
	x := 0
	for _, f := range fields {
		style, title := titleLine, f.title
		if f.sort == q.Sort {
			style, title = sortedBy, title+arrow(q.Sort, q.Reversed)
		}
		v.cell(x, y, f, title, style)
		x += f.width
	}
	v.height = max(0, height-y-2)
	v.first = max(0, min(v.first, v.selected, len(v.rows)-v.height))
	if v.selected >= v.first+v.height {
		v.first = v.selected - v.height + 1
	}
	for i := 0; i < v.height && v.first+i < len(v.rows); i++ {
		r := &v.rows[v.first+i]
		style := plain
		if v.first+i == v.selected {
			style = chosen
		}
		x := 0
		for _, f := range fields {
			text := f.text(v.reading.sample, r)
			if f.sort == Name && r.Flow != nil && len(text) > f.width {
				text, _, _ = strings.Cut(text, " -> ") // half a translation helps nobody
			}
			v.cell(x, y+1+i, f, text, style)
			x += f.width
		}
	}
	if len(v.rows) == 0 && v.height > 0 {
		text := "no flows"
		if q.Text != "" {
			text = "no row holds " + fmt.Sprintf("%q", q.Text)
		}
		v.put(0, y+1, width, text, quiet)
	}
}

// last is the last line: what is asked, typed or told, or the keys.
func (v *screen) last(width, height int) {
	y := height - 1
	text, style := keysLine(width), quiet
	switch {
	case v.mode == filtering:
		end := v.put(0, y, width-1, "filter: "+v.text, plain.Bold(true))
		v.terminal.ShowCursor(end, y)
		return
	case v.mode == asking:
		text, style = "y/n? kill "+flowsOf(v.victim.Flows, &v.victim), question
	case v.mode == helping:
		text = "any key goes back"
	case v.message != "":
		text, style = v.message, plain.Bold(true)
	case v.left > 0:
		text = fmt.Sprintf("the first %d of %d flows   %s", maxFlowRows, maxFlowRows+v.left, text)
	}
	v.put(0, y, width, text, style)
}

// cell writes what stands in a column: a number at its right end.
func (v *screen) cell(x, y int, f field, text string, style tcell.Style) {
	for i := range f.width {
		v.terminal.Put(x+i, y, " ", style)
	}
	if f.right {
		x += max(1, f.width-len([]rune(text)))
		v.put(x, y, f.width-1, text, style)
		return
	}
	v.put(x, y, f.width, shortened(text, f.width), style)
}

// shortened shows where a text goes on: half a port is another port.
func shortened(text string, width int) string {
	if letters := []rune(text); len(letters) > width && width > 0 {
		return string(letters[:width-1]) + "…"
	}
	return text
}

// put writes a text, at most so wide, and says where it ended. A character that
// is two cells wide is not cut in half.
func (v *screen) put(x, y, width int, text string, style tcell.Style) int {
	end := x + width
	for text != "" && x < end {
		rest, n := v.terminal.Put(x, y, text, style)
		if x+n > end {
			v.terminal.Put(x, y, " ", style)
			break
		}
		if rest == text {
			break
		}
		text = rest
		x += n
	}
	return x
}
