package iptables

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// mode is what becomes of a chain where iptables has it.
type mode uint8

const (
	plain mode = iota
	// early is what stands behind nat in the ruleset, and before it here.
	early
	// dropping is the copy of a nat chain, right before nat, that does nothing
	// but drop.
	dropping
	// tracked is the copy of a nat chain in raw that does nothing but give flows
	// helpers and timeouts.
	tracked
	// later is a chain that marks, for what is not the first packet of a flow, and
	// routed is its copy for flows whose destination is translated.
	later
	routed
)

// place is where a base chain is attached.
type place struct {
	table, builtin string
	mode           mode
}

// Priorities of what iptables has chains between (linux/netfilter_ipv4.h).
const (
	priorityConntrack = -200
	priorityDstNAT    = -100
	prioritySrcNAT    = 100
)

// Chains there are for loopback addresses, of which errAddress tells the rest, and
// for marks.
var errBehindNAT = errors.New("iptables has no chain between the translation of the destination and routing")

// placeOf finds the table and the built-in chain for a base chain.
func placeOf(h *ruleset.Hook) (place, error) {
	builtin := [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}[h.Point]
	if h.Type == ruleset.TypeNAT {
		if h.Point == ruleset.Forward {
			return place{}, fmt.Errorf("the nat table has no chain %s", builtin)
		}
		return place{"nat", builtin, plain}, nil
	}
	switch h.Point {
	case ruleset.Prerouting:
		switch {
		case h.Priority < priorityConntrack:
			return place{"raw", builtin, plain}, nil
		case h.Priority < priorityDstNAT:
			return place{"mangle", builtin, plain}, nil
		}
		return place{}, errBehindNAT
	case ruleset.Output:
		switch {
		case h.Priority < priorityConntrack:
			return place{"raw", builtin, plain}, nil
		case h.Priority < priorityDstNAT:
			return place{"mangle", builtin, plain}, nil
		case h.Type == ruleset.TypeRoute:
			return place{}, errBehindNAT
		}
		return place{"filter", builtin, plain}, nil
	case ruleset.Postrouting:
		if h.Priority > prioritySrcNAT {
			return place{"mangle", builtin, early}, nil
		}
		return place{"mangle", builtin, plain}, nil
	}
	if h.Priority < 0 {
		return place{"mangle", builtin, plain}, nil
	}
	return place{"filter", builtin, plain}, nil
}
