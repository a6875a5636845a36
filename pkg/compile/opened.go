package compile

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// openedChain is where forward looks whether a translated flow is one that a
// port forward of ours translated.
const openedChain = "forward_opened"

// opened is a set of paths that port forwards opened: the target as the packet
// now has it, and the port that the flow was first sent to. A flow that
// another tool translated, or that goes straight to the target, is not in it.
type opened struct {
	openedKind
	name  string
	paths []path
}

type openedKind struct {
	family int
	proto  uint8
	shape  shape
	source string // a suffix of sourceSuffix
}

// shape is how the ports of a path are told.
type shape uint8

const (
	onePort  shape = iota // one port to one port
	oneOfAll              // a range to one port
	samePort              // a range, each port to itself
)

// path leads from the ports first to last to a target; to is 0 where the port
// is kept. Addresses are numbers, so that sorting is quick.
type path struct {
	targetHigh, targetLow uint64
	to, first, last       uint16
}

func comparePaths(a, b path) int {
	switch {
	case a.targetHigh != b.targetHigh:
		return cmp.Compare(a.targetHigh, b.targetHigh)
	case a.targetLow != b.targetLow:
		return cmp.Compare(a.targetLow, b.targetLow)
	case a.to != b.to:
		return int(a.to) - int(b.to)
	}
	return int(a.first) - int(b.first)
}

func numbers(a netip.Addr) (high, low uint64) {
	if a.Is4() {
		v := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(v[:]))
	}
	v := a.As16()
	return binary.BigEndian.Uint64(v[:8]), binary.BigEndian.Uint64(v[8:])
}

// findOpened gathers the paths of all claims.
func (c *compiler) findOpened(f *forwards) {
	made := map[openedKind]*opened{}
	var o *opened
	for _, l := range f.lookups {
		if l.entry.loopback {
			continue // the gateway's own connections are not forwarded
		}
		for _, claim := range l.claims {
			k := &f.claims[claim]
			kind := openedKind{l.family, l.proto, onePort, l.entry.sourceSuffix()}
			switch {
			case k.single():
			case k.keeps():
				kind.shape = samePort
			default:
				kind.shape = oneOfAll
			}
			if o == nil || o.openedKind != kind {
				if o = made[kind]; o == nil {
					name := "opened" + kind.source + [...]string{"", "_ranges", "_keep"}[kind.shape]
					o = &opened{openedKind: kind, name: name + "_" + policy.ProtocolName(kind.proto) + familySuffix(kind.family)}
					o.paths = make([]path, 0, len(l.claims))
					made[kind] = o
					f.opened = append(f.opened, o)
				}
			}
			o.add(k)
		}
	}
	slices.SortFunc(f.opened, func(a, b *opened) int { return cmp.Compare(a.name, b.name) })
	for _, o := range f.opened {
		o.merge()
		c.out.Sets = append(c.out.Sets, o.set())
	}
}

func (o *opened) add(k *claim) {
	high, low := numbers(k.target)
	k.each(func(first, last, port uint16) {
		if o.shape == samePort {
			port = 0
		}
		o.paths = append(o.paths, path{high, low, port, first, last})
	})
}

// merge joins paths that several entries opened.
func (o *opened) merge() {
	switch {
	case slices.IsSortedFunc(o.paths, comparePaths):
	case o.family == 0 && o.shape == onePort:
		sortPacked(o.paths)
	default:
		slices.SortFunc(o.paths, comparePaths)
	}
	out := o.paths[:0]
	for _, p := range o.paths {
		if n := len(out); n > 0 {
			q := &out[n-1]
			if q.targetHigh == p.targetHigh && q.targetLow == p.targetLow && q.to == p.to && p.first <= q.last {
				q.last = max(q.last, p.last)
				continue
			}
		}
		out = append(out, p)
	}
	o.paths = out
}

// sortPacked sorts paths of one port to an IPv4 target, which fit in a word
// each. Nearly all are of this kind, and sorting them is most of the work.
func sortPacked(paths []path) {
	words := make([]uint64, len(paths))
	for i, p := range paths {
		words[i] = p.targetLow<<32 | uint64(p.to)<<16 | uint64(p.first)
	}
	slices.Sort(words)
	for i, w := range words {
		paths[i] = path{0, w >> 32, uint16(w >> 16), uint16(w), uint16(w)}
	}
}

// set makes the set of the paths, which are in the order of their keys.
func (o *opened) set() *ruleset.Set {
	address := destinations()[o.family].Type()
	s := ruleset.NewSet(o.name, []ruleset.Type{address, ruleset.InetService, ruleset.InetService}, nil)
	s.Interval, s.Origin = o.shape != onePort, own("port_forward")
	s.Grow(len(o.paths))
	var low, high [24]byte
	for i := range o.paths {
		p := &o.paths[i]
		to, toLast := p.to, p.to
		if o.shape == samePort {
			to, toLast = p.first, p.last
		}
		s.Add(o.key(low[:0], p, to, p.first), o.key(high[:0], p, toLast, p.last), nil, ruleset.NoOrigin)
	}
	return s
}

func (o *opened) key(b []byte, p *path, to, first uint16) []byte {
	if o.family == 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(p.targetLow))
	} else {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, p.targetHigh), p.targetLow)
	}
	return append(b, byte(to>>8), byte(to), 0, 0, byte(first>>8), byte(first), 0, 0)
}

// match finds a packet among the paths.
func (o *opened) match() []ruleset.Match {
	return []ruleset.Match{
		isFamily(o.family), equal(ruleset.L4Proto, o.proto),
		in(o.name, destinations()[o.family], ruleset.DstPort, ruleset.CtOrigProtoDst),
	}
}

// opened makes the chain that looks into the sets.
func (c *compiler) opened(f *forwards) {
	if len(f.opened) == 0 {
		return
	}
	ch := c.chain(openedChain, own("port_forward"))
	for _, o := range f.opened {
		c.rule(ch, own("port_forward"), pass(), o.match()...)
	}
}
