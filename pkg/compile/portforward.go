package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// claim is one range of ports that an entry takes, and where it leads. There
// may be a million, so it is small.
type claim struct {
	target          netip.Addr
	first, last     uint16
	toFirst, toLast uint16 // 0: the port is kept
	entry           uint32 // index of the entry
	origin          uint32 // index in Ruleset.Origins
	proto           uint8
}

// keeps says whether the target's port is the one that the client used.
func (k *claim) keeps() bool {
	return k.toFirst == 0 || k.toFirst == k.first && k.toLast == k.last
}

// shifts says whether each port leads to another one; the kernel's own
// translation of ranges does not keep the offset, so that each needs an element.
func (k *claim) shifts() bool { return !k.keeps() && k.toFirst != k.toLast }

// single says whether the elements of the claim are single ports.
func (k *claim) single() bool { return k.first == k.last || k.shifts() }

// entry is a port_forward entry with its conditions resolved.
type entry struct {
	*policy.PortForward
	index    int
	from     []*zone
	hairpin  []*zone
	gateway  bool // the gateway's own connections too
	address  addresses
	sources  addresses
	except   addresses
	allowed  [2]spans // literal sources without the literal exceptions
	literal  bool     // sources are told by allowed alone
	lacks    [2]bool  // no packet of the family can match
	enters   bits     // zones in from or hairpin
	arrives  bits     // zones in from
	sourced  bool     // the source is part of the key of its maps
	aimed    bool     // the destination is
	elements int      // ports that its maps hold
	alone    bool     // it has so many that it has maps of its own
	level    int
}

// aloneFrom is the number of elements from which on an entry has maps of its
// own. The map's comment then names the entry, and not that of each element,
// which a third of reading and writing them would be spent on.
const aloneFrom = 256

// bits is a set of zones by index.
type bits []uint64

func bitsOf(zones []*zone, n int) bits {
	b := make(bits, n/64+1)
	for _, z := range zones {
		b[z.index/64] |= 1 << (z.index % 64)
	}
	return b
}

