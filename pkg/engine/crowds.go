package engine

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// An outside address has its ports for each destination anew: a flow needs a
// combination of outside address, port and destination that no other flow has.
// So a pool is not full or empty as such. What fills up is a crowd: flows of one
// protocol with one outside address and one destination.

// crowd is flows of which each needs an outside port of its own.
type crowd struct {
	row      int        // in Status.Entries
	host     netip.Addr // where each host has ports of its own
	outside  netip.Addr
	protocol uint8
	to       netip.AddrPort // what answers
}

// sharing is how the flows of an entry share outside ports.
type sharing struct {
	ports   int  // for a crowd
	perHost bool // ports_per_host
	bounded bool // by outside_ports
}

// sharing finds the entries whose flows share outside ports, by their rows.
func (s *Status) sharing(p *policy.Policy) map[int]*sharing {
	out := map[int]*sharing{}
	note := func(section string, m *policy.Masquerade, perHost uint16) {
		row := s.find(section+" "+m.Name, m.Place)
		if row < 0 {
			return
		}
		x := &sharing{ports: outsideRoom(p, m.OutsidePorts), bounded: m.OutsidePorts != nil}
		if perHost > 0 {
			x.ports, x.perHost = int(perHost), true
		}
		out[row] = x
	}
	for i := range p.SNAT {
		note("snat", &p.SNAT[i].Masquerade, p.SNAT[i].PortsPerHost)
	}
	for i := range p.Masquerade {
		note("masquerade", &p.Masquerade[i], 0)
	}
	return out
}

// outsideRoom is how many outside ports an entry may use. Without bounds the
// kernel moves a port that is taken to another one of 1024 to 65535.
func outsideRoom(p *policy.Policy, bounds *policy.Ports) int {
	all := policy.Ports{First: 1024, Last: 65535}
	if bounds != nil {
		all = *bounds
	}
	room := all.Count()
	for _, r := range p.Gateway.ReservedPorts {
		if first, last := max(r.First, all.First), min(r.Last, all.Last); first <= last {
			room -= int(last-first) + 1
		}
	}
	return max(room, 1)
}

func (x *sharing) crowd(row int, f *conntrack.Flow) crowd {
	c := crowd{row: row, outside: f.Reply.Destination, protocol: f.Protocol, to: netip.AddrPortFrom(f.Reply.Source, f.Reply.SourcePort)}
	if x.perHost {
		c.host = f.Original.Source
	}
	return c
}

// crowds finds the crowds that are large. A table may have as many crowds as
// flows: a first reading counts by a hash, of which several crowds may have the
// same, and a second one only those that may be large.
type crowds struct {
	seed       maphash.Seed
	hashed     []uint32
	large      []bool // by hash
	suspicious bool   // any is
	exact      map[crowd]int
}

const crowdHashes = 1 << 16

func newCrowds() *crowds {
	return &crowds{maphash.MakeSeed(), make([]uint32, crowdHashes), make([]bool, crowdHashes), false, map[crowd]int{}}
}

func (c *crowds) hash(x crowd) uint64 { return maphash.Comparable(c.seed, x) % crowdHashes }

// add counts a flow of a crowd that has room for so many.
func (c *crowds) add(x crowd, room int) {
	h := c.hash(x)
	c.hashed[h]++
	if nearlyFull(uint64(c.hashed[h]), uint64(room)) {
		c.large[h], c.suspicious = true, true
	}
}

// count is add of the second reading.
func (c *crowds) count(x crowd) {
	if c.large[c.hash(x)] {
		c.exact[x]++
	}
}

// crowded warns of the fullest crowd of each entry, where one is nearly full.
func (u *uses) crowded() (warnings []Warning) {
	type fullest struct {
		crowd
		flows, more int
	}
	byRow := map[int]*fullest{}
	for x, n := range u.ports.exact {
		if !nearlyFull(uint64(n), uint64(u.pools[x.row].ports)) {
			continue
		}
		f := byRow[x.row]
		if f == nil {
			byRow[x.row] = &fullest{x, n, 0}
			continue
		}
		f.more++
		if n > f.flows || n == f.flows && x.to.Compare(f.to) < 0 {
			f.crowd, f.flows = x, n
		}
	}
	for row := range u.status.Entries {
		f, e := byRow[row], &u.status.Entries[row]
		if f == nil {
			continue
		}
		shared := u.pools[row]
		w := Warning{About: e.Section + " " + e.Name, Used: uint64(f.flows), Of: uint64(shared.ports)}
		whose := "of " + f.outside.String()
		if shared.perHost {
			whose += " for " + f.host.String()
		}
		w.Message = fmt.Sprintf("%d of the %d outside ports %s are taken towards %s; when all are, no further connection gets there", w.Used, w.Of, whose, policy.ProtocolName(f.protocol)+" "+f.to.String())
		if f.more > 0 {
			w.Message += fmt.Sprintf(" (and as much towards %d more)", f.more)
		}
		switch {
		case shared.perHost:
			w.Setting, w.Suggested = "ports_per_host", 2*w.Of
			w.Message += fmt.Sprintf("; raise `ports_per_host` to %d, say", w.Suggested)
		case e.Section == "snat":
			w.Message += "; give the entry more `addresses`" + widen(shared)
		default:
			w.Message += "; have a `snat` entry with several `addresses` instead" + widen(shared)
		}
		warnings = append(warnings, w)
	}
	return slices.Clip(warnings)
}

func widen(s *sharing) string {
	if s.bounded {
		return " or wider `outside_ports`"
	}
	return ""
}
