package policy

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

const rateTakes = "a rate as 10/second, or a mapping as {limit: 5/minute, burst: 5, per: source}"

// defaultBurst is how many may come at once where a policy does not say.
const defaultBurst = 5

// mostCounted bounds the count of a rate: the kernel divides its time by it, in
// nanoseconds, and one second has so many.
const mostCounted = 1_000_000_000

func rateFields() []field[Rate] {
	return []field[Rate]{
		{key: "limit", about: "so many per second, minute, hour or day", value: rateTextShape, must: true,
			takes: "a rate as 5/minute", decode: (*decoder).rateLimit},
		{key: "burst", about: "how many may come at once", value: positiveShape, preset: defaultBurst,
			takes: "a number from 1 to 4294967295", decode: func(d *decoder, n *node, r *Rate) {
				if v, ok := d.number(n, 1, math.MaxUint32); ok {
					r.Burst = v
				}
			}},
		{key: "per", about: "each source address has a rate of its own. Left out: all together", value: perShape,
			takes: "the word source, and is left out where the rate is that of all together", decode: func(d *decoder, n *node, r *Rate) {
				r.PerSource = word(d, n, ratePers(), []bool{true})
			}},
	}
}

func ratePers() []string { return []string{"source"} }

func rateUnits() []string { return []string{"second", "minute", "hour", "day"} }

// rate decodes 10/second, or the mapping. The rate that it gives has a count of
// 0 where there is a mistake in it.
func (d *decoder) rate(n *node) Rate {
	n = deref(n)
	r := Rate{Place: d.at(n), Burst: defaultBurst}
	if n.Kind != yaml.MappingNode {
		d.rateLimit(n, &r)
		return r
	}
	table := rateFields()
	w, ok := fields(d, n, table, &r)
	if ok {
		requireAll(w, "a rate", table)
	}
	if r.Count == 0 {
		return r
	}
	// The kernel keeps the time of a whole burst in 64 bits of nanoseconds.
	each := uint64(r.Per) / uint64(r.Count)
	if over, _ := bits.Mul64(each, uint64(r.Burst)); over > 0 {
		d.fail(w.place("burst"), fmt.Sprintf("the burst is more than the kernel can count at this rate; write at most %d", math.MaxUint64/each))
	}
	return r
}

// rateLimit reads 10/second.
func (d *decoder) rateLimit(n *node, r *Rate) {
	text, ok := d.text(n)
	if !ok {
		return
	}
	var problem string
	if r.Count, r.Per, problem = parseRate(text); problem != "" {
		r.Count = 0
		d.failAt(deref(n), problem)
	}
}

func parseRate(text string) (count uint32, per time.Duration, problem string) {
	number, unit, found := strings.Cut(text, "/")
	count, ok := parseUint32(number, 10)
	if !ok {
		return 0, 0, fmt.Sprintf("%s is not a rate; write a number and a unit, as 10/second", quote(text))
	}
	names := rateUnits()
	lengths := []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}
	switch {
	case !found:
		return 0, 0, fmt.Sprintf("the rate %s has no unit; write %s/second, /minute, /hour or /day", quote(text), number)
	case count == 0:
		return 0, 0, "a rate of 0 never matches; write at least 1, or take the entry out"
	case count > mostCounted:
		return 0, 0, fmt.Sprintf("the rate %s is more than the kernel can count; at most %d", quote(text), mostCounted)
	}
	for i, name := range names {
		if unit == name {
			return count, lengths[i], ""
		}
	}
	if near := nearest(unit, names); near != "" {
		return 0, 0, fmt.Sprintf("unknown unit %s of a rate; write %s/%s", quote(unit), number, near)
	}
	return 0, 0, fmt.Sprintf("unknown unit %s of a rate; write %s/second, /minute, /hour or /day", quote(unit), number)
}
