package engine

import (
	"fmt"
	"net/netip"
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
	// IPv4 and IPv6 are the same of each family.
	IPv4, IPv6 PoolUse
}

// PoolUse is how many addresses a pool has, which float64 holds even of a prefix
// of IPv6, and how many of them have a flow.
type PoolUse struct {
	Addresses float64
	InUse     int
}

func newPool(list []policy.Address) *Pool {
	p := &Pool{Addresses: addressTexts(list)}
	for _, a := range list {
		p.of(a.Low).Addresses += size(a.Low, a.High)
	}
	return p
}

func (p *Pool) of(a netip.Addr) *PoolUse {
	if a.Is4() {
		return &p.IPv4
	}
	return &p.IPv6
}

// size is how many addresses there are from low to high.
func size(low, high netip.Addr) float64 {
	n := 0.0
	l, h := low.As16(), high.As16()
	for i := range l {
		n = n*256 + float64(h[i]) - float64(l[i])
	}
	return n + 1
}

// use notes the addresses that have a flow.
func (p *Pool) use(addresses map[netip.Addr]bool) {
	p.InUse = len(addresses)
	for a := range addresses {
		p.of(a).InUse++
	}
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