func (b bits) intersects(o bits) bool {
	for i := range b {
		if b[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

func (b bits) covers(o bits) bool {
	for i := range b {
		if o[i]&^b[i] != 0 {
			return false
		}
	}
	return true
}

// forwards are all port forwards, and the look-ups that they became.
type forwards struct {
	entries []*entry
	claims  []claim
	lookups []*lookup
	opened  []*opened
}

// enters says whether a packet from a zone can have been translated.
func (f *forwards) enters(z *zone) bool {
	return slices.ContainsFunc(f.lookups, func(l *lookup) bool {
		return slices.Contains(l.entry.from, z) || slices.Contains(l.entry.hairpin, z)
	})
}

// portForwards resolves the entries, finds conflicts, and makes the maps.
func (c *compiler) portForwards() *forwards {
	f := &forwards{}
	claims, origins := 0, 0
	for i := range c.policy.PortForward {
		p := &c.policy.PortForward[i]
		if p.Map != nil {
			claims += len(p.Map.Lines)
			origins += len(p.Map.Lines)
		} else {
			claims += max(1, len(p.Ports)) * len(p.Protocols)
			origins++
		}
	}
	f.claims = make([]claim, 0, claims)
	f.entries = make([]*entry, 0, len(c.policy.PortForward))
	c.out.Origins = make([]ruleset.Origin, 0, origins)
	for i := range c.policy.PortForward {
		e := c.entry(&c.policy.PortForward[i], i)
		f.entries = append(f.entries, e)
		before := len(f.claims)
		if e.Map != nil {
			c.claimMap(f, e)
		} else {
			c.claimPorts(f, e)
		}
		c.checkForward(f.claims[before:], e)
		e.chooseKey(f.claims[before:])
	}
	c.order(f)
	if len(c.errs) == 0 {
		c.lookups(f)
	}
	return f
}

func (c *compiler) entry(p *policy.PortForward, index int) *entry {
	e := &entry{
		PortForward: p, index: index, from: c.refs(p.From),
		address: split(p.Address), sources: split(p.Sources), except: split(p.ExceptSources),
	}
	switch {
	case p.AnyAddress && p.Hairpin.Zones != nil:
		c.fail(p.Hairpin.Place, fmt.Sprintf("port_forward %s has `address: any`, which takes what comes from `from` alone; take `zones` out of its `hairpin`, and name the zones in `from`", p.Name))
	case p.Hairpin.Off || p.AnyAddress:
	case p.Hairpin.Zones != nil:
		for _, r := range p.Hairpin.Zones {
			if slices.ContainsFunc(e.from, func(z *zone) bool { return z.Name == r.Name }) {
				c.fail(r.Place, fmt.Sprintf("zone %s is in `from` of port_forward %s, and reaches it without hairpin; take it out of `hairpin`", r.Name, p.Name))
			}
		}
		e.hairpin = c.refs(p.Hairpin.Zones)
	default:
		e.gateway = true
		e.hairpin = c.inside(e)
	}
	e.enters = bitsOf(append(slices.Clone(e.from), e.hairpin...), len(c.zones))
	e.arrives = bitsOf(e.from, len(c.zones))
	e.literal = len(e.sources.sets) == 0 && len(e.except.sets) == 0
	for f := range e.allowed {
		e.allowed[f] = whole(f)
		if e.sources.given {
			e.allowed[f] = e.sources.literal[f]
		}
		if len(e.except.literal[f]) > 0 {
			e.allowed[f] = e.allowed[f].minus(e.except.literal[f])
		}
	}
	return e
}

// inside is every zone that an entry's packets do not arrive from.
func (c *compiler) inside(e *entry) []*zone {
	var out []*zone
	for _, z := range c.zones {
		if !slices.Contains(e.from, z) {
			out = append(out, z)
		}
	}
	return out
}

// restricted says whether the entry looks at the source at all.
func (e *entry) restricted() bool { return e.sources.given || e.except.given }

// claimMap lists the forwards of a map.
func (c *compiler) claimMap(f *forwards, e *entry) {
	o := origin("port_forward", e.Name, e.Place)
	for i := range e.Map.Lines {
		l := &e.Map.Lines[i]
		at := c.policy.PlaceOf(*l)
		f.claims = append(f.claims, claim{
			target: l.Addr, first: l.First, last: l.Last, toFirst: l.ToFirst, toLast: l.ToLast,
			proto: l.Protocol, entry: uint32(e.index), origin: uint32(len(c.out.Origins)),
		})
		c.out.Origins = append(c.out.Origins, ruleset.Origin{Entry: o.Entry, Place: ruleset.Place(at)})
	}
}

// claimPorts lists the ranges of an entry that names ports itself.
func (c *compiler) claimPorts(f *forwards, e *entry) {
	index := uint32(len(c.out.Origins))
	c.out.Origins = append(c.out.Origins, origin("port_forward", e.Name, e.Place))
	ports := e.Ports
	if e.AllPorts {
		ports = []policy.Ports{{First: 1, Last: 65535}}
	} else if e.To.First == e.To.Last {
		ports = mergePorts(ports)
	}
	for _, proto := range e.Protocols {
		for _, p := range withoutPorts(ports, e.ExceptPorts) {
			k := claim{
				target: e.To.Addr, first: p.First, last: p.Last, toFirst: e.To.First, toLast: e.To.Last,
				proto: proto.Number, entry: uint32(e.index), origin: index,
			}
			if e.To.First != e.To.Last {
				// A range keeps its offset, what is left out of it too.
				shift := int(e.To.First) - int(ports[0].First)
				k.toFirst, k.toLast = uint16(int(p.First)+shift), uint16(int(p.Last)+shift)
			}
			f.claims = append(f.claims, k)
		}
	}
}

// checkForward refuses an entry that can match nothing in a family that it has
// targets of, and notes which families it forwards.
func (c *compiler) checkForward(claims []claim, e *entry) {
	from := zoneFamilies(e.from)
	sources := c.reachable(e.Sources, e.ExceptSources, append(slices.Clone(e.from), e.hairpin...))
	var first [2]*claim
	for i := range claims {
		if k := &claims[i]; first[familyIndex(k.target)] == nil {
			first[familyIndex(k.target)] = k
		}
	}
	for f, k := range first {
		addressed := !e.address.given || len(c.flat(&e.address, f)) > 0
		e.lacks[f] = !from[f] || !sources[f] || !addressed
		if k == nil {
			continue
		}
		if !e.lacks[f] {
			c.forwards[f] = true
			continue
		}
		lists := [][]policy.Address{e.Sources, e.Address}
		for _, z := range e.from {
			lists = append(lists, z.Networks)
		}
		at, entry := e.Place, "port_forward "+e.Name
		if name := c.emptySet(lists...); name != "" {
			c.warning(at, fmt.Sprintf("%s matches nothing as long as the set @%s is empty", entry, name))
			continue
		}
		if e.Map != nil {
			at = c.placeOf(k)
		}
		why := fmt.Sprintf("no address is left in its `sources` that is in %s; correct `sources` or `except_sources`, or name another zone in `from`", zoneList(e.from))
		switch {
		case from[f] && c.reachable(e.Sources, e.ExceptSources, nil) == [2]bool{}:
			why = "its `except_sources` leave nothing of its `sources`; let them differ, or take the entry out"
		case !from[f]:
			why = fmt.Sprintf("its target is %s, and packets from %s are %s; let them agree", familyName(f), zoneList(e.from), familyWords(from))
		case !addressed:
			why = fmt.Sprintf("its target is %s, and `address` has none of that family; let them agree", familyName(f))
		}
		c.fail(at, entry+" can match nothing: "+why)
	}
}

// placeOf is where a claim was written.
func (c *compiler) placeOf(k *claim) policy.Place {
	return policy.Place(c.out.Origins[k.origin].Place)
}

// Keys that hold sources and addresses need an element for each combination
// with a port. That is for the many entries that name few; an entry that names
// many gets a set and a rule of its own.
const (
	fewAddresses = 16
	fewElements  = 4096
)

// chooseKey decides what of an entry's conditions goes into the keys of its
// maps, and what is a match before the look-up.
func (e *entry) chooseKey(claims []claim) {
	for i := range claims {
		e.elements++
		if k := &claims[i]; k.shifts() {
			e.elements += int(k.last) - int(k.first)
		}
	}
	e.alone = e.elements >= aloneFrom
	room := max(1, e.elements)
	fits := func(n int) bool {
		if n > fewAddresses && n*room > fewElements {
			return false
		}
		room *= max(1, n)
		return true
	}
	e.aimed = e.address.given && len(e.address.sets) == 0 && fits(max(len(e.address.literal[0]), len(e.address.literal[1])))
	e.sourced = e.restricted() && e.literal && fits(max(len(e.allowed[0]), len(e.allowed[1])))
}
