package engine

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// readsAlong says whether any entry of a policy has helpers.
func readsAlong(p *policy.Policy) bool {
	return slices.ContainsFunc(p.Masquerade, func(m policy.Masquerade) bool { return len(m.Helpers) > 0 }) ||
		slices.ContainsFunc(p.SNAT, func(s policy.SNAT) bool { return len(s.Helpers) > 0 }) ||
		slices.ContainsFunc(p.PortForward, func(f policy.PortForward) bool { return len(f.Helpers) > 0 })
}

// ownsExpected looks at a flow that a helper announced. It is translated like
// the one that announced it, whichever end opens it and by whatever protocol:
// an FTP server outside connects to an inside host, a call of PPTP is GRE.
func (o *ownership) ownsExpected(f conntrack.Flow) bool {
	if !o.helpers || f.Status&conntrack.StatusExpected == 0 {
		return false
	}
	inside := func(host, became netip.Addr) bool {
		for t := range o.targets {
			if t.addr == host {
				return true
			}
		}
		return slices.ContainsFunc(o.inside, func(i insideOf) bool { return i.holds(host, became) })
	}
	return f.SNAT() && inside(f.Original.Source, f.Reply.Destination) || f.DNAT() && inside(f.Reply.Source, f.Original.Destination)
}
