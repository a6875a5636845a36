package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// pmtuBlocked is about others that stop the errors by which a host learns that its
// packets are too large: connections open, and then hang.
func pmtuBlocked(h *Host) []Finding {
	if h.Rules.Foreign == nil {
		return nil
	}
	var out []Finding
	examples := h.filterable()
	for i := range examples {
		x := &examples[i]
		if x.out.Verdict != simulate.Forwarded || len(h.stops(x)) > 0 {
			continue // there is worse
		}
		in, _ := h.facts().Link(x.out.Packet.Interface)
		on, _ := h.facts().Link(x.out.Out)
		smaller := on.MTU > 0 && on.MTU < in.MTU
		s, packet := h.errorStopped(x, smaller)
		if s == nil {
			continue
		}
		f := Finding{
			Severity: Risk, Weight: 530,
			Title:    fmt.Sprintf("%s stops the ICMP errors that tell %s to send smaller packets: large ones vanish where a link on the way takes less", programOf(s.chain).chain(s.chain), x.out.Packet.From),
			Evidence: []string{decided(s.chain, s.decision), fmt.Sprintf("%s (%s): packets go from %s to %s", x.entry, x.place, in.Name, on.Name)},
			Mend:     h.letError(s, packet),
		}
		if smaller {
			f.Severity, f.Weight = Broken, 690
			f.Evidence = append(f.Evidence, fmt.Sprintf("link: %s takes %d bytes, %s %d", on.Name, on.MTU, in.Name, in.MTU))
		}
		if !slices.ContainsFunc(out, func(o Finding) bool { return o.Mend[0] == f.Mend[0] && o.Severity >= f.Severity }) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return merged(out, 4)
}

// errorStopped asks whether an error of a router comes back to who sent the packet:
// one from further on, or one of the gateway itself where it has to send some.
func (h *Host) errorStopped(x *passage, ownToo bool) (*stop, *foreign.Packet) {
	o := x.out
	p := foreign.Packet{IPv6: o.Arrived.Source.Is6(), Protocol: 1, ICMPType: 3, State: foreign.StateRelated, Destination: o.Arrived.Source, In: o.Out, Out: o.Packet.Interface}
	if p.IPv6 {
		p.Protocol, p.ICMPType = 58, 2
	}
	own := p
	own.In, own.SourceLocal = "", true
	for _, way := range []struct {
		hook   foreign.Hook
		packet *foreign.Packet
	}{{foreign.Forward, &p}, {foreign.Output, &own}} {
		if way.hook == foreign.Output && !ownToo {
			continue
		}
		for _, c := range h.Rules.Foreign.Base(p.IPv6, way.hook) {
			if c.Type == "nat" || c.Priority <= conntrackPriority {
				continue
			}
			if d := c.Walk(way.packet).Stopped(); d != nil {
				return &stop{x, way.hook, c, d, false}, way.packet
			}
		}
	}
	return nil, nil
}

// letError is how such an error passes.
func (h *Host) letError(s *stop, p *foreign.Packet) []string {
	t := s.chain.Table()
	if before := s.chain.Before(); before != nil && before.Walk(p).Stopped() != nil {
		return h.toTheFront(s.chain)
	}
	if t.Kind == foreign.NFT {
		return []string{fmt.Sprintf("nft 'insert rule %s %s %s ct state related meta l4proto { icmp, ipv6-icmp } accept'", t.Family, t.Name, s.chain.Name)}
	}
	protocol := "icmp"
	if t.Family == "ip6" {
		protocol = "ipv6-icmp"
	}
	return []string{fmt.Sprintf("%s -t %s -I %s%s -p %s -m conntrack --ctstate RELATED -j ACCEPT", xtCommand(t), t.Name, s.chain.Name, behindOurs(s.chain), protocol)}
}
