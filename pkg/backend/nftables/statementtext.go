package nftables

import (
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// allBits is a mask that leaves nothing of the mark that was there.
const allBits = 0xffffffff

func (t *texter) statement(s ruleset.Statement, proto string) string {
	switch s.Kind {
	case ruleset.RateUnder, ruleset.RateOver:
		return each(s, "update", proto, rateText(s))
	case ruleset.CountOver:
		return each(s, "add", proto, fmt.Sprintf("ct count over %d", s.Count))
	case ruleset.Log:
		return logText(s.Log)
	case ruleset.SetMark:
		return markText("meta mark", s)
	case ruleset.SetCtMark:
		return markText("ct mark", s)
	case ruleset.SetMaxSeg:
		if s.Value == 0 {
			return "tcp option maxseg size set rt mtu"
		}
		return fmt.Sprintf("tcp option maxseg size set %d", s.Value)
	case ruleset.SetHelper:
		return `ct helper set "` + s.Object + `"`
	case ruleset.SetTimeout:
		for _, x := range t.rs.Timeouts {
			if x.Name == s.Object && !speakable(x) {
				return "continue"
			}
		}
		return `ct timeout set "` + s.Object + `"`
	case ruleset.NoTrack:
		return "notrack"
	case ruleset.SetAddress:
		to := "0.0.0.0"
		switch {
		case len(s.Fields) > 1:
			to = fieldName(s.Fields[1], "")
		case s.Fields[0].Type() == ruleset.IPv6Addr:
			to = "::"
		}
		return fieldName(s.Fields[0], "") + " set " + to
	case ruleset.Offload:
		return "flow add @" + s.Object
	}
	return ""
}

// each is a limit for each key of a set, where the statement has one.
func each(s ruleset.Statement, op, proto, limit string) string {
	if s.Set == "" {
		return limit
	}
	return fmt.Sprintf("%s @%s { %s %s }", op, s.Set, fieldNames(s.Fields, proto), limit)
}

func rateText(s ruleset.Statement) string {
	over := ""
	if s.Kind == ruleset.RateOver {
		over = "over "
	}
	units := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", over, s.Rate.Packets, units[s.Rate.Seconds], s.Rate.Burst)
}

// timeText writes a time as nft(8) lists it: 1h30m.
func timeText(seconds uint32) string {
	var b strings.Builder
	for _, unit := range []struct {
		seconds uint32
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := seconds / unit.seconds; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			seconds -= n * unit.seconds
		}
	}
	return b.String()
}

func logText(to ruleset.LogTo) string {
	words := []string{"log"}
	if to.Prefix != "" {
		words = append(words, `prefix "`+to.Prefix+`"`)
	}
	if to.HasGroup {
		return strings.Join(append(words, fmt.Sprintf("group %d", to.Group)), " ")
	}
	levels := []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
	return strings.Join(append(words, "level", levels[to.Level%8]), " ")
}

func markText(mark string, s ruleset.Statement) string {
	switch value := s.Value & s.Mask; {
	case s.Mask == allBits:
		return fmt.Sprintf("%s set 0x%08x", mark, value)
	case value == 0:
		return fmt.Sprintf("%s set %s & 0x%08x", mark, mark, ^s.Mask)
	default:
		return fmt.Sprintf("%s set %s & 0x%08x | 0x%08x", mark, mark, ^s.Mask, value)
	}
}
