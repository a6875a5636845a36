package iptables

import (
	"slices"
	"strings"
)

// samples are files to be tested: of lines that differ in no more than addresses,
// ports and comments, one. Those we have written ourselves, and a program takes
// all of a kind or none. What asks for a set that is missing is tested without
// that.
func samples(files []*file, missing map[string]bool) []*file {
	out := make([]*file, len(files))
	for i, f := range files {
		seen := map[string]bool{}
		x := &file{family: f.family, table: f.table}
		var scratch []byte
		for _, l := range f.lines {
			if strings.HasPrefix(l.text, "-A ") {
				scratch = shape(scratch[:0], l.text)
				if seen[string(scratch)] {
					continue
				}
				seen[string(scratch)] = true
				l.text = unasked(l.text, missing)
				l.count = nil
			}
			x.lines = append(x.lines, l)
		}
		out[i] = x
	}
	return out
}

// shape is a line without addresses, ports and what is in a comment.
func shape(out []byte, text string) []byte {
	for text != "" {
		word, rest, _ := strings.Cut(text, " ")
		text = rest
		out = append(append(out, word...), ' ')
		switch word {
		case "-s", "-d", "--sport", "--dport", "--ctorigdstport", "--ctorigsrc", "--ctorigdst", "--ctrepldst":
			_, text, _ = strings.Cut(text, " ")
		case "--to-destination", "--to-source", "--to-ports":
			value, rest, _ := strings.Cut(text, " ")
			text = rest
			// Which parts it has is part of the shape.
			for i := range len(value) {
				if c := value[i]; c == '-' || c == '[' || c == '/' {
					out = append(out, c)
				}
			}
			if strings.Contains(value, "]:") || strings.Contains(value, ".") && strings.Contains(value, ":") {
				out = append(out, ':')
			}
			out = append(out, ' ')
		case "--comment":
			value, rest, _ := strings.Cut(text, " ")
			if strings.HasPrefix(text, `"`) {
				end := strings.IndexByte(text[1:], '"')
				if end < 0 || strings.Contains(text[:end+1], `\`) {
					continue
				}
				value, rest = text[:end+2], strings.TrimPrefix(text[end+2:], " ")
			}
			_, text = value, rest
		}
	}
	return out
}

// unasked leaves the match for sets that are missing out of a line.
func unasked(text string, missing map[string]bool) string {
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
	return text
}
