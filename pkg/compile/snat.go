package compile

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// resolveSNAT compiles when each entry applies, and what its pool is.
func (c *compiler) resolveSNAT() {
	var all []*blocks
	for i := range c.policy.SNAT {
		s := &c.policy.SNAT[i]
		p := poolOf(s.Addresses)
		t := c.sourceTranslator("snat", &s.Masquerade, p.families())
		var divided [2]*blocks
		if s.PortsPerHost != 0 {
			divided = c.divide(s, t, p)
			for _, b := range divided {
				if b != nil {
					all = append(all, b)
				}
			}
		} else {
			c.poolFits(s, p, t)
		}
		t.translate = func(ch *ruleset.Chain, when []alternative) { c.snat(ch, t, s, p, divided, when) }
		c.translators = append(c.translators, t)
		for f := range p {
			c.notHeld(p.spans(f), c.refs(s.To), "pool of snat "+s.Name, s.Addresses[0].Place)
		}
	}
	for i, b := range all {
		c.blocksAlone(b, all[i+1:])
	}
}

// snat appends the rules of an entry, family by family.
func (c *compiler) snat(ch *ruleset.Chain, t *translator, s *policy.SNAT, p pool, divided [2]*blocks, when []alternative) {
	for f := range p {
		when := and([]alternative{{family: only(f)}}, when)
		if len(p[f]) == 0 || len(when) == 0 {
			continue
		}
		do := func(ports policy.Ports) ruleset.Action { return c.fromPool(t, s, p, f, ports) }
		if b := divided[f]; b != nil {
			do = func(ports policy.Ports) ruleset.Action { return c.fromBlock(t, b, f, ports) }
		}
		// One rule that all zones lead to, so that what is given in turn is
		// given in one turn.
		c.translateFrom(ch, t, only(f), when, s.Distribution == policy.RoundRobin && len(t.from) > 1, do)
	}
}

// mostPicked bounds the pools whose addresses are elements of a map.
const mostPicked = 1 << 16

// ranged says whether the kernel chooses among a pool's addresses of a family
// by itself: it knows one range, and gives nothing in turn. nft(8) lists a range
// that is a prefix as one, and then does not read the ports behind it: with
// ports, the addresses of a prefix are chosen from a map.
func ranged(s *policy.SNAT, list []span, ports bool) bool {
	if len(list) != 1 || list[0].lo == list[0].hi {
		return len(list) == 1
	}
	_, prefix := list[0].prefix()
	return s.Distribution != policy.RoundRobin && !(prefix && ports && count(list) <= mostPicked)
}

// poolFits refuses pools that are too large to choose from.
func (c *compiler) poolFits(s *policy.SNAT, p pool, t *translator) {
	for f, list := range p {
		if n := p.size(f); !ranged(s, list, len(t.outside) > 0) && n > mostPicked {
			c.fail(s.Addresses[0].Place, fmt.Sprintf("%s has a pool of more than %d %s addresses; write one range of addresses and no `distribution: round-robin`, or make several entries that differ in `sources`",
				t.origin.Entry, mostPicked, familyName(f)))
		}
	}
}

// fromPool is the translation to a pool's addresses of a family.
func (c *compiler) fromPool(t *translator, s *policy.SNAT, p pool, f int, ports policy.Ports) ruleset.Action {
	do := ruleset.Action{Kind: ruleset.SNAT, Family: familyOf(f), NAT: natPorts(&s.Masquerade, ports)}
	list := p[f]
	if ranged(s, list, ports.First != 0) {
		do.NAT.Low, do.NAT.High = list[0].lo, list[0].hi
		do.NAT.Persistent = s.Distribution == policy.Persistent && list[0].lo != list[0].hi
		return do
	}
	do.Pick.Of = uint32(p.size(f))
	switch s.Distribution {
	case policy.Persistent:
		do.Pick.Fields = []ruleset.Field{sources()[f]}
	case policy.KernelChoice:
		// As the kernel does within a range.
		do.Pick.Fields = []ruleset.Field{sources()[f], destinations()[f]}
	}
	m := ruleset.NewSet(t.object+"_pool"+familySuffix(f), []ruleset.Type{ruleset.Number}, []ruleset.Type{sources()[f].Type()})
	do.Map = c.mapOf(m, t.origin, func() {
		m.Grow(int(do.Pick.Of))
		n := uint32(0)
		eachAddr(list, func(a netip.Addr) bool {
			m.Add(number(n), nil, appendAddr(nil, a), ruleset.NoOrigin)
			n++
			return true
		})
	})
	return do
}

// inFamilies narrows the condition of an entry to the families of its pool, and
// refuses an entry that then matches nothing.
func (c *compiler) inFamilies(when []alternative, matches, pool [2]bool, m *policy.Masquerade, entry string) []alternative {
	if pool == [2]bool{true, true} {
		return when
	}
	f := 0
	if pool[1] {
		f = 1
	}
	if matches[1-f] && !matches[f] {
		c.fail(m.Place, fmt.Sprintf("%s can match nothing: its `addresses` are %s only, and what else it says is for %s; add an address of that family, or let them agree",
			entry, familyName(f), familyName(1-f)))
	}
	return and([]alternative{{family: only(f)}}, when)
}
