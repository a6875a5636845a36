package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// number decodes a whole number from low to high, which the key's takes names.
func (d *decoder) number(n *node, low, high uint32) (uint32, bool) {
	text, ok := d.text(n)
	if !ok {
		return 0, false
	}
	v, ok := parseUint32(text, 10)
	if !ok || v < low || v > high {
		d.wrongType(deref(n))
		return 0, false
	}
	return v, true
}

// parseUint32 reads digits alone: no sign, no leading zeros, no underscores.
func parseUint32(text string, base int) (uint32, bool) {
	if base == 10 && len(text) > 1 && text[0] == '0' || strings.HasPrefix(text, "+") {
		return 0, false
	}
	v, err := strconv.ParseUint(text, base, 32)
	return uint32(v), err == nil
}

// filled reports a mapping without keys, in a place where that says nothing.
func (d *decoder) filled(n *node, example string) bool {
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		d.failAt(n, fmt.Sprintf("the mapping of `%s` is empty; write %s, or take the key out", d.key, example))
		return false
	}
	return true
}

const limitsTake = "a mapping as {per_host: 100, total: 10000}"

// The kernel holds the number to compare with in 32 bits.
const connectionsTake = "a number of connections, from 1 to 4294967295"

func limitsFields() []field[Limits] {
	return []field[Limits]{
		{key: "per_host", about: "connections of each source address", value: positiveShape,
			takes: connectionsTake, decode: func(d *decoder, n *node, l *Limits) {
				l.PerHost, _ = d.number(n, 1, math.MaxUint32)
			}},
		{key: "total", about: "connections of all together, of both families", value: positiveShape,
			takes: connectionsTake, decode: func(d *decoder, n *node, l *Limits) {
				l.Total, _ = d.number(n, 1, math.MaxUint32)
			}},
	}
}

func maxConnectionsField[T any](of func(*T) *Limits) field[T] {
	return field[T]{key: "max_connections", about: "how many connections may be open at once", value: limitsShape,
		takes: limitsTake, decode: func(d *decoder, n *node, to *T) {
			n = deref(n)
			l := of(to)
			l.Place = d.at(n)
			if d.filled(n, "`per_host`, `total` or both") {
				fields(d, n, limitsFields(), l)
			}
		}}
}
