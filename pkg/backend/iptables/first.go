package iptables

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// maxFirst bounds the addresses that flows may first have been sent to, where
// each is a line.
const maxFirst = 1024

// toFirst gives a target that makes a flow's first destination its source.
// Iptables does not know that address, so there is a chain with a line for each
// that is known to be possible. What was sent to another one gets the address
// of the link: it needs some, or the answer goes elsewhere.
func (t *translator) toFirst(known []ruleset.AddrRange) ([]target, error) {
	if len(known) == 0 {
		return nil, errors.New("iptables makes a flow's first destination its source by a line for each address, and none is known; name the outside addresses in `address`, or leave `source: outside` out of `hairpin`")
	}
	h := fnv.New32a()
	fmt.Fprint(h, known)
	name := chainName(fmt.Sprintf("outside_%08x", h.Sum32()), t.place.mode)
	to := []target{{text: "-j " + name}}
	if slices.ContainsFunc(t.table.chains, func(c *chain) bool { return c.name == name }) {
		return to, nil
	}
	c := &chain{name: name, origin: ruleset.Origin{Entry: "port_forward"}}
	for _, r := range known {
		for a := r.Low; a.IsValid() && !r.High.Less(a); a = a.Next() {
			if len(c.lines) == maxFirst {
				return nil, fmt.Errorf("iptables makes a flow's first destination its source by a line for each address, of which there are more than %d; leave `source: outside` out of `hairpin`", maxFirst)
			}
			c.lines = append(c.lines, finish(fmt.Sprintf("-m conntrack --ctorigdst %s", a), c.origin, "", fmt.Sprintf("-j SNAT --to-source %s", a)))
		}
	}
	c.lines = append(c.lines, finish("", c.origin, "", "-j MASQUERADE"))
	t.table.chains = append(t.table.chains, c)
	return to, nil
}
