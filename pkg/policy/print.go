package policy

import (
	"bufio"
	"io"
	"unicode/utf8"
)

// Print writes each mistake with the line that it is in and a caret under its
// column, and each note the same way. The lines come from sources.
func Print(w io.Writer, errs Errors, sources []Source) {
	out := bufio.NewWriter(w)
	defer out.Flush()
	texts := make(map[string]*lines, len(sources))
	for _, s := range sources {
		texts[s.Name] = &lines{text: s.Text}
	}
	for _, e := range errs {
		printOne(out, e.Place, e.Message, texts)
		for _, n := range e.Notes {
			printOne(out, n.Place, "note: "+n.Message, texts)
		}
	}
}

func printOne(out *bufio.Writer, at Place, message string, texts map[string]*lines) {
	if s := at.String(); s != "" {
		out.WriteString(s + ": ")
	}
	out.WriteString(message + "\n")
	text := texts[at.File]
	if text == nil || at.Line < 1 || at.Line > text.count() {
		return
	}
	line, column := text.line(at.Line), at.Column
	if len(line) == 0 {
		return // a caret under nothing shows nothing
	}
	shown, caret := excerpt(line, column)
	out.WriteString("    " + shown + "\n    " + caret + "^\n")
}

// The widest line that is shown, and how much of that stands before the
// column where it has to be cut.
const (
	widestLine = 120
	leadingCut = 60
)

// excerpt gives the line around a column, and the white space that brings a
// caret below that column: tabs stay tabs, so that both lines are as wide.
func excerpt(line []byte, column int) (shown, caret string) {
	column = min(max(column, 1), len(line)+1)
	from, to := 0, len(line)
	if len(line) > widestLine {
		from = max(0, column-1-leadingCut)
		to = min(len(line), from+widestLine)
		for from > 0 && !utf8.RuneStart(line[from]) {
			from--
		}
		for to < len(line) && !utf8.RuneStart(line[to]) {
			to++
		}
	}
	var text, pad []byte
	if from > 0 {
		text, pad = append(text, "..."...), append(pad, "   "...)
	}
	for i := from; i < to; {
		r, size := utf8.DecodeRune(line[i:])
		mark := byte(' ')
		switch {
		case r == '\t':
			mark = '\t'
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError && size == 1:
			r = '?' // a policy must not be able to send a terminal control sequences
		}
		text = utf8.AppendRune(text, r)
		if i+size <= column-1 {
			pad = append(pad, mark)
		}
		i += size
	}
	if to < len(line) {
		text = append(text, "..."...)
	}
	return string(text), string(pad)
}
