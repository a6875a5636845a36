package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// ownership tells the flows that a policy translated from those that others
// did: Docker and libvirt translate too, and theirs are not ours to cut. It
// looks at tuples alone, so it takes nobody's mark.
type ownership struct {
	inside    []insideOf
	targets   map[target]bool
	own       map[netip.Addr]bool // addresses of the host
	redirects []policy.Redirect
	mapped    []policy.OneToOne
	helpers   bool // expected flows may be ours
}

// insideOf is where the flows of a masquerade or snat entry come from.
type insideOf struct {
	networks  []policy.Address // empty: anywhere but foreign
	foreign   []netip.Prefix   // networks on interfaces that are not the zone's
	protocols []policy.Protocol
	pool      []policy.Address // snat: what their sources became
}

// target is where a port forward leads, by what answers come from.
type target struct {
	addr  netip.Addr
	proto uint8
}

// translating reads the policy that was applied last. It is nil where nothing
// is remembered.
func (e *Engine) translating(s *state.State) (*ownership, error) {
	if s.Applied == nil {
		return nil, nil
	}
	p, err := e.applied(s)
	if err != nil {
		return nil, err
	}
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	p = facts.compile().Resolve(p)
	o := &ownership{targets: map[target]bool{}, own: map[netip.Addr]bool{}, redirects: p.Redirect, mapped: p.OneToOne, helpers: readsAlong(p)}
	for _, l := range facts.Links {
		for _, a := range l.Addresses {
			o.own[a.Prefix.Addr()] = true
		}
	}
	for _, m := range p.Masquerade {
		for _, z := range p.Zones {
			if slices.ContainsFunc(m.From, func(r policy.ZoneRef) bool { return r.Any || r.Name == z.Name }) {
				o.inside = append(o.inside, insideOf{networks: z.Networks, foreign: facts.elsewhere(z), protocols: m.Protocols})
			}
		}
	}
	for i := range p.SNAT {
		o.inside = append(o.inside, facts.insideOf(p, &p.SNAT[i])...)
	}
	for _, f := range p.PortForward {
		if f.Map != nil {
			for _, l := range f.Map.Lines {
				o.targets[target{l.Addr, l.Protocol}] = true
			}
		}
		for _, proto := range f.Protocols {
			for _, to := range f.AllTargets() {
				o.targets[target{to.Addr, proto.Number}] = true
			}
		}
	}
	return o, nil
}

// elsewhere are the networks that the host holds on interfaces of which none
// is the zone's, such as Docker's bridges.
func (f hostFacts) elsewhere(z policy.Zone) []netip.Prefix {
	var out []netip.Prefix
	if len(z.Interfaces) == 0 {
		return nil
	}
	for _, l := range f.Links {
		if slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) }) {
			continue
		}
		for _, a := range l.Addresses {
			out = append(out, a.Prefix.Masked())
		}
	}
	return out
}

// applied parses the policy of the last apply anew.
func (e *Engine) applied(s *state.State) (*policy.Policy, error) {
	stored, err := e.State.LoadPolicy(s.Applied.Digest)
	if err != nil {
		return nil, fmt.Errorf("read the policy that was applied last: %w", err)
	}
	sources := make([]policy.Source, len(stored))
	for i, x := range stored {
		sources[i] = policy.Source{Name: x.Name, Text: x.Text}
	}
	return policy.Reparse(sources)
}

func (o *ownership) owns(f conntrack.Flow) bool {
	if f.DNAT() && (o.targets[target{f.Reply.Source, f.Protocol}] || o.redirected(f)) {
		return true
	}
	if slices.ContainsFunc(o.mapped, func(m policy.OneToOne) bool {
		return f.DNAT() && m.Outside.Contains(f.Original.Destination) && m.Inside.Contains(f.Reply.Source) ||
			f.SNAT() && m.Inside.Contains(f.Original.Source) && m.Outside.Contains(f.Reply.Destination)
	}) {
		return true
	}
	return f.SNAT() && slices.ContainsFunc(o.inside, func(i insideOf) bool { return i.owns(f) }) || o.ownsExpected(f)
}

// redirected says whether a flow may be one that a redirect handed to the host.
func (o *ownership) redirected(f conntrack.Flow) bool {
	return o.own[f.Reply.Source] && slices.ContainsFunc(o.redirects, func(r policy.Redirect) bool {
		return slices.ContainsFunc(r.Protocols, func(p policy.Protocol) bool { return p.Number == f.Protocol }) &&
			(r.ToPort == 0 || r.ToPort == f.Reply.SourcePort)
	})
}

func (i insideOf) owns(f conntrack.Flow) bool {
	if len(i.protocols) > 0 && !slices.ContainsFunc(i.protocols, func(p policy.Protocol) bool { return p.Number == f.Protocol }) {
		return false
	}
	return i.holds(f.Original.Source, f.Reply.Destination)
}

// holds says whether an address is one of an entry's hosts, and what it became
// outside one that the entry gives.
func (i insideOf) holds(source, became netip.Addr) bool {
	if len(i.pool) > 0 && !among(i.pool, became) {
		return false
	}
	if len(i.networks) == 0 {
		return !slices.ContainsFunc(i.foreign, func(p netip.Prefix) bool { return p.Contains(source) })
	}
	return among(i.networks, source)
}

// among says whether an address is, or in a set may be, one of a list.
func among(list []policy.Address, x netip.Addr) bool {
	return slices.ContainsFunc(list, func(a policy.Address) bool {
		return a.Set != "" || a.Low.Is4() == x.Is4() && a.Low.Compare(x) <= 0 && x.Compare(a.High) <= 0
	})
}

// flows counts the flows in the kernel's table that are ours, and hands each
// to do, unless that is nil.
func (e *Engine) flows(ours *ownership, do func(*conntrack.Conn, conntrack.Flow) error) (int, error) {
	if ours == nil {
		return 0, nil
	}
	n := 0
	err := e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		var failed error
		err = c.Translated(func(f conntrack.Flow) bool {
			if !ours.owns(f) {
				return true
			}
			if do != nil {
				failed = do(c, f)
			}
			n++
			return failed == nil
		})
		if err == nil {
			err = failed
		}
		return err
	})
	if err != nil {
		return n, fmt.Errorf("cut translated flows: %w", err)
	}
	return n, nil
}
