package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// String gives 80 or 8000-8010.
func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// Count is the number of ports in the range.
func (p Ports) Count() int { return int(p.Last) - int(p.First) + 1 }

const portsTake = "a port, a range as 8000-8010, or a list of these"

// ports decodes a list of ports that do not overlap.
func (d *decoder) ports(n *node) []Ports {
	var list []Ports
	d.each(n, func(n *node) {
		if p, ok := d.port(n); ok {
			list = append(list, p)
		}
	})
	d.noOverlap(list)
	return list
}

func (d *decoder) port(n *node) (Ports, bool) {
	text, ok := d.text(n)
	if !ok {
		return Ports{}, false
	}
	p := Ports{Place: d.at(n)}
	var problem string
	p.First, p.Last, problem = parsePorts(text)
	if problem != "" {
		d.fail(p.Place, problem)
		return p, false
	}
	return p, true
}

// noOverlap refuses a port that a list names twice: it is a typing error more
// often than not, and the kernel refuses overlapping ranges in a set.
func (d *decoder) noOverlap(list []Ports) {
	if len(list) < 2 {
		return
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b Ports) int { return cmp.Compare(a.First, b.First) })
	widest := sorted[0]
	for _, p := range sorted[1:] {
		if p.First <= widest.Last {
			first, second := widest, p
			if before(second.Place, first.Place) {
				first, second = second, first
			}
			d.fail(second.Place, fmt.Sprintf("%s and %s overlap in `%s`; name each port once", first, second, d.key),
				Note{first.Place, "the other one"})
		}
		if p.Last > widest.Last {
			widest = p
		}
	}
}

// before is true for the earlier of two places of one file.
func before(a, b Place) bool {
	return a.File == b.File && (a.Line < b.Line || a.Line == b.Line && a.Column < b.Column)
}

// parsePorts reads a port or a range of ports.
func parsePorts(text string) (first, last uint16, problem string) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	a, okA := parseNumber(strings.TrimSpace(low), 65535)
	b, okB := parseNumber(strings.TrimSpace(high), 65535)
	switch {
	case text == "any":
		return 0, 0, "`any` is not a port; write 1-65535 for every port"
	case text == "all":
		return 0, 0, "`all` stands alone, and in the `ports` of a port_forward only; write 1-65535 for every port"
	case !okA || !okB:
		if meant := portsMeant(text); meant != "" {
			return 0, 0, fmt.Sprintf("%s is not a port; write %s", quote(text), meant)
		}
		return 0, 0, fmt.Sprintf("%s is not a port; a port is a number from 1 to 65535, or a range as 8000-8010", quote(text))
	case a == 0 || b == 0:
		return 0, 0, "0 is not a port; ports run from 1 to 65535"
	case a > b:
		return 0, 0, fmt.Sprintf("the range %s runs backwards; write %d-%d", quote(text), b, a)
	}
	return uint16(a), uint16(b), ""
}

// portsMeant writes ports as the language has them that are written as iptables
// does: 8000:8010 for a range, 80,443 for a list. Else it gives "".
func portsMeant(text string) string {
	parts := strings.Split(text, ",")
	if len(text) > 64 || len(parts) == 1 && !strings.Contains(text, ":") {
		return ""
	}
	for i, part := range parts {
		parts[i] = strings.Replace(strings.TrimSpace(part), ":", "-", 1)
		if _, _, problem := parsePorts(parts[i]); problem != "" {
			return ""
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "a list: [" + strings.Join(parts, ", ") + "]"
}

// exceptPorts checks that what is excepted is there to be excepted, and that
// something is left.
func (l *loader) exceptPorts(all bool, ports, except []Ports) {
	if len(except) == 0 || !all && len(ports) == 0 {
		return
	}
	within := ports
	if all {
		within = []Ports{{First: 1, Last: 65535}}
	}
	var has [65536]bool
	left := 0
	for _, p := range within {
		if left == 65535 {
			break // they overlap, which is reported elsewhere
		}
		for n := int(p.First); n <= int(p.Last); n++ {
			if !has[n] {
				has[n] = true
				left++
			}
		}
	}
	for _, x := range except {
		if left <= 0 {
			break
		}
		for n := int(x.First); n <= int(x.Last); n++ {
			if !has[n] {
				l.fail(x.Place, fmt.Sprintf("%s is not within `ports`, so there is nothing to except; take it out", x),
					Note{ports[0].Place, "`ports` stands here"})
				return
			}
		}
		left -= x.Count()
	}
	if left <= 0 {
		l.fail(except[0].Place, "`except_ports` leaves nothing of `ports`; let them differ, or take the entry out")
	}
}
