package policy

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// setLines reads a set file: an address, a prefix or a range on each line.
func (d *decoder) setLines(file Source) []Address {
	r := lineReader{rest: file.Text}
	var all ranges
	all.v4 = make([]range4, 0, bytes.Count(file.Text, []byte{'\n'})+1)
	for r.next() {
		word, begin, end := r.word(0)
		extra, extraBegin, _ := r.word(end)
		if len(extra) > 0 {
			d.fail(Place{file.Name, r.line, extraBegin + 1},
				fmt.Sprintf("%s is one word too many; write one address a line", quote(string(extra))))
			continue
		}
		if low, high, ok := range4Of(word); ok {
			all.v4 = append(all.v4, range4{low, high, uint32(r.line), uint32(begin + 1)})
			continue
		}
		low, high, problem := parseSetLine(string(word))
		if problem != "" {
			d.fail(Place{file.Name, r.line, begin + 1}, problem)
			continue
		}
		all.add(low, high, r.line, begin+1)
	}
	return all.merged(file.Name)
}

// range4Of reads the IPv4 forms that nearly every line has: an address, a
// prefix, a range.
func range4Of(word []byte) (low, high uint32, ok bool) {
	low, rest, ok := quad(word)
	switch {
	case !ok:
		return 0, 0, false
	case len(rest) == 0:
		return low, low, true
	case rest[0] == '/':
		bits, rest, ok := decimal(rest[1:])
		if !ok || len(rest) > 0 || bits > 32 {
			return 0, 0, false
		}
		host := uint32(1<<(32-bits) - 1)
		return low, low | host, low&host == 0
	case rest[0] == '-':
		high, rest, ok := quad(rest[1:])
		return low, high, ok && len(rest) == 0 && low <= high
	}
	return 0, 0, false
}

// parseSetLine reads what range4Of does not take.
func parseSetLine(word string) (low, high netip.Addr, problem string) {
	if strings.HasPrefix(word, "@") {
		return low, high, "a set cannot hold another set; list its addresses here"
	}
	return parseRange(word)
}
