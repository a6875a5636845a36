package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// mapping is a one_to_one entry with its ends resolved.
type mapping struct {
	*policy.OneToOne
	zone            *zone
	family          int
	outside, inside span
	origin          ruleset.Origin
	index           uint32  // of origin in Ruleset.Origins
	homes           []*zone // the zones that its inside hosts can be in
}

// mappings are the entries of one uplink and family, single addresses apart
// from prefixes: what shares its maps.
type mappings struct {
	zone   *zone
	family int
	single bool
	list   []*mapping
}

// name makes the name of an object of the group.
func (g *mappings) name(what string) string {
	name := "one_to_one_" + what + "_" + g.zone.Name
	if !g.single {
		name += "_prefixes"
	}
	return fit(name + familySuffix(g.family))
}

// resolveOneToOne resolves the entries, finds those that cannot both be meant,
// and makes them translators.
func (c *compiler) resolveOneToOne() {
	var all []*mapping
	uplinks := map[*zone]bool{}
	for i := range c.policy.OneToOne {
		p := &c.policy.OneToOne[i]
		m := &mapping{
			OneToOne: p, zone: c.byName[p.Zone.Name], family: familyIndex(p.Outside.Addr()),
			outside: spanOf(p.Outside), inside: spanOf(p.Inside), origin: origin("one_to_one", p.Name, p.Place), index: uint32(len(c.out.Origins)),
		}
		c.out.Origins = append(c.out.Origins, m.origin)
		all = append(all, m)
		uplinks[m.zone] = true
	}
	c.oneToOneAlone(all)
	for _, m := range all {
		m.homes = c.homes(m, uplinks)
		switch f := m.family; {
		case len(m.zone.left[f]) == 0:
			c.fail(m.Place, fmt.Sprintf("%s can match nothing: it is %s, and zone %s has no %s addresses; let them agree", m.origin.Entry, familyName(f), m.zone.Name, familyName(f)))
		case len(m.homes) == 0:
			c.fail(m.InsideAt, fmt.Sprintf("%s can match nothing: %s is in no zone but %s; declare the zone that it is in", m.origin.Entry, m.inside, m.zone.Name))
		default:
			c.forwards[f] = true
			c.group(m)
			c.notHeld(c.onLink(spans{m.outside}, m.zone), []*zone{m.zone}, "`outside` of "+m.origin.Entry, m.OutsideAt)
		}
	}
	slices.SortFunc(c.oneToOne, func(a, b *mappings) int { return cmp.Compare(a.name(""), b.name("")) })
	for _, g := range c.oneToOne {
		c.translators = append(c.translators, c.mappingTranslator(g))
	}
}

// oneToOneAlone refuses entries that share addresses: an outside address leads
// to one host, and an inside one has one outside address in each zone.
func (c *compiler) oneToOneAlone(all []*mapping) {
	inCommon(all, func(m *mapping) span { return m.outside }, func(first, second *mapping) {
		c.fail(second.OutsideAt, fmt.Sprintf("%s takes outside addresses that %s has already; give it others than %s", second.origin.Entry, first.origin.Entry, first.outside),
			policy.Note{Place: first.OutsideAt, Message: first.origin.Entry + " is here"})
	})
	for _, z := range c.zones {
		in := slices.DeleteFunc(slices.Clone(all), func(m *mapping) bool { return m.zone != z })
		inCommon(in, func(m *mapping) span { return m.inside }, func(first, second *mapping) {
			c.fail(second.InsideAt, fmt.Sprintf("%s gives inside addresses of %s a second outside address in zone %s; an inside address has one in each zone, so take it out of one of the two",
				second.origin.Entry, first.origin.Entry, z.Name), policy.Note{Place: first.InsideAt, Message: first.origin.Entry + " is here"})
		})
	}
}

// inCommon calls each with an entry, and the narrowest of those that have its
// addresses too, in the order of the policy. Of two prefixes that overlap, one
// lies in the other.
func inCommon(all []*mapping, of func(*mapping) span, each func(first, second *mapping)) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *mapping) int {
		return cmp.Or(of(a).lo.Compare(of(b).lo), of(b).hi.Compare(of(a).hi))
	})
	var around []*mapping // from the widest to the narrowest
	for _, m := range sorted {
		for len(around) > 0 && of(around[len(around)-1]).hi.Less(of(m).lo) {
			around = around[:len(around)-1]
		}
		if n := len(around); n > 0 && around[n-1].index < m.index {
			each(around[n-1], m)
		} else if n > 0 {
			each(m, around[n-1])
		}
		around = append(around, m)
	}
}

// homes gives the zones that an entry's inside hosts can be in: those whose
// networks have them; for what is in none, those that may have any address, be
// it that their networks are all addresses. An
// uplink of some entry is home to nobody, unless there is no other zone.
func (c *compiler) homes(m *mapping, uplinks map[*zone]bool) []*zone {
	var known, open, others []*zone
	left := spans{m.inside}
	for _, z := range c.zones {
		switch {
		case !z.left[m.family].intersects(spans{m.inside}):
		case len(z.Networks) > 0 && !z.networks[m.family].equal(whole(m.family)):
			known = append(known, z)
			left = left.minus(z.left[m.family])
		case z == m.zone:
		case uplinks[z]:
			others = append(others, z)
		default:
			open = append(open, z)
		}
	}
	switch {
	case len(left) == 0:
		return known
	case len(known)+len(open) == 0:
		return others
	}
	return append(known, open...)
}

// group puts an entry to those that share its maps.
func (c *compiler) group(m *mapping) {
	single := m.outside.lo == m.outside.hi
	for _, g := range c.oneToOne {
		if g.zone == m.zone && g.family == m.family && g.single == single {
			g.list = append(g.list, m)
			return
		}
	}
	c.oneToOne = append(c.oneToOne, &mappings{m.zone, m.family, single, []*mapping{m}})
}

// mapped gives the entries of a family.
func (c *compiler) mapped(f int) []*mapping {
	var list []*mapping
	for _, g := range c.oneToOne {
		if g.family == f {
			list = append(list, g.list...)
		}
	}
	return list
}

// spanOf gives the addresses of a prefix.
func spanOf(p netip.Prefix) span {
	last := appendAddr(nil, p.Addr())
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	high, _ := netip.AddrFromSlice(last)
	return span{p.Addr(), high}
}
