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
	way             uint16 // which of the entry's targets of a family
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
	attributes
	index    int
	from     []*zone
	hairpin  []*zone
	gateway  bool // the gateway's own connections too
	loopback bool // and those alone: the address is a loopback address
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
	alone    bool     // it has maps of its own
	apart    bool     // it has a chain of its own too
	ways     [2]int   // how many targets it has, by family
	lookups  []*lookup
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
			claims += max(1, len(p.Ports)) * len(p.Protocols) * max(1, len(p.Targets))
			origins++
		}
	}
	f.claims = make([]claim, 0, claims)
	f.entries = make([]*entry, 0, len(c.policy.PortForward))
	c.out.Origins = slices.Grow(c.out.Origins, origins)
	for i := range c.policy.PortForward {
		first := len(f.entries)
		for _, p := range c.apart(&c.policy.PortForward[i]) {
			e := c.entry(p, len(f.entries))
			f.entries = append(f.entries, e)
			before := len(f.claims)
			if e.Map != nil {
				c.claimMap(f, e)
			} else {
				c.claimPorts(f, e)
			}
			c.checkForward(f.claims[before:], e)
			c.helpersFit(e.helpers, "port_forward "+e.Name, true, claimed(e.helpers, f.claims[before:]))
			e.chooseKey(f.claims[before:])
		}
		c.idleTargets(f.entries[first:])
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
		attributes: attributes{p.Limits, p.Timeouts, p.Helpers, p.Log, forwardedProtocols(p), [2]bool{}},
		address:    split(p.Address), sources: split(p.Sources), except: split(p.ExceptSources),
	}
	switch {
	case p.OfGateway():
		e.from, e.gateway, e.loopback = nil, true, true
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
	for _, to := range p.AllTargets() {
		e.ways[familyIndex(to.Addr)]++
	}
	e.apart = e.attributes.any() || max(e.ways[0], e.ways[1]) > 1
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

// claimPorts lists the ranges of an entry that names ports itself, to each of
// its targets.
func (c *compiler) claimPorts(f *forwards, e *entry) {
	index := uint32(len(c.out.Origins))
	c.out.Origins = append(c.out.Origins, origin("port_forward", e.Name, e.Place))
	var ways [2]uint16
	for _, to := range e.AllTargets() {
		way := &ways[familyIndex(to.Addr)]
		e.claimTarget(f, to, *way, index)
		*way++
	}
}

func (e *entry) claimTarget(f *forwards, to policy.Target, way uint16, index uint32) {
	ports := e.Ports
	if e.AllPorts {
		ports = []policy.Ports{{First: 1, Last: 65535}}
	} else if to.First == to.Last {
		ports = mergePorts(ports)
	}
	for _, proto := range e.Protocols {
		for _, p := range withoutPorts(ports, e.ExceptPorts) {
			k := claim{
				target: to.Addr, first: p.First, last: p.Last, toFirst: to.First, toLast: to.Last,
				proto: proto.Number, entry: uint32(e.index), origin: index, way: way,
			}
			if to.First != to.Last {
				// A range keeps its offset, what is left out of it too.
				shift := int(to.First) - int(ports[0].First)
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
	if e.loopback {
		from, sources = [2]bool{true, true}, [2]bool{true, true}
	}
	var first [2]*claim
	for i := range claims {
		if k := &claims[i]; first[familyIndex(k.target)] == nil {
			first[familyIndex(k.target)] = k
		}
	}
	var named, addressed [2]bool
	for f := range first {
		named[f] = e.Family == policy.AnyFamily || e.Family == [2]policy.Family{policy.IPv4, policy.IPv6}[f]
		addressed[f] = !e.address.given || len(c.flat(&e.address, f)) > 0
		e.lacks[f] = !named[f] || !from[f] || !sources[f] || !addressed[f]
	}
	for f, k := range first {
		if k == nil || !named[f] {
			continue
		}
		if !e.lacks[f] {
			// What the gateway opens itself is not forwarded.
			c.forwards[f] = c.forwards[f] || !e.loopback
			continue
		}
		if e.Map == nil && first[1-f] != nil && !e.lacks[1-f] {
			continue // of several targets each family has its part
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
		case !addressed[f]:
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
	e.alone = e.apart || e.elements >= aloneFrom
	room := max(1, e.elements)
	fits := func(n int) bool {
		if n > fewAddresses && n*room > fewElements {
			return false
		}
		room *= max(1, n)
		return true
	}
	if e.apart {
		return // its chain is entered by rules of its own
	}
	e.aimed = e.address.given && len(e.address.sets) == 0 && fits(max(len(e.address.literal[0]), len(e.address.literal[1])))
	e.sourced = e.restricted() && e.literal && fits(max(len(e.allowed[0]), len(e.allowed[1])))
}
