package main

import (
	"context"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/ipmasq/ipmasq/pkg/stage"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/urfave/cli/v2"
)

// runTests runs the tests of one file.
func (p *program) runTests(c *cli.Context, g *policytest.Gateway) ([]policytest.Result, error) {
	if !c.Bool("kernel") {
		return g.Run(nil)
	}
	s := stage.New(*g.Host, func(ns *link.NetNS, dir string) error { return p.applyForTests(c.Context, ns, dir, g.Policy) })
	results, err := g.Run(staged{s})
	if closed := s.Close(); err == nil {
		err = closed
	}
	return results, err
}

// applyForTests puts a policy in force on a gateway that is thrown away, as apply
// does.
func (p *program) applyForTests(ctx context.Context, ns *link.NetNS, dir string, pol *policy.Policy) error {
	d, err := state.Open(dir)
	if err != nil {
		return err
	}
	e, err := newEngine(ns, d, p.hintf)
	if err != nil {
		return err
	}
	e.KeepFlows = true // there are none
	_, err = e.Apply(ctx, inNamespace(pol))
	return err
}

// inNamespace is a policy without what only a machine has: the size of its
// conntrack table, and network cards that take flows.
func inNamespace(pol *policy.Policy) *policy.Policy {
	out := *pol
	if c := pol.Gateway.Conntrack; c != nil && c.Max != 0 {
		some := *c
		some.Max = 0
		out.Gateway.Conntrack = &some
	}
	if o := pol.Gateway.Offload; o != nil && o.Hardware {
		some := *o
		some.Hardware = false
		out.Gateway.Offload = &some
	}
	return &out
}

// staged is a gateway in the kernel, as tests ask it.
type staged struct{ *stage.Gateway }

// Send sends a packet, and says what became of it.
func (s staged) Send(packet simulate.Packet) (policytest.Seen, error) {
	seen, err := s.Gateway.Send(packet)
	return policytest.Seen{Verdict: seen.Verdict, Out: seen.Out, Left: seen.Left}, err
}
