package simulate

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// limitText says what limit a rule has. That of a log is none of the packet's.
func limitText(r *ruleset.Rule) string {
	for i := range r.Do {
		do := &r.Do[i]
		each := ""
		if do.Set != "" {
			each = perKey(do.Fields)
		}
		switch do.Kind {
		case ruleset.CountOver:
			if each == "" {
				each = " in all"
			}
			return fmt.Sprintf("%s while %s open%s", verb(r), counted(uint64(do.Count)), each)
		case ruleset.RateOver:
			return fmt.Sprintf("%s above %s%s", verb(r), rateText(do.Rate), each)
		case ruleset.RateUnder:
			if logs(r) {
				return ""
			}
			return fmt.Sprintf("%s up to %s%s", verb(r), rateText(do.Rate), each)
		}
	}
	return ""
}

func verb(r *ruleset.Rule) string {
	switch r.Action.Kind {
	case ruleset.Drop:
		return "drops"
	case ruleset.Reject:
		return "rejects"
	case ruleset.Return:
		return "the next rules decide"
	}
	return "does it"
}

func counted(n uint64) string {
	if n == 1 {
		return "more than 1 is"
	}
	return fmt.Sprintf("more than %d are", n)
}

// perKey says of whom a limit counts. A key without an address is of all.
func perKey(fields []ruleset.Field) string {
	for _, f := range fields {
		switch f {
		case ruleset.IPSaddr, ruleset.IP6Saddr, ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr:
			return " for one source"
		case ruleset.IPDaddr, ruleset.IP6Daddr:
			return " for one destination"
		}
	}
	return ""
}

func rateText(r ruleset.Rate) string {
	per := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}[r.Seconds]
	return fmt.Sprintf("%d a %s (%d at once)", r.Packets, per, r.Burst)
}

func logs(r *ruleset.Rule) bool {
	for i := range r.Do {
		if r.Do[i].Kind == ruleset.Log {
			return true
		}
	}
	return false
}
