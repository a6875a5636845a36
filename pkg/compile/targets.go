package compile

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// translateApart appends the rule that leads to the chain of an entry that has
// one of its own: for its attributes, or to choose between its targets.
func (c *compiler) translateApart(ch *ruleset.Chain, l *lookup, when []alternative) {
	e := l.entry
	first := slices.IndexFunc(e.lookups, func(x *lookup) bool { return x.family == l.family && x.proto == l.proto })
	if e.lookups[first] != l {
		return // its maps are for parts of the same ports, or for other targets
	}
	o := origin("port_forward", e.Name, e.Place)
	ports := mergePorts(e.forwarded(l))
	set, _ := c.nameOf("port_forward_"+e.Name+"_ports", fmt.Sprint(ports))
	when = and(when, []alternative{{matches: []ruleset.Match{c.ports(ruleset.DstPort, ports, set, o)}}})
	c.entryRules(ch, o, when, "", goTo(c.flowsOf(e)))
}

// flowsOf makes the chain of an entry, or finds it, and gives its name.
func (c *compiler) flowsOf(e *entry) string {
	object := "port_forward_" + e.Name
	name := "flows_of_" + object
	if e.loopback {
		name += "_of_gateway" // there may be one for the rest of its addresses
	}
	if name = fit(name); c.chains[name] {
		return name
	}
	o := origin("port_forward", e.Name, e.Place)
	flows := c.chain(name, o)
	for _, l := range e.lookups {
		e.families[l.family] = true
	}
	c.give(flows, o, object, e.attributes)
	for f := range e.ways {
		c.choose(flows, e, f)
	}
	return name
}

// forwardedProtocols are the protocols of an entry or of its map.
func forwardedProtocols(p *policy.PortForward) []policy.Protocol {
	if p.Map == nil {
		return p.Protocols
	}
	var out []policy.Protocol
	for i := range p.Map.Lines {
		if n := p.Map.Lines[i].Protocol; !hasProtocol(out, n) {
			out = append(out, policy.Protocol{Number: n})
		}
	}
	return out
}

// forwarded are the ports that an entry forwards in the family and protocol of
// a look-up.
func (e *entry) forwarded(l *lookup) []policy.Ports {
	if e.Map == nil {
		if e.AllPorts {
			return withoutPorts([]policy.Ports{{First: 1, Last: 65535}}, e.ExceptPorts)
		}
		return withoutPorts(e.Ports, e.ExceptPorts)
	}
	var out []policy.Ports
	for i := range e.Map.Lines {
		if m := &e.Map.Lines[i]; m.Protocol == l.proto && familyIndex(m.Addr) == l.family {
			out = append(out, policy.Ports{First: m.First, Last: m.Last})
		}
	}
	return out
}

// choose appends what translates to the targets of a family: the only one, or
// one of several for each new flow, in turn or by the client's address.
func (c *compiler) choose(ch *ruleset.Chain, e *entry, f int) {
	if e.lacks[f] {
		return
	}
	ways := e.ways[f]
	if ways <= 1 {
		c.lookUp(ch, e, f, 0)
		return
	}
	o := origin("port_forward", e.Name, e.Place)
	targets := ruleset.NewSet(unused(c.taken, "port_forward_"+e.Name+"_targets"+familySuffix(f)), []ruleset.Type{ruleset.Number}, []ruleset.Type{ruleset.Verdict})
	targets.Origin = o
	for way := range ways {
		to := c.chain(unused(c.chains, fmt.Sprintf("port_forward_%s_to%d%s", e.Name, way+1, familySuffix(f))), o)
		c.lookUp(to, e, f, uint16(way))
		targets.AddVerdict(binary.BigEndian.AppendUint32(nil, uint32(way)), nil, goTo(to.Name), ruleset.NoOrigin)
	}
	c.out.Sets = append(c.out.Sets, targets)
	pick := ruleset.Pick{Of: uint32(ways)}
	if e.Sticky {
		pick.Fields = []ruleset.Field{sources()[f]}
	}
	c.rule(ch, o, ruleset.Action{Kind: ruleset.VerdictMap, Pick: pick, Map: targets.Name}, isFamily(f))
}

// lookUp appends the look-ups in the maps of one target.
func (c *compiler) lookUp(ch *ruleset.Chain, e *entry, f int, way uint16) {
	for _, l := range e.lookups {
		if l.family == f && l.way == way {
			c.rule(ch, origin("port_forward", e.Name, e.Place), ruleset.Action{Kind: ruleset.DNAT, Family: familyOf(f), Fields: l.fields(), Map: l.name},
				isFamily(f), equal(ruleset.L4Proto, l.proto))
		}
	}
}

// mostTargets bounds the targets of an entry: each has a chain and maps of its
// own.
const mostTargets = 1024

// idleTargets warns of targets to which nothing leads: those of a family that
// the rest of the entry leaves out. The parts of an entry are for different
// addresses.
func (c *compiler) idleTargets(parts []*entry) {
	lacks := func(f int) bool { return !slices.ContainsFunc(parts, func(e *entry) bool { return !e.lacks[f] }) }
	e := parts[0]
	for i, to := range e.Targets {
		f := familyIndex(to.Addr)
		switch {
		case i == mostTargets:
			c.fail(to.Place, fmt.Sprintf("port_forward %s has %d targets, and may have %d; take the others out, or spread the ports over several entries", e.Name, len(e.Targets), mostTargets))
		case lacks(f) && !lacks(1-f):
			c.warning(to.Place, fmt.Sprintf("port_forward %s leads nothing to the target %s: no packet that it takes is %s; take it out of `to`", e.Name, to, familyName(f)))
		}
	}
}
