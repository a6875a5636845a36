package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// blocksAlone refuses entries that use the ports of another one's blocks: who
// reads a public address and a port in a log must find one host.
func (c *compiler) blocksAlone(b *blocks, later []*blocks) {
	public, f := b.used(), familyIndex(b.hosts[0].lo)
	for _, o := range later {
		if familyIndex(o.hosts[0].lo) == f && !b.same(o) {
			c.usesBlocks(b, o.entry, public.and(o.used()), o.ports())
		}
	}
	for i := range c.policy.SNAT {
		if s := &c.policy.SNAT[i]; s.PortsPerHost == 0 {
			p := poolOf(s.Addresses)
			c.usesBlocks(b, s, public.and(p.spans(f)), anyPort(s.OutsidePorts))
		}
	}
	for i := range c.policy.OneToOne {
		o := &c.policy.OneToOne[i]
		if one := (spans{spanOf(o.Outside)}); familyIndex(one[0].lo) == f && public.intersects(one) {
			c.fail(o.OutsideAt, fmt.Sprintf("one_to_one %s uses all ports of addresses that snat %s divides among hosts (`ports_per_host`); take %s out of the `addresses` of one of the two",
				o.Name, b.entry.Name, policy.Address{Low: public.and(one)[0].lo, High: public.and(one)[0].hi}), c.isHere("snat", &b.entry.Masquerade))
		}
	}
	for i := range c.policy.Masquerade {
		m := &c.policy.Masquerade[i]
		held := c.heldOn(c.refs(m.To), public, f)
		if len(held) > 0 && sharePorts(m.Protocols, b.entry.Protocols) && meet(anyPort(m.OutsidePorts), b.ports()) {
			c.warning(m.Place, fmt.Sprintf("masquerade %s uses ports of %s that snat %s divides among hosts (`ports_per_host`); give it `outside_ports` without %s",
				m.Name, held[0].lo, b.entry.Name, b.ports()), c.isHere("snat", &b.entry.Masquerade))
		}
	}
}

// usesBlocks refuses an entry that uses ports of some addresses, which are among
// those of blocks.
func (c *compiler) usesBlocks(b *blocks, s *policy.SNAT, common spans, ports policy.Ports) {
	if len(common) == 0 || !sharePorts(s.Protocols, b.entry.Protocols) || !meet(ports, b.ports()) {
		return
	}
	c.fail(s.Place, fmt.Sprintf("snat %s uses ports of %s that snat %s divides among hosts (`ports_per_host`); give it other `addresses`, or `outside_ports` without %s",
		s.Name, policy.Address{Low: common[0].lo, High: common[0].hi}, b.entry.Name, b.ports()), c.isHere("snat", &b.entry.Masquerade))
}

func (c *compiler) isHere(section string, m *policy.Masquerade) policy.Note {
	return policy.Note{Place: m.Place, Message: fmt.Sprintf("%s %s is here", section, m.Name)}
}

// same says whether both give the same hosts the same blocks.
func (b *blocks) same(o *blocks) bool {
	return b.first == o.first && b.size == o.size && b.perAddress == o.perAddress && b.hosts.equal(o.hosts) && slices.Equal(b.public, o.public)
}

// used are the public addresses that have a host.
func (b *blocks) used() spans {
	left := (b.count + b.perAddress - 1) / b.perAddress
	var out spans
	next := b.publicAddresses()
	for range left {
		a := next()
		out = append(out, span{a, a})
	}
	return merge(out)
}

// ports are those that some host has.
func (b *blocks) ports() policy.Ports {
	return policy.Ports{First: b.first, Last: b.block(min(b.count, b.perAddress) - 1).Last}
}

func anyPort(p *policy.Ports) policy.Ports {
	if p == nil {
		return policy.Ports{First: 1, Last: 65535}
	}
	return *p
}

func meet(a, b policy.Ports) bool { return a.First <= b.Last && b.First <= a.Last }

// sharePorts says whether two entries take packets of one protocol with ports.
func sharePorts(a, b []policy.Protocol) bool {
	return slices.ContainsFunc(portProtocols(), func(n uint8) bool {
		return (len(a) == 0 || hasProtocol(a, n)) && (len(b) == 0 || hasProtocol(b, n))
	})
}
