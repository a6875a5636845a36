package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/urfave/cli/v2"
)

// Where policies are read from when none is named.
const (
	defaultFile   = "/etc/ipmasq/policy.yaml"
	defaultFolder = "/etc/ipmasq/policy.d"
)

// read reads the policy that the arguments name, whoever can write it: load and
// loadToShow look at that.
func (p *program) read(c *cli.Context) (*policy.Policy, error) {
	paths := c.Args().Slice()
	if len(paths) == 0 {
		if _, err := os.Stat(defaultFile); err == nil {
			paths = append(paths, defaultFile)
		}
		if found, _ := filepath.Glob(filepath.Join(defaultFolder, "*.yaml")); len(found) > 0 {
			paths = append(paths, defaultFolder)
		}
		if len(paths) == 0 {
			return nil, usagef("no policy is given, and there is neither %s nor a *.yaml file in %s", defaultFile, defaultFolder)
		}
	}
	pol, err := policy.Load(paths, policy.LoadOptions{Stdin: p.stdin})
	if errors.Is(err, fs.ErrPermission) {
		return nil, unreadable{err}
	}
	return pol, wrong(err, pol)
}

// wrong gives mistakes of a policy the text to show them in. What its backend
// cannot say is one.
func wrong(err error, pol *policy.Policy) error {
	var errs policy.Errors
	var cannot backend.Inexpressible
	switch {
	case pol == nil:
	case errors.As(err, &errs):
		return &invalid{errs, pol.Sources}
	case errors.As(err, &cannot):
		return &invalid{mistakesOf(cannot), pol.Sources}
	}
	return err
}

// mistakesOf shows what a backend refuses as the parser shows mistakes, once for
// each place and reason.
func mistakesOf(cannot backend.Inexpressible) policy.Errors {
	var out policy.Errors
	seen := map[string]bool{}
	for _, r := range cannot {
		bare := *r
		bare.Origin.Place = ruleset.Place{}
		bare.Object = "it" // not the name of a chain, which says nothing to who wrote the entry
		e := &policy.Error{Place: policy.Place(r.Origin.Place), Message: bare.Error()}
		if !seen[e.Error()] {
			seen[e.Error()] = true
			out = append(out, e)
		}
	}
	out.Sort()
	return out
}

// refusedBy says what the backend that a policy names cannot say of it, as far as
// the policy alone tells.
func refusedBy(pol *policy.Policy, r *compile.Result) error {
	if pol.Gateway.Backend != "iptables" {
		return nil
	}
	return refusedByIPTables(pol, r)
}

func refusedByIPTables(pol *policy.Policy, r *compile.Result) error {
	rs := *r.Ruleset
	if o := pol.Gateway.Offload; o != nil && len(rs.Flowtables) == 0 { // it has none without a host's links
		rs.Flowtables = []*ruleset.Flowtable{{Name: "offloaded", Origin: ruleset.Origin{Entry: "gateway offload", Place: ruleset.Place(o.Place)}}}
	}
	_, err := iptables.Want(&rs)
	return wrong(err, pol)
}

// compile compiles a policy and prints its warnings.
func (p *program) compile(pol *policy.Policy, facts compile.Facts) (*compile.Result, error) {
	r, err := compile.Compile(pol, facts)
	if err != nil {
		return nil, wrong(err, pol)
	}
	p.warn(pol, r.Warnings)
	return r, nil
}

func (p *program) warn(pol *policy.Policy, warnings policy.Errors) {
	for _, w := range warnings {
		marked := *w
		marked.Message = "warning: " + w.Message
		policy.Print(p.stderr, policy.Errors{&marked}, pol.Sources)
	}
}
