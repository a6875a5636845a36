package doctor

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// bridgeDrop is about chains of the family bridge: what the gateway routes comes
// by them too, before and behind, where it arrives or leaves by a bridge.
func bridgeDrop(h *Host) (out []Finding) {
	if h.Rules.Foreign == nil || !slices.ContainsFunc(h.Rules.Foreign.Tables, func(t *foreign.Table) bool { return t.Family == "bridge" }) {
		return nil
	}
	told := map[*foreign.Chain]bool{}
	examples := h.filterable()
	for i := range examples {
		x := &examples[i]
		if !x.passes() {
			continue
		}
		for _, answer := range []bool{false, true} {
			if answer && x.out.Verdict != simulate.Forwarded {
				continue
			}
			if c, d := h.bridgeStops(x, answer); c != nil && !told[c] {
				told[c] = true
				out = append(out, bridgeFinding(&stop{x, c.Hook, c, d, answer}))
			}
		}
	}
	return merged(out, 4)
}

// bridgeStops finds the chain that stops a packet where it comes by a bridge, or
// leaves by one, whichever port it is.
func (h *Host) bridgeStops(x *passage, answer bool) (*foreign.Chain, *foreign.Decision) {
	hooks := []foreign.Hook{foreign.Prerouting, foreign.Input}
	if x.out.Verdict == simulate.Forwarded {
		hooks = append(hooks, foreign.Output, foreign.Postrouting)
	}
	for _, hook := range hooks {
		arrives := hook == foreign.Prerouting || hook == foreign.Input
		as := foreign.Egress
		if arrives {
			as = foreign.Ingress
		}
		p := x.at(as, answer, true)
		ports := h.ports(p.In + p.Out) // one of the two is ""
		for _, t := range h.Rules.Foreign.Tables {
			for _, c := range t.Chains {
				if t.Family != "bridge" || c.Hook != hook || c.Type == "nat" || len(ports) == 0 {
					continue
				}
				if d := stopsAtAll(c, *p, ports, arrives); d != nil {
					return c, d
				}
			}
		}
	}
	return nil, nil
}

func stopsAtAll(c *foreign.Chain, p foreign.Packet, ports []string, arrives bool) (d *foreign.Decision) {
	for _, port := range ports {
		p.In, p.Out = "", port
		if arrives {
			p.In, p.Out = port, ""
		}
		if d = c.Walk(&p).Stopped(); d == nil {
			return nil
		}
	}
	return d
}

func bridgeFinding(s *stop) Finding {
	what := "what " + s.entry + " lets pass"
	if s.answer {
		what = "the answers to " + what
	}
	f := Finding{
		Severity: Broken, Weight: 875,
		Title:    fmt.Sprintf("%s drops %s, on a bridge: %s", s.chain, what, s.text()),
		Evidence: []string{decided(s.chain, s.decision), fmt.Sprintf("policy %s: %s lets it pass", s.place, s.entry)},
	}
	f.Mend = []string{"# if it is not meant:"}
	if s.decision.Rule != nil {
		f.Mend = append(f.Mend, removal(s.chain, s.decision))
	} else {
		t := s.chain.Table()
		f.Mend = append(f.Mend, fmt.Sprintf("nft 'chain %s %s %s { policy accept; }'", t.Family, t.Name, s.chain.Name))
	}
	return f
}
