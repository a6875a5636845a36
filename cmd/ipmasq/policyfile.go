package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
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

// wrong gives mistakes of a policy the text to show them in.
func wrong(err error, pol *policy.Policy) error {
	var errs policy.Errors
	if errors.As(err, &errs) && pol != nil {
		return &invalid{errs, pol.Sources}
	}
	return err
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
