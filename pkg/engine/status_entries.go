package engine

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Entry is one entry of the policy and what the kernel has counted for it.
type Entry struct {
	Section, Name string
	Place         ruleset.Place
	Flows         uint64 // flows that it translated or let pass, since it is there
	Packets       uint64 // packets that it refused, for a rule that does
	Bytes         uint64 // of these
	Refuses       bool
	LeaksStopped  uint64
	Limited       bool   // it has max_connections
	LimitStopped  uint64 // packets of flows that were one too many
	Forwards      int    // port_forward with a map: how many lines it has
	Limit         *Limit // max_connections; nil: none
	Open          Open
	Targets       []Target // port_forward with several
	Pool          *Pool    // snat only
}

// Open is what the kernel's table holds of an entry's flows, where
// Status.FlowsCounted. A flow is of the entry that translated it or, where none
// did, of the one that let it pass.
type Open struct {
	Flows int
	// Packets and Bytes are of both directions, where Status.TrafficCounted and
	// since each flow began.
	Packets, Bytes uint64
}

// Limit is an entry's max_connections, 0 where there is none of a kind. The use
// is known where Status.FlowsCounted. The kernel counts neither TCP connections
// that have ended nor what helpers have announced, as FTP's data connections, so
// that it may be less than Open.Flows.
type Limit struct {
	Total, PerHost uint32
	Used           int
	// Busiest is the host with the most of them, BusiestUsed; where PerHost.
	Busiest     netip.Addr
	BusiestUsed int
}

// Target is one of several targets, and the flows that it has.
type Target struct {
	Target string // as the policy has it
	Flows  int
}

// entries puts the kernel's counters together by entry, in the order of the
// policy, then those that only the kernel knows.
func (s *Status) entries(have *plan.Snapshot, p *policy.Policy) {
	index := map[string]int{}
	s.rows = map[string][]int{}
	// A rule may be called default too, so that the key of what stands behind
	// all rules is the name of its counter.
	keyed := func(key, entry string) *Entry {
		i, ok := index[key]
		if !ok {
			i = len(s.Entries)
			index[key] = i
			section, name, _ := strings.Cut(entry, " ")
			s.Entries = append(s.Entries, Entry{Section: section, Name: name})
			s.rows[entry] = append(s.rows[entry], i)
		}
		return &s.Entries[i]
	}
	at := func(entry string) *Entry { return keyed(entry, entry) }
	if p != nil {
		for i := range p.OneToOne {
			at("one_to_one " + p.OneToOne[i].Name).Place = ruleset.Place(p.OneToOne[i].Place)
		}
		for i := range p.SNAT {
			at("snat " + p.SNAT[i].Name).Place = ruleset.Place(p.SNAT[i].Place)
		}
		for _, m := range p.Masquerade {
			at("masquerade " + m.Name).Place = ruleset.Place(m.Place)
		}
		for _, f := range p.PortForward {
			e := at("port_forward " + f.Name)
			e.Place = ruleset.Place(f.Place)
			if f.Map != nil {
				e.Forwards = len(f.Map.Lines)
			}
		}
		for _, r := range p.Redirect {
			at("redirect " + r.Name).Place = ruleset.Place(r.Place)
		}
		filter := func(section string, f *policy.Forward) {
			for _, r := range f.Rules {
				e := at(section + " " + r.Name)
				e.Place = ruleset.Place(r.Place)
				e.Refuses = r.Action != policy.Accept
			}
			if len(p.Zones) > 0 {
				e := keyed("default_"+section, section+" default")
				e.Place = ruleset.Place(f.Place)
				e.Refuses = f.Default != policy.Accept
			}
		}
		filter("forward", &p.Forward)
		if p.Input != nil {
			filter("input", p.Input)
		}
	}
	for _, c := range have.Counters {
		switch {
		case strings.HasPrefix(c.Name, "leak_stopped_"):
			at(c.Origin.Entry).LeaksStopped += c.Packets
		case strings.HasPrefix(c.Name, "+"): // elements of sets, where the backend has no sets
			at(c.Origin.Entry).Flows += c.Packets
		case strings.HasPrefix(c.Name, "limit_stopped_"):
			e := at(c.Origin.Entry)
			e.Limited, e.LimitStopped = true, e.LimitStopped+c.Packets
		case c.Origin.Entry != "":
			key := c.Origin.Entry
			if strings.HasPrefix(c.Name, "default_") {
				key = c.Name
			}
			e := keyed(key, c.Origin.Entry)
			if slices.Contains([]string{"invalid", "closed", "one_to_one", "antispoof"}, e.Section) {
				e.Refuses = true
			}
			if e.Refuses {
				e.Packets, e.Bytes = e.Packets+c.Packets, e.Bytes+c.Bytes
			} else {
				e.Flows += c.Packets
			}
		}
	}
	for _, set := range have.Sets {
		if !strings.HasPrefix(set.Name, "port_forward_") && !strings.HasPrefix(set.Name, "one_to_one_") {
			continue
		}
		for i := range set.Elements.Len() {
			switch o, n := have.ElementOrigin(set, i), set.Elements.CountAt(i).Packets; {
			case !strings.Contains(o.Entry, " "): // the section, not an entry of it
			case strings.HasPrefix(set.Name, "one_to_one_leaks_"):
				at(o.Entry).LeaksStopped += n
			default:
				at(o.Entry).Flows += n
			}
		}
	}
}
