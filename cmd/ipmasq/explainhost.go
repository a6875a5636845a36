package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// gateway is a policy on a host, as packets meet it.
type gateway struct {
	simulated *simulate.Gateway
	rules     *ruleset.Ruleset
	files     []string
	backend   string // that the policy names
	// foreign says, as a hint, that the policy is not for this host.
	foreign string
}

// gateway finds the policy and the host that a packet is asked about.
func (p *program) gateway(c *cli.Context) (*gateway, error) {
	described := c.IsSet("host") || c.Bool("offline")
	if c.IsSet("host") && c.Bool("offline") {
		return nil, usagef("--host describes the gateway, and --offline makes it up; take one")
	}
	if !c.Args().Present() && !described {
		g, err := p.gatewayApplied(c)
		if g != nil || err != nil {
			return g, err
		}
	}
	pol, err := p.loadToShow(c)
	if err != nil {
		return nil, err
	}
	var routes *link.Routes
	if described {
		routes, err = p.madeUp(c, pol)
	} else {
		routes, err = readRoutes(c)
	}
	if err != nil {
		return nil, err
	}
	facts := engine.CompileFacts(routes.Facts)
	compiled, err := compile.Compile(pol, facts)
	if err != nil {
		return nil, wrong(err, pol)
	}
	g := newGateway(compiled, facts.Resolve(pol), routes)
	if !described {
		g.foreign = elsewhere(pol, routes.Facts)
	}
	return g, nil
}

func newGateway(r *compile.Result, resolved *policy.Policy, routes *link.Routes) *gateway {
	g := &gateway{simulated: simulate.New(r.Ruleset, resolved, routes.Facts, routes), rules: r.Ruleset, backend: resolved.Gateway.Backend}
	for _, s := range resolved.Sources {
		g.files = append(g.files, s.Name)
	}
	return g
}

// gatewayApplied is the policy in force; nil where there is none, or it is not for
// everybody to read.
func (p *program) gatewayApplied(c *cli.Context) (*gateway, error) {
	private := func(err error) bool {
		var namespace lacking
		if !errors.Is(err, fs.ErrPermission) || errors.As(err, &namespace) {
			return false
		}
		p.hintf("what was applied is not for everybody to read: the default files are looked at")
		return true
	}
	e, closeHost, err := p.quietHost(c)
	switch {
	case private(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer closeHost()
	a, err := e.Applied(c.Context)
	switch {
	case private(err):
		return nil, nil
	case err != nil || a == nil:
		return nil, err
	}
	compiled, err := a.Compile()
	if err != nil {
		return nil, fmt.Errorf("compile the policy that was applied: %w", err)
	}
	return newGateway(compiled, a.Policy, a.Routes()), nil
}

// madeUp is a host that is described, with what is left out made up.
func (p *program) madeUp(c *cli.Context, pol *policy.Policy) (*link.Routes, error) {
	var described *policytest.Host
	name := c.String("host")
	if c.IsSet("host") {
		var err error
		if described, err = policytest.LoadHost(name); err != nil {
			return nil, p.wrongHost(name, err)
		}
	}
	host, err := described.Build(pol)
	if err != nil {
		return nil, p.wrongHost(name, err)
	}
	return host.Read()
}

// wrongHost shows what is wrong with the description of a host.
func (p *program) wrongHost(name string, err error) error {
	var bad *policytest.Invalid
	var errs policy.Errors
	switch {
	case errors.As(err, &bad):
		policy.Print(p.stderr, bad.Errors, bad.Sources)
		return usagef("--host %s: %s", name, counted(len(bad.Errors), "mistake", "mistakes"))
	case errors.As(err, &errs):
		policy.Print(p.stderr, errs, nil)
		return usagef("--host %s: %s", name, counted(len(errs), "mistake", "mistakes"))
	}
	return err
}

func readRoutes(c *cli.Context) (*link.Routes, error) {
	ns, err := openNetNS(c)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var routes *link.Routes
	err = ns.Do(func() (err error) {
		routes, err = link.ReadRoutes()
		return err
	})
	return routes, err
}

// elsewhere tells a policy that is for another host: this one has none of its
// interfaces.
func elsewhere(pol *policy.Policy, facts link.Facts) string {
	var named []string
	for _, z := range pol.Zones {
		for _, i := range z.Interfaces {
			if slices.ContainsFunc(facts.Links, func(l link.Link) bool { return i.Matches(l.Name) }) {
				return ""
			}
			named = append(named, i.String())
		}
	}
	if len(named) == 0 {
		return ""
	}
	return fmt.Sprintf("this host has none of the policy's interfaces (%s): --offline makes a host up from the policy, and --host FILE describes one",
		strings.Join(named, ", "))
}
