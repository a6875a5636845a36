package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Status is what is in force now, read from the kernel.
type Status struct {
	Backend    string
	InForce    bool // the kernel holds anything of ours
	Forwarding Forwarding
	Uplinks    []Uplink
	Entries    []Entry
	Conntrack  Conntrack
	// Applied is when a policy was applied last, and its digest; zero where
	// nothing is remembered.
	Applied time.Time
	Digest  string
	Files   []string
	// Drift is how the kernel differs from that policy: nil where there is
	// nothing to compare with.
	Drift *plan.Changes
	// SysctlDrift are settings that the policy needs and that are off.
	SysctlDrift []sysctl.Change
	// RoutingDrift is what apply would do to the routing of symmetric zones,
	// and RoutingProblem why it cannot.
	RoutingDrift   Routing
	RoutingProblem error
}

// Drifted says whether the host is not what was applied last.
func (s *Status) Drifted() bool {
	return s.Drift != nil && !s.Drift.Empty() || len(s.SysctlDrift) > 0 || !s.RoutingDrift.Empty() || s.RoutingProblem != nil
}

// Forwarding is what the kernel does now.
type Forwarding struct{ IPv4, IPv6 bool }

// Uplink is an interface that flows are translated to, and what it holds.
type Uplink struct {
	Zone, Interface string
	Up              bool
	Addresses       []string
}

// Entry is one entry of the policy and what the kernel has counted for it.
type Entry struct {
	Section, Name string
	Place         ruleset.Place
	Flows         uint64 // flows that it translated or let pass
	Packets       uint64 // packets that it refused, for a rule that does
	Bytes         uint64
	Refuses       bool
	LeaksStopped  uint64
	Limited       bool   // it has max_connections
	LimitStopped  uint64 // packets of flows that were one too many
	Forwards      int    // port_forward with a map: how many lines it has
	Pool          *Pool  // snat only
}

// Conntrack is how full the kernel's table of flows is, and what did not get
// into it since the host, or its network namespace, was started.
type Conntrack struct {
	Count, Max uint64
	// InsertFailed are flows whose addresses and ports another one had; Dropped
	// are packets that were dropped with them.
	InsertFailed, Dropped uint64
	// Exhausted explains that, where the policy bounds outside ports; or "".
	Exhausted string
}

// Status reads the host.
func (e *Engine) Status(ctx context.Context) (*Status, error) {
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	have, err := e.Backend.Have(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{Backend: e.Backend.Name(), InForce: !have.Empty()}
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	e.readHost(s)
	var p *policy.Policy
	if remembered.Applied != nil {
		s.Applied, s.Digest = remembered.Applied.Time, remembered.Applied.Digest
		for _, f := range remembered.Applied.Files {
			s.Files = append(s.Files, f.Name)
		}
		if p, err = e.applied(remembered); err != nil {
			return nil, err
		}
		compiled, err := compile.Compile(p, facts.compile())
		if err != nil {
			return nil, err
		}
		want, err := e.Backend.Want(compiled.Ruleset)
		if err != nil {
			return nil, err
		}
		s.Drift = plan.Diff(have, want)
		changes, err := e.forwarding(compiled, facts)
		if err != nil {
			return nil, err
		}
		settings, _, err := e.settings(p, compiled, nil)
		if err != nil {
			return nil, err
		}
		s.SysctlDrift = (&Plan{Sysctls: append(changes, settings...)}).writes()
		s.RoutingDrift, _, s.RoutingProblem = facts.routingOf(compiled.Uplinks)
		p = facts.compile().Resolve(p)
		s.uplinks(p, facts)
	}
	s.entries(have, p)
	if err := e.readFlows(s, p, facts); err != nil {
		return nil, err
	}
	return s, nil
}

// readFlows reads what the table of flows tells of the policy in force.
func (e *Engine) readFlows(s *Status, p *policy.Policy, facts hostFacts) error {
	if p == nil || !s.InForce {
		return nil
	}
	// Like the rest of what is read of the host: a kernel that cannot tell has
	// nothing to say.
	if failures, err := e.failures(); err == nil {
		s.Conntrack.InsertFailed, s.Conntrack.Dropped = failures.Inserts, failures.Drops
		s.Conntrack.Exhausted = exhausted(p, failures.Inserts)
	}
	pools, err := e.pools(p, facts)
	for i := range pools {
		at := slices.IndexFunc(s.Entries, func(e Entry) bool { return e.Section == "snat" && e.Name == p.SNAT[i].Name })
		s.Entries[at].Pool = &pools[i]
	}
	return err
}

func (e *Engine) readHost(s *Status) {
	_ = e.NetNS.Do(func() error {
		number := func(name string) uint64 {
			text, err := sysctl.Get(name)
			if err != nil {
				return 0
			}
			n, _ := strconv.ParseUint(text, 10, 64)
			return n
		}
		s.Forwarding.IPv4 = number("net/ipv4/ip_forward") == 1
		s.Forwarding.IPv6 = number("net/ipv6/conf/all/forwarding") == 1
		s.Conntrack.Count = number("net/netfilter/nf_conntrack_count")
		s.Conntrack.Max = number("net/netfilter/nf_conntrack_max")
		return nil
	})
}

// uplinks lists the interfaces of zones that flows are translated to.
func (s *Status) uplinks(p *policy.Policy, f hostFacts) {
	seen := map[string]bool{}
	var to [][]policy.ZoneRef
	for i := range p.OneToOne {
		to = append(to, []policy.ZoneRef{p.OneToOne[i].Zone})
	}
	for i := range p.SNAT {
		to = append(to, p.SNAT[i].To)
	}
	for i := range p.Masquerade {
		to = append(to, p.Masquerade[i].To)
	}
	for _, refs := range to {
		for _, ref := range refs {
			z := p.Zone(ref.Name)
			if z == nil || seen[z.Name] {
				continue
			}
			seen[z.Name] = true
			for _, i := range z.Interfaces {
				found := false
				for _, l := range f.Links {
					if !i.Matches(l.Name) {
						continue
					}
					found = true
					u := Uplink{Zone: z.Name, Interface: l.Name, Up: l.Up && l.Carrier}
					for _, a := range l.Addresses {
						if !a.Prefix.Addr().IsLinkLocalUnicast() {
							u.Addresses = append(u.Addresses, a.Prefix.String())
						}
					}
					s.Uplinks = append(s.Uplinks, u)
				}
				if !found {
					s.Uplinks = append(s.Uplinks, Uplink{Zone: z.Name, Interface: i.String()})
				}
			}
		}
	}
}

// entries puts the kernel's counters together by entry, in the order of the
// policy, then those that only the kernel knows.
func (s *Status) entries(have *plan.Snapshot, p *policy.Policy) {
	index := map[string]int{}
	// A rule may be called default too, so that the key of what stands behind
	// all rules is the name of its counter.
	keyed := func(key, entry string) *Entry {
		i, ok := index[key]
		if !ok {
			i = len(s.Entries)
			index[key] = i
			section, name, _ := strings.Cut(entry, " ")
			s.Entries = append(s.Entries, Entry{Section: section, Name: name})
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
			e.Bytes += c.Bytes
			if e.Refuses {
				e.Packets += c.Packets
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
