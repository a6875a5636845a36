package engine

import (
	"context"
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
}

// Drifted says whether the host is not what was applied last.
func (s *Status) Drifted() bool {
	return s.Drift != nil && !s.Drift.Empty() || len(s.SysctlDrift) > 0
}

// Forwarding is what the kernel does now.
type Forwarding struct{ IPv4, IPv6 bool }

// Uplink is an interface that flows are masqueraded to, and what it holds.
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
	Forwards      int // port_forward with a map: how many lines it has
}

// Conntrack is how full the kernel's table of flows is.
type Conntrack struct{ Count, Max uint64 }

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
		s.SysctlDrift = (&Plan{Sysctls: changes}).writes()
		s.uplinks(p, facts)
	}
	s.entries(have, p)
	return s, nil
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

// uplinks lists the interfaces of zones that flows are masqueraded to.
func (s *Status) uplinks(p *policy.Policy, f hostFacts) {
	seen := map[string]bool{}
	for _, m := range p.Masquerade {
		for _, ref := range m.To {
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
	at := func(entry string) *Entry {
		i, ok := index[entry]
		if !ok {
			i = len(s.Entries)
			index[entry] = i
			section, name, _ := strings.Cut(entry, " ")
			s.Entries = append(s.Entries, Entry{Section: section, Name: name})
		}
		return &s.Entries[i]
	}
	if p != nil {
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
		for _, r := range p.Forward.Rules {
			e := at("forward " + r.Name)
			e.Place = ruleset.Place(r.Place)
			e.Refuses = r.Action != policy.Accept
		}
		if len(p.Zones) > 0 {
			e := at("forward default")
			e.Place = ruleset.Place(p.Forward.Place)
			e.Refuses = p.Forward.Default != policy.Accept
		}
	}
	for _, c := range have.Counters {
		switch {
		case strings.HasPrefix(c.Name, "leak_stopped_"):
			at(c.Origin.Entry).LeaksStopped += c.Packets
		case c.Origin.Entry != "":
			e := at(c.Origin.Entry)
			if e.Section == "invalid" {
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
		if !strings.HasPrefix(set.Name, "port_forward_") {
			continue
		}
		for i := range set.Elements.Len() {
			if o := have.ElementOrigin(set, i); o.Entry != "port_forward" {
				e := at(o.Entry)
				e.Flows += set.Elements.CountAt(i).Packets
			}
		}
	}
}
