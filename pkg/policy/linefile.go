package policy

import "bytes"

// Set and map files are read line by line, without YAML: they come from other
// programs, and hold up to a million lines. White space separates words, and
// # begins a comment.

// lineReader walks the lines of such a file.
type lineReader struct {
	rest []byte
	line int    // the number of the line in text
	text []byte // the line, without its break and its comment
}

// next moves to the next line that is not blank.
func (r *lineReader) next() bool {
	for len(r.rest) > 0 {
		r.line++
		if i := bytes.IndexByte(r.rest, '\n'); i >= 0 {
			r.text, r.rest = r.rest[:i], r.rest[i+1:]
		} else {
			r.text, r.rest = r.rest, nil
		}
		if i := bytes.IndexByte(r.text, '#'); i >= 0 {
			r.text = r.text[:i]
		}
		for _, c := range r.text {
			if !blank(c) {
				return true
			}
		}
	}
	return false
}

// word gives the first word of the line at or after offset from, and the
// offsets of its beginning and end. It is empty at the end of the line.
func (r *lineReader) word(from int) (word []byte, begin, end int) {
	for from < len(r.text) && blank(r.text[from]) {
		from++
	}
	begin = from
	for from < len(r.text) && !blank(r.text[from]) {
		from++
	}
	return r.text[begin:from], begin, from
}

func blank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r'
}

// quad reads an IPv4 address from the beginning of text, and gives the rest of
// it. What it does not take is not wrong yet: parseAddr decides, and says why.
func quad(text []byte) (n uint32, rest []byte, ok bool) {
	for part := range 4 {
		if part > 0 {
			if len(text) == 0 || text[0] != '.' {
				return 0, nil, false
			}
			text = text[1:]
		}
		value, length := uint32(0), 0
		for length < len(text) && length < 3 {
			c := text[length] - '0'
			if c > 9 {
				break
			}
			value = value*10 + uint32(c)
			length++
		}
		if length == 0 || value > 255 || length > 1 && text[0] == '0' {
			return 0, nil, false
		}
		n = n<<8 | value
		text = text[length:]
	}
	return n, text, true
}

// decimal reads a number of at most five digits without leading zeros from
// the beginning of text.
func decimal(text []byte) (n int, rest []byte, ok bool) {
	length := 0
	for length < len(text) && length < 6 {
		c := text[length] - '0'
		if c > 9 {
			break
		}
		n = n*10 + int(c)
		length++
	}
	if length == 0 || length > 5 || length > 1 && text[0] == '0' {
		return 0, nil, false
	}
	return n, text[length:], true
}
