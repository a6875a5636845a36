package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Status is what is in force now, read from the kernel.
type Status struct {
	Backend string
	InForce bool // the kernel holds anything of ours
	// Left are other backends that hold rules of ours: of an apply that did not
	// come to its end, or of one that nobody remembers.
	Left       []string
	Forwarding Forwarding
	Uplinks    []Uplink
	Entries    []Entry
	Conntrack  Conntrack
	// FlowsCounted says that the flows of entries were counted: what is open,
	// of limits and of pools. The kernel does not count them by entry: the whole
	// table has to be read.
	FlowsCounted bool
	// FlowsProblem is why the kernel tells nothing of flows, if it does not.
	FlowsProblem error
	// TrafficCounted says that the kernel counts the packets and bytes of flows
	// (nf_conntrack_acct), and that they were added up.
	TrafficCounted bool
	// Warnings are about what is nearly full.
	Warnings []Warning
	// Applied is when a policy was applied last, and its digest; zero where
	// nothing is remembered.
	Applied time.Time
	Digest  string
	Files   []string
	// Unconfirmed is what waits to be confirmed, or nil, and Lapsed the digest of
	// what was not when the machine stopped.
	Unconfirmed *Unconfirmed
	Lapsed      string
	// Drift is how the kernel differs from that policy: nil where there is
	// nothing to compare with.
	Drift *plan.Changes
	// SysctlDrift are settings that the policy needs and that are off.
	SysctlDrift []sysctl.Change
	// RoutingDrift is what apply would do to the routing of symmetric zones,
	// and RoutingProblem why it cannot.
	RoutingDrift   Routing
	RoutingProblem error
	// Docker are the chains that Docker leaves to users, where the policy has it
	// let pass what it accepts, and DockerDrift what apply would do to them.
	Docker        []ruleset.UserChain
	DockerDrift   Docker
	DockerProblem error
	// Foreign are chains of others that can override our rules, and ForeignProblem
	// is why not all of them are known.
	Foreign        []ForeignChain
	ForeignProblem error
	// rows of Entries, by section and name.
	rows map[string][]int
}

// Drifted says whether the host is not what was applied last.
func (s *Status) Drifted() bool {
	return len(s.Left) > 0 || s.Drift != nil && !s.Drift.Empty() || len(s.SysctlDrift) > 0 || !s.RoutingDrift.Empty() || s.RoutingProblem != nil || !s.DockerDrift.Empty() || s.DockerProblem != nil
}

// Forwarding is what the kernel does now.
type Forwarding struct{ IPv4, IPv6 bool }

// Uplink is an interface that flows are translated to, and what it holds.
type Uplink struct {
	Zone, Interface string
	Up              bool
	Addresses       []string
}

// Conntrack is how full the kernel's table of flows is, and what did not get
// into it since the host, or its network namespace, was started.
type Conntrack struct {
	Count, Max uint64
	// InsertFailed are flows whose addresses and ports another one had; Dropped
	// are packets that were dropped with them, or because the table was full.
	InsertFailed, Dropped uint64
	// EarlyDropped are flows that nobody had answered, and that were thrown out
	// of a full table for new ones.
	EarlyDropped uint64
	// Exhausted explains that, where the policy bounds outside ports; or "".
	Exhausted string
}

// Status reads the host.
func (e *Engine) Status(ctx context.Context) (*Status, error) {
	done := e.step("state")
	remembered, err := e.remembered(ctx)
	if err != nil {
		return nil, err
	}
	done()
	done = e.step("facts")
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	done()
	s := &Status{Backend: e.Backend.Name(), Unconfirmed: e.waiting(remembered.Unconfirmed)}
	if remembered.Lapsed != nil {
		s.Lapsed = remembered.Lapsed.Digest
	}
	e.readHost(s)
	e.foreignChains(s)
	if remembered.Applied == nil {
		have, err := e.Backend.Have(ctx)
		if err != nil {
			return nil, err
		}
		s.InForce = !have.Empty()
		s.entries(have, nil)
		e.readFailures(s, nil)
		s.warnings(nil, e.fixedMax())
		return s, nil
	}
	done = e.step("compare")
	compiled, p, err := e.compareApplied(ctx, s, remembered, facts)
	if err != nil {
		return nil, err
	}
	done()
	e.readFailures(s, p)
	s.bounds(p)
	if s.InForce && (e.CountFlows || s.Conntrack.Count <= CountedAtOnce) {
		done = e.step("flows")
		if err := e.follows(); err != nil {
			s.FlowsProblem = err
		} else if err := e.countFlows(s, compiled.Ruleset, p); err != nil {
			return nil, err
		}
		done()
	}
	s.warnings(p, e.fixedMax())
	return s, nil
}

// compareApplied compares the host with the policy that was applied last, which
// it gives resolved.
func (e *Engine) compareApplied(ctx context.Context, s *Status, remembered *state.State, facts hostFacts) (*compile.Result, *policy.Policy, error) {
	s.Applied, s.Digest = remembered.Applied.Time, remembered.Applied.Digest
	for _, f := range remembered.Applied.Files {
		s.Files = append(s.Files, f.Name)
	}
	p, err := e.applied(remembered)
	if err != nil {
		return nil, nil, err
	}
	e.withDocker(p, &facts)
	compiled, err := compile.Compile(p, facts.compile())
	if err != nil {
		return nil, nil, err
	}
	want, err := e.Backend.Want(compiled.Ruleset)
	if err != nil {
		return nil, nil, err
	}
	have, err := e.have(ctx, remembered, func() *plan.Snapshot {
		if want.Digest() != remembered.Rules {
			return nil
		}
		return want
	})
	if err != nil {
		return nil, nil, err
	}
	s.InForce, s.Drift = !have.Empty(), plan.Diff(have, want)
	changes, err := e.forwarding(compiled, facts)
	if err != nil {
		return nil, nil, err
	}
	settings, _, err := e.settings(p, compiled, nil)
	if err != nil {
		return nil, nil, err
	}
	s.SysctlDrift = (&Plan{Sysctls: append(changes, settings...)}).writes()
	s.RoutingDrift, _, s.RoutingProblem = facts.routingOf(compiled.Uplinks)
	if facts.docker != nil {
		s.Docker = facts.docker.Chains
	}
	s.DockerDrift, s.DockerProblem = e.dockerChanges(ctx, p, compiled.Ruleset.Docker, facts, remembered)
	p = facts.compile().Resolve(p)
	s.uplinks(p, facts)
	s.entries(have, p)
	return compiled, p, nil
}

// readFailures reads what connection tracking could not do. Like the rest of
// what is read of the host: a kernel that cannot tell has nothing to say.
func (e *Engine) readFailures(s *Status, p *policy.Policy) {
	failures, err := e.failures()
	if err != nil {
		return
	}
	s.Conntrack.InsertFailed, s.Conntrack.Dropped, s.Conntrack.EarlyDropped = failures.Inserts, failures.Drops, failures.EarlyDrops
	if p != nil && s.InForce {
		s.Conntrack.Exhausted = exhausted(p, failures.Inserts)
	}
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
		s.Conntrack.Max = number(conntrackMax)
		s.TrafficCounted = number("net/netfilter/nf_conntrack_acct") == 1
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
