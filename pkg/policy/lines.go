package policy

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// lines finds lines in a text. The index is made when it is first needed,
// which for most texts is never.
type lines struct {
	text   []byte
	starts []int
	ascii  int8 // 0: not looked at yet, 1: all ASCII, -1: not

	// Where column came to last. Places are asked for from left to right, and
	// a line may be as long as the file.
	last struct{ line, character, at int }
}

func (l *lines) index() {
	if l.starts != nil {
		return
	}
	l.starts = make([]int, 1, bytes.Count(l.text, []byte{'\n'})+1)
	for i, c := range l.text {
		if c == '\n' {
			l.starts = append(l.starts, i+1)
		}
	}
}

// count is the number of lines; what follows the last line break is one.
func (l *lines) count() int {
	l.index()
	return len(l.starts)
}

// line gives line n, counted from 1, without its line break.
func (l *lines) line(n int) []byte {
	l.index()
	if n < 1 || n > len(l.starts) {
		return nil
	}
	end := len(l.text)
	if n < len(l.starts) {
		end = l.starts[n] - 1
	}
	return bytes.TrimSuffix(l.text[l.starts[n-1]:end], []byte{'\r'})
}

// column turns a column that counts characters, as the YAML library's do, to
// one that counts bytes.
func (l *lines) column(line, characters int) int {
	if l.ascii == 0 {
		l.ascii = 1
		for _, c := range l.text {
			if c >= utf8.RuneSelf {
				l.ascii = -1
				break
			}
		}
	}
	if l.ascii == 1 {
		return characters
	}
	text := l.line(line)
	from := &l.last
	if from.line != line || from.character > characters {
		from.line, from.character, from.at = line, 1, 0
	}
	for from.character < characters && from.at < len(text) {
		_, size := utf8.DecodeRune(text[from.at:])
		from.at += size
		from.character++
	}
	return from.at + 1
}

// clamp brings a place inside the text.
func (l *lines) clamp(p *Place) {
	if l == nil {
		return
	}
	p.Line = min(max(p.Line, 1), l.count())
	p.Column = min(max(p.Column, 1), len(l.line(p.Line))+1)
}

func withoutBOM(text []byte) []byte {
	return bytes.TrimPrefix(text, []byte("\uFEFF"))
}

// checkText finds what is no text for YAML, or what the YAML library and an
// editor would count as different lines. It gives false where parsing on
// makes no sense.
func (d *decoder) checkText() bool {
	text := d.lines.text
	line, start := 1, 0
	indent := true // still in the white space that a line begins with
	tabs, firstTab := 0, Place{}
	at := func(i int) Place { return Place{d.file, line, i - start + 1} }
	for i := 0; i < len(text); {
		c := text[i]
		size := 1
		switch {
		case c == '\n':
			line, start, indent = line+1, i+1, true
			i++
			continue
		case c == '\t':
			if indent {
				if tabs++; tabs == 1 {
					firstTab = at(i)
				}
				indent = false
			}
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case c == '\r':
			d.fail(at(i), "a carriage return alone does not end a line; save the file with Unix line ends")
			return false
		case c == 0:
			d.fail(at(i), "a NUL byte: this is not a text file; save the policy as UTF-8 text")
			return false
		case c < ' ' || c == 0x7f:
			d.fail(at(i), fmt.Sprintf("the control character U+%04X has no place in a policy; take it out", c))
			return false
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRune(text[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				d.fail(at(i), fmt.Sprintf("the byte 0x%02X is not UTF-8; save the file as UTF-8", c))
				return false
			case r == 0x2028 || r == 0x2029 || r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff:
				d.fail(at(i), fmt.Sprintf("the invisible character U+%04X has no place in a policy; take it out", r))
				return false
			}
		}
		if c != ' ' {
			indent = false
		}
		i += size
	}
	if tabs == 0 {
		return true
	}
	message := "a tab indents this line; YAML takes spaces only"
	if tabs > 1 {
		message = fmt.Sprintf("a tab indents this line and %d further; YAML takes spaces only", tabs-1)
	}
	d.fail(firstTab, message)
	return false
}
