package simulate

import (
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// States are the names of conntrack's states, as a packet can be given them.
func States() []string { return []string{"new", "established", "related", "invalid", "untracked"} }

// State gives a state by its name; 0 is none.
func State(name string) uint32 {
	switch name {
	case "new":
		return ruleset.CtNew
	case "established":
		return ruleset.CtEstablished
	case "related":
		return ruleset.CtRelated
	case "invalid":
		return ruleset.CtInvalid
	case "untracked":
		return ruleset.CtUntracked
	}
	return 0
}

// StateName is State the other way.
func StateName(state uint32) string {
	for _, name := range States() {
		if State(name) == state {
			return name
		}
	}
	return strconv.FormatUint(uint64(state), 2)
}

// flagNames are TCP's flags, the first bit first.
func flagNames() []string { return []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"} }

// FlagNames writes TCP flags, as "syn,ack".
func FlagNames(flags uint8) string {
	var list []string
	for i, name := range flagNames() {
		if flags&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

// Flags reads what FlagNames writes. It is not ok where a name is none.
func Flags(text string) (flags uint8, ok bool) {
next:
	for _, name := range strings.Split(text, ",") {
		for i, known := range flagNames() {
			if strings.EqualFold(strings.TrimSpace(name), known) {
				flags |= 1 << i
				continue next
			}
		}
		return 0, false
	}
	return flags, true
}
