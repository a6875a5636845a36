package iptables

import (
	"bytes"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// samples are files to be tested: of lines of a table that differ in no more than
// their chain, addresses, ports and comments, one. Those we have written ourselves,
// and a program takes all of a kind or none. What asks for a set that is missing is
// tested without that.
func samples(files []*file, missing map[string]bool) []*file {
	out := make([]*file, len(files))
	for i, f := range files {
		seen := map[string]bool{}
		x := &file{family: f.family, table: f.table}
		var scratch []byte
		for _, l := range f.lines {
			if l.body != nil {
				scratch = shape(scratch[:0], l.body)
				if seen[string(scratch)] {
					continue
				}
				seen[string(scratch)] = true
				l.body = unasked(l.body, missing)
				l.count = plan.Count{}
			}
			x.lines = append(x.lines, l)
		}
		out[i] = x
	}
	return out
}

// shape is a line without addresses, ports and what is in a comment.
func shape(out, text []byte) []byte {
	space := []byte{' '}
	for len(text) > 0 {
		word, rest, _ := bytes.Cut(text, space)
		text = rest
		out = append(append(out, word...), ' ')
		switch string(word) {
		case "-s", "-d", "--sport", "--dport", "--ctorigdstport", "--ctorigsrc", "--ctorigdst", "--ctrepldst":
			_, text, _ = bytes.Cut(text, space)
		case "--to-destination", "--to-source", "--to-ports":
			value, rest, _ := bytes.Cut(text, space)
			text = rest
			// Which parts it has is part of the shape.
			for i := range len(value) {
				if c := value[i]; c == '-' || c == '[' || c == '/' {
					out = append(out, c)
				}
			}
			if bytes.Contains(value, []byte("]:")) || bytes.IndexByte(value, '.') >= 0 && bytes.IndexByte(value, ':') >= 0 {
				out = append(out, ':')
			}
			out = append(out, ' ')
		case "--comment":
			_, rest, _ := bytes.Cut(text, space)
			if bytes.HasPrefix(text, []byte{'"'}) {
				end := bytes.IndexByte(text[1:], '"')
				if end < 0 || bytes.IndexByte(text[:end+1], '\\') >= 0 {
					continue
				}
				rest = bytes.TrimPrefix(text[end+2:], space)
			}
			text = rest
		}
	}
	return out
}

// unasked leaves the match for sets that are missing out of a line.
func unasked(body []byte, missing map[string]bool) []byte {
	text := string(body)
	for _, name := range setsIn(text) {
		if !missing[name] {
			continue
		}
		words := strings.Split(text, " ")
		if i := slices.Index(words, name); i > 0 {
			from := i - 1 // --match-set
			if words[from-1] == "!" {
				from--
			}
			from -= 2 // -m set
			text = strings.Join(slices.Delete(words, from, i+2), " ")
		}
	}
	return []byte(text)
}
