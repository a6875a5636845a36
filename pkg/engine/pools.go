package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Pool is how much of a snat entry's pool is in use now.
type Pool struct {
	Addresses []string // as the policy has them
	InUse     int      // addresses that have a flow
	Flows     int
}

// insideOf gives where the flows of a snat entry come from.
func (f hostFacts) insideOf(p *policy.Policy, s *policy.SNAT) []insideOf {
	var out []insideOf
	for _, z := range p.Zones {
		if slices.ContainsFunc(s.From, func(r policy.ZoneRef) bool { return r.Any || r.Name == z.Name }) {
			networks := z.Networks
			if len(s.Sources) > 0 {
				networks = s.Sources
			}
			out = append(out, insideOf{networks, f.elsewhere(z), s.Protocols, s.Addresses})
		}
	}
	return out
}

// pools reads how much of each entry's pool is in use, in the order of the
// policy. A flow does not tell its entry: it counts for the first one that has
// its source, its protocol and its public address.
func (e *Engine) pools(p *policy.Policy, f hostFacts) ([]Pool, error) {
	if len(p.SNAT) == 0 {
		return nil, nil
	}
	pools := make([]Pool, len(p.SNAT))
	inside, used := make([][]insideOf, len(pools)), make([]map[netip.Addr]bool, len(pools))
	for i := range pools {
		s := &p.SNAT[i]
		for _, a := range s.Addresses {
			pools[i].Addresses = append(pools[i].Addresses, a.String())
		}
		inside[i], used[i] = f.insideOf(p, s), map[netip.Addr]bool{}
	}
	err := e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		translated := conntrack.Filter{Status: conntrack.StatusSNAT, StatusMask: conntrack.StatusSNAT}
		return c.List(&translated, func(flow *conntrack.Flow) bool {
			i := slices.IndexFunc(inside, func(list []insideOf) bool {
				return slices.ContainsFunc(list, func(i insideOf) bool { return i.owns(*flow) })
			})
			if i >= 0 {
				pools[i].Flows++
				used[i][flow.Reply.Destination] = true
			}
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the pools in use: %w", err)
	}
	for i := range pools {
		pools[i].InUse = len(used[i])
	}
	return pools, nil
}

// failures reads what connection tracking could not do.
func (e *Engine) failures() (f conntrack.Failures, err error) {
	err = e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		f, err = c.Failures()
		return err
	})
	return f, err
}

// exhausted explains the insert failures of a policy that bounds its outside
// ports; "" where there is nothing to explain.
func exhausted(p *policy.Policy, failed uint64) string {
	var bounded []string
	for i := range p.SNAT {
		bounded = append(bounded, "snat "+p.SNAT[i].Name)
	}
	for i := range p.Masquerade {
		if p.Masquerade[i].OutsidePorts != nil {
			bounded = append(bounded, "masquerade "+p.Masquerade[i].Name)
		}
	}
	if failed == 0 || len(bounded) == 0 {
		return ""
	}
	const shown = 3
	names := strings.Join(bounded[:min(shown, len(bounded))], ", ")
	if len(bounded) > shown {
		names += fmt.Sprintf(" or one of %d more", len(bounded)-shown)
	}
	flows := "connections"
	if failed == 1 {
		flows = "connection"
	}
	return fmt.Sprintf("no free outside port: %d %s failed to get one (a few may have lost a race between two packets); if the number grows, give %s more `addresses` or wider `outside_ports`", failed, flows, names)
}
