package engine

import (
	"errors"

	"github.com/ipmasq/ipmasq/pkg/foreign"
)

// ForeignChain is a base chain of somebody else's that can override our rules: it
// may stop what they let pass, or translate it first.
type ForeignChain struct {
	Kind                string // "nft", "iptables-nft" or "iptables-legacy"
	Family, Table, Name string
	Hook, Type          string
	Priority            int
	// PolicyDrop says that what no rule of it decides is dropped, and Packets how
	// many that were, where that is counted.
	PolicyDrop bool
	Packets    *uint64
	// Stops and Translates say what it, or what it leads to, may do.
	Stops, Translates bool
}

// foreignChains reads the chains of others. What they are is no part of what is in
// force, so a problem is told and stops nothing.
func (e *Engine) foreignChains(s *Status) {
	var rules *foreign.Rules
	err := e.NetNS.Do(func() (err error) {
		rules, err = foreign.Read()
		return err
	})
	if err != nil {
		s.ForeignProblem = err
		return
	}
	for _, name := range holdersOf(rules) {
		if e.Backends != nil && name != e.Backend.Name() {
			s.Left = append(s.Left, name)
		}
	}
	for _, p := range rules.Problems {
		s.ForeignProblem = errors.Join(s.ForeignProblem, errors.New(p))
	}
	for _, c := range rules.Overriding() {
		t := c.Table()
		f := ForeignChain{Kind: string(t.Kind), Family: t.Family, Table: t.Name, Name: c.Name, Hook: string(c.Hook), Type: c.Type, Priority: c.Priority,
			PolicyDrop: c.Drops, Stops: c.Stops(), Translates: c.Translates()}
		if c.Drops && c.Counted {
			f.Packets = &c.Packets
		}
		s.Foreign = append(s.Foreign, f)
	}
}
