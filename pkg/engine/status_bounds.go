package engine

import (
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// find gives the row of an entry, or -1. A rule may have the name of what stands
// behind all rules: the place tells them apart.
func (s *Status) find(entry string, place policy.Place) int {
	rows := s.rows[entry]
	for _, i := range rows {
		if s.Entries[i].Place == ruleset.Place(place) {
			return i
		}
	}
	if len(rows) == 0 {
		return -1
	}
	return rows[0]
}

// bounds notes what bounds the flows of entries: limits and pools.
func (s *Status) bounds(p *policy.Policy) {
	limit := func(section, name string, place policy.Place, l policy.Limits) {
		if i := s.find(section+" "+name, place); i >= 0 && (l.Total > 0 || l.PerHost > 0) {
			s.Entries[i].Limit = &Limit{Total: l.Total, PerHost: l.PerHost}
		}
	}
	for i := range p.SNAT {
		e := &p.SNAT[i]
		limit("snat", e.Name, e.Place, e.Limits)
		if row := s.find("snat "+e.Name, e.Place); row >= 0 {
			s.Entries[row].Pool = newPool(e.Addresses)
		}
	}
	for i := range p.Masquerade {
		limit("masquerade", p.Masquerade[i].Name, p.Masquerade[i].Place, p.Masquerade[i].Limits)
	}
	for i := range p.PortForward {
		limit("port_forward", p.PortForward[i].Name, p.PortForward[i].Place, p.PortForward[i].Limits)
	}
	for i := range p.Forward.Rules {
		limit("forward", p.Forward.Rules[i].Name, p.Forward.Rules[i].Place, p.Forward.Rules[i].Limits)
	}
	if p.Input != nil {
		for i := range p.Input.Rules {
			limit("input", p.Input.Rules[i].Name, p.Input.Rules[i].Place, p.Input.Rules[i].Limits)
		}
	}
}
