package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// privileged is where the kernel divides ports: what it cannot keep it moves
// within its own part (nf_nat_l4proto_unique_tuple).
const privileged = 1024

// fewPorts is how many ports a run needs to be used for flows from there: in
// a shorter one they would soon find all ports taken.
const fewPorts = 32

// reserved are the outside ports that flows from inside never take: those that
// the policy names, else those that rules of input open. It is nil for none.
func (c *compiler) reserved() []policy.Ports {
	list := c.policy.Gateway.ReservedPorts
	if list == nil && c.policy.Input != nil {
		for i := range c.policy.Input.Rules {
			if r := &c.policy.Input.Rules[i]; r.Action == policy.Accept {
				list = append(list, r.Ports...)
			}
		}
	}
	return mergePorts(list)
}

// outsidePorts gives the runs of ports that an entry may use outside, the
// widest last; none is for any port.
func (c *compiler) outsidePorts(m *policy.Masquerade, entry string) []policy.Ports {
	reserved := c.reserved()
	if m.OutsidePorts == nil && len(reserved) == 0 || !sharePorts(m.Protocols, nil) {
		return nil
	}
	whole := []policy.Ports{{First: 1, Last: privileged - 1}, {First: privileged, Last: 65535}}
	at := m.Place
	if m.OutsidePorts != nil {
		whole, at = []policy.Ports{*m.OutsidePorts}, m.OutsidePorts.Place
	}
	runs := withoutPorts(whole, reserved)
	if len(runs) == 0 {
		c.fail(at, fmt.Sprintf("%s has no outside port left: all are reserved for the gateway; %s", entry, c.unreserve()))
		return nil
	}
	return usable(runs, m.PortSelection)
}

// usable leaves out the runs of ports that are too short, and puts the widest
// last: it takes what has no run of its own. Ports that are chosen at random
// all come from there.
func usable(runs []policy.Ports, selection policy.PortSelection) []policy.Ports {
	widest := slices.MaxFunc(runs, func(a, b policy.Ports) int { return a.Count() - b.Count() })
	var out []policy.Ports
	if selection == policy.Preserve {
		for _, r := range runs {
			if r != widest && r.Count() >= min(fewPorts, widest.Count()) {
				out = append(out, r)
			}
		}
	}
	return append(out, widest)
}

// unreserve says what to do where reserved ports are in the way.
func (c *compiler) unreserve() string {
	if c.policy.Gateway.ReservedPorts == nil {
		return "these are the ports that rules of `input` open; name the ones that count in `gateway.reserved_ports`, or `[]` for none"
	}
	return "take some out of `gateway.reserved_ports`"
}

// natPorts is the part of a translation that is about ports.
func natPorts(m *policy.Masquerade, ports policy.Ports) ruleset.NAT {
	return ruleset.NAT{
		PortMin: ports.First, PortMax: ports.Last,
		Random: m.PortSelection == policy.Random, FullyRandom: m.PortSelection == policy.FullyRandom,
	}
}

// translateFrom appends the rules of an entry that gives a new source: do says
// what is done with a range of ports or, where that is zero, without. Where they
// are many, or are to be shared, they stand in a chain of their own, one for each
// family that they are for.
func (c *compiler) translateFrom(ch *ruleset.Chain, t *translator, in narrowed, when []alternative, shared bool, do func(policy.Ports) ruleset.Action) {
	if t.attributes.any() || len(t.outside) < 2 && !shared {
		c.sourceRules(ch, t, when, !t.attributes.any(), do)
		return
	}
	name := "sources_of_" + t.object
	if f, one := in.index(); one {
		name += familySuffix(f)
	}
	if name = fit(name); !c.chains[name] {
		c.sourceRules(c.chain(name, t.origin), t, []alternative{{family: in}}, false, do)
	}
	c.entryRules(ch, t.origin, when, "", goTo(name))
}

// sourceRules appends the rules themselves. Where when says what protocol it is
// about, inline is set.
func (c *compiler) sourceRules(ch *ruleset.Chain, t *translator, when []alternative, inline bool, do func(policy.Ports) ruleset.Action) {
	counter := c.counter(t.object, t.origin)
	any := func() { c.entryRules(ch, t.origin, when, counter, do(policy.Ports{})) }
	if len(t.outside) == 0 {
		any()
		return
	}
	// A range of ports is for protocols that have ports, and nft(8) wants to
	// see which; what else matches is translated without a range.
	protocols := t.source.Protocols
	for _, proto := range portProtocols() {
		one := and(isProtocol(proto), when)
		switch {
		case inline && len(protocols) == 1 && protocols[0].Number == proto:
			one = when
		case len(protocols) > 0 && !hasProtocol(protocols, proto):
			continue
		}
		for i, run := range t.outside {
			within := one
			if i < len(t.outside)-1 {
				within = and(one, []alternative{{matches: []ruleset.Match{c.ports(ruleset.SrcPort, []policy.Ports{run}, fmt.Sprintf("%s_source_port_%d", t.object, run.First), t.origin)}}})
			}
			c.entryRules(ch, t.origin, within, counter, do(run))
		}
	}
	if len(protocols) == 0 || slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return !policy.HasPorts(p.Number) }) {
		any()
	}
}
