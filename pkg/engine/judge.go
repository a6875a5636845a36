package engine

import (
	"context"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Applied is the policy that was applied last, on the host as it is now.
type Applied struct {
	Policy *policy.Policy // its zones are resolved
	parsed *policy.Policy
	routes *link.Routes
	docker *compile.Docker
}

// Applied reads that policy. It is nil where nothing was applied. It takes no
// lock: what an apply that runs now is about to bring is not in it yet.
func (e *Engine) Applied(ctx context.Context) (*Applied, error) {
	remembered, err := e.remembered(ctx)
	if err != nil || remembered.Applied == nil {
		return nil, err
	}
	p, err := e.applied(remembered)
	if err != nil {
		return nil, err
	}
	a := &Applied{parsed: p}
	err = e.NetNS.Do(func() (err error) {
		a.routes, err = link.ReadRoutes()
		return err
	})
	if err != nil {
		return nil, err
	}
	var f hostFacts
	e.withDocker(p, &f)
	a.docker = f.docker
	a.Policy = a.facts().Resolve(p)
	return a, nil
}

func (a *Applied) facts() compile.Facts { return hostFacts{a.routes.Facts, a.docker}.compile() }

// Routes are those of the host.
func (a *Applied) Routes() *link.Routes { return a.routes }

// Compile compiles the policy, which takes a second for 100,000 port forwards.
func (a *Applied) Compile() (*compile.Result, error) {
	return compile.Compile(a.parsed, a.facts())
}

// Judge gives a judge of flows for it. It compiles the policy.
func (a *Applied) Judge() (*flows.Judge, error) {
	compiled, err := a.Compile()
	if err != nil {
		return nil, err
	}
	return flows.NewJudge(compiled.Ruleset, a.Policy, a.routes.Facts, a.routes), nil
}
