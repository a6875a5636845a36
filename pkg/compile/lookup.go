package compile

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// lookup is one look-up of a packet in a map of port forwards. All claims that
// need the same look-up share it, so that the number of rules depends on how
// many kinds of port forward there are, and not on how many.
type lookup struct {
	kind
	entry  *entry // the first of them; they are alike in what a rule tests
	name   string
	claims []uint32
}

// kind is what claims must have in common to share a look-up.
type kind struct {
	conditions string
	family     int
	proto      uint8
	ranges     bool // the map holds ranges
	keep       bool // the map gives an address and leaves the port alone
	way        uint16
	level      int
}

// lookups makes the maps and puts every claim into one.
func (c *compiler) lookups(f *forwards) {
	made := map[kind]*lookup{}
	// Claims come entry by entry, so that the last look-up is mostly right.
	var conditions string
	var rangeKeys [2]bool
	var current *entry
	var last kind
	var l *lookup
	for i := range f.claims {
		k := &f.claims[i]
		e := f.entries[k.entry]
		family := familyIndex(k.target)
		if e.lacks[family] {
			continue
		}
		if e != current {
			current, conditions = e, e.conditions()
			rangeKeys = [2]bool{e.keyHasRanges(0), e.keyHasRanges(1)}
		}
		// Where the key has ranges anyway, all claims can share the map.
		keep := !k.single() && k.keeps()
		kind := kind{conditions, family, k.proto, !k.single() || rangeKeys[family], keep, k.way, e.level}
		if l == nil || kind != last {
			if l = made[kind]; l == nil {
				l = &lookup{kind: kind, entry: e}
				l.name = unused(c.taken, l.baseName())
				made[kind] = l
				f.lookups = append(f.lookups, l)
			}
			last = kind
		}
		l.claims = append(l.claims, uint32(i))
	}
	slices.SortFunc(f.lookups, func(a, b *lookup) int {
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.entry.rank(), b.entry.rank()),
			compareBool(a.ranges, b.ranges), cmp.Compare(a.name, b.name))
	})
	for _, l := range f.lookups {
		l.entry.lookups = append(l.entry.lookups, l)
		c.out.Sets = append(c.out.Sets, c.fill(f, l))
	}
	c.findOpened(f)
}

// compareBool has what is not so first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// conditions tells what a rule must test for an entry besides the key of its
// map, and what the key consists of.
func (e *entry) conditions() string {
	var b strings.Builder
	fmt.Fprintf(&b, "from %s hairpin %s %v", zoneNames(e.from, "_"), zoneNames(e.hairpin, "_"), e.gateway)
	switch {
	case e.AnyAddress:
		b.WriteString(" anywhere")
	case e.aimed:
		b.WriteString(" aimed")
	case e.address.given:
		fmt.Fprintf(&b, " address %s", e.address.content())
	}
	switch {
	case !e.restricted():
	case e.sourced:
		b.WriteString(" sourced")
	default:
		fmt.Fprintf(&b, " sources %s except %s", e.sources.content(), e.except.content())
	}
	if e.alone {
		b.WriteString(" alone " + e.Name)
	}
	return b.String() + e.sourceSuffix()
}

// keyHasRanges says whether an address in the key is too many addresses to
// have an element each.
func (e *entry) keyHasRanges(f int) bool {
	return e.sourced && !singles(e.allowed[f]) || e.aimed && !singles(e.address.literal[f])
}

func singles(list spans) bool {
	return !slices.ContainsFunc(list, func(s span) bool { return s.lo != s.hi && s.lo.Next() != s.hi })
}

// baseName names the map of a look-up after what is particular about it.
func (l *lookup) baseName() string {
	e := l.entry
	name := "port_forward_from_" + zoneNames(e.from, "_")
	if e.loopback {
		name = "port_forward_of_gateway"
	}
	if e.alone {
		name = "port_forward_" + e.Name
	}
	mark := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(l.conditions)))
	switch {
	case e.sourced:
		name += "_by_source"
	case e.restricted():
		name += "_if_" + mark
	}
	switch {
	case e.AnyAddress:
		name += "_anywhere"
	case e.aimed:
		name += "_to_address"
	case e.address.given:
		name += "_to_" + mark
	}
	switch {
	case e.Hairpin.Off && !e.AnyAddress:
		name += "_no_hairpin"
	case e.Hairpin.Zones != nil:
		name += "_hairpin_" + zoneNames(e.hairpin, "_")
	}
	tail := e.sourceSuffix()
	if l.ranges {
		tail += "_ranges"
	}
	if l.keep {
		tail += "_keep"
	}
	if e.ways[l.family] > 1 {
		tail += fmt.Sprintf("_to%d", l.way+1)
	}
	tail += "_" + policy.ProtocolName(l.proto) + familySuffix(l.family)
	if l.level > 0 {
		tail += fmt.Sprintf("_then%d", l.level)
	}
	if len(name)+len(tail) > longestName {
		name = name[:longestName-len(tail)-9] + "_" + mark
	}
	return name + tail
}

// sourceSuffix names what happens to the source of what an entry translated.
func (e *entry) sourceSuffix() string {
	switch {
	case e.Masquerade:
		return sourceMasquerade
	case e.Hairpin.OutsideSource:
		return sourceOutside
	}
	return ""
}

const (
	sourceMasquerade = "_masquerade"
	sourceOutside    = "_outside"
)

// fields is what is looked up.
func (l *lookup) fields() []ruleset.Field {
	var out []ruleset.Field
	if l.entry.sourced {
		out = append(out, sources()[l.family])
	}
	if l.entry.aimed {
		out = append(out, destinations()[l.family])
	}
	return append(out, ruleset.DstPort)
}
