package doctor

import (
	"context"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// RuleEvidence is what the rules of others are.
type RuleEvidence struct {
	Foreign *foreign.Rules
	// IPsec are the policies of IPsec, in their order.
	IPsec []link.IPsecPolicy
}

var ruleParts = []part{
	{"the rules of others", "CAP_NET_ADMIN", readForeign},
	{"the policies of IPsec", "CAP_NET_ADMIN", readIPsec},
}

func readForeign(_ context.Context, h *Host) error {
	err := h.do(func() (err error) {
		h.Rules.Foreign, err = foreign.Read()
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range h.Rules.Foreign.Problems {
		h.Unread = append(h.Unread, Unread{What: "the rules of iptables-legacy", Why: p})
	}
	chains := 0
	for _, t := range h.Rules.Foreign.Tables {
		for _, c := range t.Chains {
			// A table of iptables has its built-in chains, whoever made it.
			if t.Kind == foreign.NFT || c.Drops || slices.ContainsFunc(c.Rules, func(r foreign.Rule) bool { return !r.Ours }) {
				chains++
			}
		}
	}
	h.looked(chains, "chain of others", "chains of others")
	return nil
}

// gateway sends packets through the policy on this host; nil where there is none.
func (h *Host) gateway() *simulate.Gateway {
	if h.Compiled == nil || h.routes() == nil {
		return nil
	}
	if h.simulated == nil {
		h.simulated = simulate.New(h.Compiled.Ruleset, h.Policy, h.facts(), h.routes())
	}
	return h.simulated
}

// routes are what the routing tables say; nil where they could not be read.
func (h *Host) routes() flows.Routes {
	if h.via != nil {
		return h.via
	}
	if h.Routes == nil {
		return nil
	}
	return h.Routes
}
