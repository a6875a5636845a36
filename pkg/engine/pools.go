package engine

import (
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Pool is how much of a snat entry's pool is in use now, where
// Status.FlowsCounted.
type Pool struct {
	Addresses []string // as the policy has them
	InUse     int      // addresses that have a flow
	Flows     int
}

func addressTexts(list []policy.Address) []string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return texts
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
