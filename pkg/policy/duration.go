package policy

import (
	"fmt"
	"strings"
	"time"
)

const durationTakes = "a duration as 30s, 5m or 2h4m"

// longestDuration is the longest that a flow can be given to live: the kernel
// holds it to 2^31 - 1 ticks, of which there are at most a thousand a second.
const longestDuration = 596 * time.Hour

// duration decodes a time in whole seconds.
func (d *decoder) duration(n *node) (time.Duration, bool) {
	text, ok := d.text(n)
	if !ok {
		return 0, false
	}
	v, problem := parseDuration(text)
	if problem != "" {
		d.failAt(deref(n), problem)
		return 0, false
	}
	return v, true
}

// parseDuration reads hours, minutes and seconds, each at most once and in this
// order.
func parseDuration(text string) (v time.Duration, problem string) {
	if seconds, ok := parseUint32(text, 10); ok {
		return 0, fmt.Sprintf("the duration %s has no unit; write %ds for seconds, or use m or h", quote(text), seconds)
	}
	rest := text
	for _, unit := range []struct {
		letter string
		length time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		digits, after, found := strings.Cut(rest, unit.letter)
		if !found {
			continue
		}
		count, ok := parseNumber(digits, 999_999_999)
		if !ok {
			break
		}
		v += min(time.Duration(count), longestDuration/unit.length+1) * unit.length
		rest = after
	}
	switch days, isDays := parseNumber(strings.TrimSuffix(text, "d"), 365); {
	case isDays && strings.HasSuffix(text, "d"):
		return 0, fmt.Sprintf("%s is not a duration, which has no days; write %dh", quote(text), 24*days)
	case text == "" || rest != "":
		return 0, fmt.Sprintf("%s is not a duration; write hours, minutes and seconds, as 30s, 5m or 2h4m", quote(text))
	case v == 0:
		return 0, "a duration is at least 1s"
	case v > longestDuration:
		return 0, fmt.Sprintf("%s is longer than the kernel can count; at most %s", quote(text), durationText(longestDuration))
	}
	return v, ""
}

// durationText gives a duration as a policy writes it.
func durationText(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
