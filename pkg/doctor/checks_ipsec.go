package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

func readIPsec(_ context.Context, h *Host) error {
	err := h.do(func() (err error) {
		h.Rules.IPsec, err = link.IPsecPolicies()
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if n := len(h.Rules.IPsec); n > 0 {
		h.looked(n, "IPsec policy", "IPsec policies")
	}
	return err
}

// secured is a packet at a place where the kernel asks IPsec's policies.
type secured struct {
	direction                   string
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	answer                      bool
}

// securedOf are the places of a passage and of its answer. What comes is asked for
// by the addresses that it came with, what leaves by those that it has behind the
// translation of its destination, and again behind that of its source
// (__xfrm_policy_check, xfrm4_route_forward and nf_xfrm_me_harder).
func securedOf(x *passage) (out []secured) {
	o := x.out
	switch o.Verdict {
	case simulate.Forwarded:
		a, l := o.Arrived, o.Left
		return []secured{
			{"fwd", a.Source, a.Destination, x.sourcePort, a.DestinationPort, false},
			{"out", a.Source, l.Destination, x.sourcePort, l.DestinationPort, false},
			{"out", l.Source, l.Destination, 0, l.DestinationPort, false},
			{"fwd", l.Destination, l.Source, l.DestinationPort, 0, true},
			{"out", l.Destination, a.Source, l.DestinationPort, x.sourcePort, true},
		}
	case simulate.Delivered:
		return []secured{{"in", o.Arrived.Source, o.Arrived.Destination, x.sourcePort, o.Arrived.DestinationPort, false}}
	}
	return nil
}

// ipsecBlocks is about policies of IPsec that stop what the policy lets pass in
// the clear.
func ipsecBlocks(h *Host) (out []Finding) {
	if len(h.Rules.IPsec) == 0 {
		return nil
	}
	told := map[string]bool{}
	passages := h.passages()
	for i := range passages {
		x := &passages[i]
		for _, s := range securedOf(x) {
			p := h.deciding(x, &s)
			if p == nil || told[p.String()] {
				continue
			}
			told[p.String()] = true
			who := "what " + x.entry + " lets pass"
			if s.answer {
				who = "the answers to " + who
			}
			f := Finding{
				Severity: Broken, Weight: 753,
				Title:    fmt.Sprintf("a policy of IPsec blocks %s, from %s to %s", who, s.source, s.destination),
				Evidence: []string{"ip xfrm policy: " + p.String()},
				Mend:     []string{"# if it is not meant:", "ip xfrm policy delete " + p.Selector()},
			}
			if !p.Blocks {
				f.Title = fmt.Sprintf("a policy of IPsec wants %s, from %s to %s, encrypted", who, s.source, s.destination)
			}
			out = append(out, f)
		}
	}
	return merged(out, 4)
}

// deciding finds the policy that stops a packet, or nil. Of one for a part of what
// an entry leaves open nothing is said, nor of one that asks for more.
func (h *Host) deciding(x *passage, s *secured) *link.IPsecPolicy {
	if !s.source.IsValid() || !s.destination.IsValid() {
		return nil
	}
	i := slices.IndexFunc(h.Rules.IPsec, func(p link.IPsecPolicy) bool {
		return p.For(s.direction, s.source, s.destination, x.out.Packet.Protocol, s.sourcePort, s.destinationPort)
	})
	if i < 0 {
		return nil
	}
	p := &h.Rules.IPsec[i]
	outside := x.anySource && s.source == x.out.Arrived.Source && p.From.Bits() > 0 || x.anyDestination && s.destination == x.out.Left.Destination && p.To.Bits() > 0
	if s.answer {
		outside = x.anyDestination && p.From.Bits() > 0 || x.anySource && s.destination == x.out.Arrived.Source && p.To.Bits() > 0
	}
	if p.Conditional || outside || x.anyPort && p.ToPort != 0 || !p.Blocks && !(p.Requires && s.direction != "out") {
		return nil
	}
	return p
}
