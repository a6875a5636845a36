package iptables

import (
	"errors"
	"fmt"
	"strings"
)

// errSkips is an accept that would end more than its own base chain.
var errSkips = errors.New("in iptables an accept ends the whole table")

// skips refuses base chains that packets would not come to, because a chain of
// ours before them in the same table accepts.
func (t *translator) skips() {
	for _, tab := range t.tables {
		byName := map[string]*chain{}
		for _, c := range tab.chains {
			byName[c.name] = c
		}
		for _, h := range tab.hooks {
			for i, name := range h.chains {
				if i == 0 || !tab.accepts(h.chains[i-1], byName, map[string]bool{}) {
					continue
				}
				for _, c := range t.rules.Chains {
					if c.Hook != nil && (chainName(c.Name, plain) == name || chainName(c.Name, dropping) == name || chainName(c.Name, tracked) == name) {
						o, _ := t.placed(c, map[string]bool{})
						t.refuse("chain "+c.Name, o, fmt.Errorf("%w, and %s accepts before it", errSkips, h.chains[i-1]))
					}
				}
			}
		}
	}
}

// accepts says whether a chain, or one that it leads to, accepts.
func (tab *table) accepts(name string, byName map[string]*chain, seen map[string]bool) bool {
	c := byName[name]
	if c == nil || seen[name] {
		return false
	}
	seen[name] = true
	for _, l := range c.lines {
		to := targetOf(l.text)
		if to == "ACCEPT" || strings.HasPrefix(to, prefix) && tab.accepts(to, byName, seen) {
			return true
		}
	}
	return false
}
