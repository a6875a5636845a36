package main

import (
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// appendStatus adds the words of a status, in quotes, with a separator between
// them.
func appendStatus(b []byte, s conntrack.Status, quote, separator string) []byte {
	first := true
	for _, bit := range [...]struct {
		bit  conntrack.Status
		word string
	}{
		{conntrack.StatusExpected, "expected"},
		{conntrack.StatusSeenReply, "replied"},
		{conntrack.StatusAssured, "assured"},
		{conntrack.StatusSNAT, "snat"},
		{conntrack.StatusDNAT, "dnat"},
	} {
		if s&bit.bit == 0 {
			continue
		}
		if !first {
			b = append(b, separator...)
		}
		b = append(append(append(b, quote...), bit.word...), quote...)
		first = false
	}
	return b
}

// age is how old a connection is; one that began after now has none.
func age(f *conntrack.Flow, now time.Time) time.Duration { return max(0, now.Sub(f.Start)) }

// appendDuration writes a time as people say it, in its two largest units.
func appendDuration(b []byte, d time.Duration) []byte {
	s := int64(d / time.Second)
	two := func(large int64, unit byte, small int64, smallUnit byte) []byte {
		b = append(strconv.AppendInt(b, large, 10), unit)
		if small > 0 {
			b = append(strconv.AppendInt(b, small, 10), smallUnit)
		}
		return b
	}
	switch {
	case s < 60:
		return append(strconv.AppendInt(b, s, 10), 's')
	case s < 3600:
		return two(s/60, 'm', s%60, 's')
	case s < 86400:
		return two(s/3600, 'h', s%3600/60, 'm')
	}
	return two(s/86400, 'd', s%86400/3600, 'h')
}
