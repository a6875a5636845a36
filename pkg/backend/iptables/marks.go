package iptables

import (
	"errors"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Iptables has no chain behind the translation of destinations and before
// routing. A chain that does nothing but mark there is in three places:
//
//   - In nat, behind what translates destinations: first packets of flows come
//     so far where nothing of ours has translated them.
//   - In PREROUTING of mangle, for the other packets of such flows.
//   - In FORWARD and INPUT of mangle, for all packets of flows whose destination
//     is translated: it is seen there alone. The way is chosen by then.

// marking says whether a chain, with those that it leads to, does nothing but
// mark packets.
func (t *translator) marking(name string, seen map[string]bool) bool {
	c := t.chains[name]
	if c == nil || seen[name] {
		return c != nil
	}
	seen[name] = true
	for _, r := range c.Rules {
		if slices.ContainsFunc(r.Do, func(s ruleset.Statement) bool { return s.Kind != ruleset.SetMark }) || r.Counter != "" {
			return false
		}
		for _, v := range t.verdicts(r) {
			switch v.Kind {
			case ruleset.Accept, ruleset.Return, ruleset.Continue:
			case ruleset.Jump, ruleset.Goto:
				if !t.marking(v.Chain, seen) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// placesOf finds where a base chain is put.
func (t *translator) placesOf(c *ruleset.Chain) ([]place, error) {
	p, err := placeOf(c.Hook)
	if errors.Is(err, errBehindNAT) && c.Hook.Point == ruleset.Prerouting && t.marking(c.Name, map[string]bool{}) {
		return []place{
			{"nat", "PREROUTING", plain}, {"mangle", "PREROUTING", later},
			{"mangle", "FORWARD", routed}, {"mangle", "INPUT", routed},
		}, nil
	}
	return []place{p}, err
}
