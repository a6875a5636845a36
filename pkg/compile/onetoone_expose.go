package compile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// originalDestinations is the destination that a flow first had, by family.
func originalDestinations() side { return side{ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr} }

// Where forward and the gateway itself look at what one_to_one translated on
// its way in: what is exposed passes the first, and nothing else the second.
const (
	exposedChain = "one_to_one_exposed"
	closedChain  = "one_to_one_closed"
)

// exposure is ports of an entry that may come in, where its set has ports.
type exposure struct {
	*mapping
	ports policy.Ports
}

// exposed matches exposures of a family: where a packet goes now, where it
// first went, and the port if that counts. A flow that another tool translated,
// or that goes straight to the inside address, is not among them.
func (c *compiler) exposed(name string, f int, list []exposure, counted, ported bool) []ruleset.Match {
	fields := []ruleset.Field{destinations()[f], originalDestinations()[f]}
	if ported {
		fields = append(fields, ruleset.DstPort)
	}
	name += familySuffix(f)
	if !c.taken[name] {
		c.taken[name] = true
		types := make([]ruleset.Type, len(fields))
		for i, x := range fields {
			types[i] = x.Type()
		}
		s := ruleset.NewSet(name, types, nil)
		// Of ranges always, so that one more entry leaves the others' counters.
		s.Origin, s.Counted, s.Interval = own("one_to_one"), counted, true
		key := func(inside, outside netip.Addr, port uint16) []byte {
			key := appendAddr(appendAddr(nil, inside), outside)
			if ported {
				key = append(append(key, portBytes(port)...), 0, 0)
			}
			return key
		}
		for _, x := range list {
			index := ruleset.NoOrigin
			if counted {
				index = x.index
			}
			s.Add(key(x.inside.lo, x.outside.lo, x.ports.First), key(x.inside.hi, x.outside.hi, x.ports.Last), nil, index)
		}
		c.out.Sets = append(c.out.Sets, s)
	}
	return []ruleset.Match{isFamily(f), in(name, fields...)}
}

// entered matches everything that the entries of a family translated on its
// way in; nil where there are none.
func (c *compiler) entered(f int) []ruleset.Match {
	var list []exposure
	for _, m := range c.mapped(f) {
		list = append(list, exposure{mapping: m})
	}
	if len(list) == 0 {
		return nil
	}
	return c.exposed("one_to_one_pairs", f, list, false, false)
}

// exposures makes the chains that tell what may come in from what may not.
func (c *compiler) exposures() {
	if len(c.oneToOne) == 0 {
		return
	}
	o := own("one_to_one")
	closed := c.chain(closedChain, o)
	var exposed *ruleset.Chain
	let := func(in []ruleset.Match) {
		if exposed == nil {
			exposed = c.chain(exposedChain, o)
		}
		c.rule(exposed, o, pass(), in...)
	}
	for f := range 2 {
		var all []exposure
		by := map[uint8][]exposure{} // by protocol
		for _, m := range c.mapped(f) {
			if m.ExposeAll {
				all = append(all, exposure{mapping: m})
			}
			for _, s := range m.Expose {
				ports := policy.Ports{First: 0, Last: 65535}
				if len(s.Ports) > 0 {
					ports = s.Ports[0]
				}
				by[s.Protocol] = append(by[s.Protocol], exposure{m, ports})
			}
		}
		if len(all) > 0 {
			let(c.exposed("one_to_one_all", f, all, true, false))
		}
		// A set for each protocol, as one has ports and another has none.
		for _, proto := range slices.Sorted(maps.Keys(by)) {
			in := c.exposed("one_to_one_"+policy.ProtocolName(proto), f, by[proto], true, policy.HasPorts(proto))
			let(slices.Insert(in, 1, equal(ruleset.L4Proto, proto)))
		}
		if m := c.entered(f); m != nil {
			c.rule(closed, o, ruleset.Action{Kind: ruleset.Drop}, m...).Counter = c.counter(closedChain, o)
		}
	}
}

// letIn appends what decides about new flows that one_to_one translated on
// their way in. What nothing exposes is left to the rules that follow, or
// closed.
func (c *compiler) letIn(ch *ruleset.Chain, closed bool) {
	if len(c.oneToOne) == 0 {
		return
	}
	translated := anyBit(ruleset.CtStatusField, ruleset.CtDNAT)
	if c.chains[exposedChain] {
		c.rule(ch, own("one_to_one"), jumpTo(exposedChain), translated)
	}
	if closed {
		c.rule(ch, own("one_to_one"), jumpTo(closedChain), translated)
	}
}

// natInput builds the chain for what one_to_one leads to the gateway itself: an
// inside prefix may hold an address of the gateway, and the broadcast addresses
// of a network, which the outside must not reach behind the back of forward.
// The chain sees the first packet of a flow alone, and none of the gateway's
// own.
func (c *compiler) natInput() {
	if len(c.oneToOne) == 0 {
		return
	}
	base := c.base("nat_input", ruleset.TypeNAT, ruleset.Input, prioritySrcNAT)
	c.letIn(base, true)
	c.rule(base, own("ipmasq"), pass())
}
