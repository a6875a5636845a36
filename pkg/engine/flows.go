package engine

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// translating judges by the policies that may have translated flows, the last
// one first. There are none where nothing is remembered.
func (e *Engine) translating(s *state.State, facts hostFacts) ([]*flows.Judge, error) {
	if s.Applied == nil && s.Pending == nil {
		return nil, nil
	}
	var routes *link.Routes
	if err := e.NetNS.Do(func() (err error) {
		routes, err = link.ReadRoutes()
		return err
	}); err != nil {
		return nil, err
	}
	var judges []*flows.Judge
	for _, digest := range earlier(s, "") {
		j, err := e.judge(digest, facts, routes)
		if err != nil {
			return nil, fmt.Errorf("read a policy that was applied: %w", err)
		}
		judges = append(judges, j)
	}
	return judges, nil
}

// owns says whether one of the policies accounts for a flow's translation, or
// nothing can be said of it: there is no way to one of its ends just now.
func owns(judges []*flows.Judge, f *conntrack.Flow) bool {
	for _, judge := range judges {
		if j := judge.Judge(f); j.Ours || j.Fits && !j.Foreign {
			return true
		}
	}
	return false
}

// applied parses the policy of the last apply anew.
func (e *Engine) applied(s *state.State) (*policy.Policy, error) {
	p, err := e.stored(s.Applied.Digest)
	if err != nil {
		return nil, fmt.Errorf("read the policy that was applied last: %w", err)
	}
	return p, nil
}

// stored parses a policy that the state names.
func (e *Engine) stored(digest string) (*policy.Policy, error) {
	stored, err := e.State.LoadPolicy(digest)
	if err != nil {
		return nil, err
	}
	sources := make([]policy.Source, len(stored))
	for i, x := range stored {
		sources[i] = policy.Source{Name: x.Name, Text: x.Text}
	}
	return policy.Reparse(sources)
}

// flows counts the flows in the kernel's table that are ours, and cuts them if
// it is to.
func (e *Engine) flows(ours []*flows.Judge, cut bool) (int, error) {
	if len(ours) == 0 {
		return 0, nil
	}
	n := 0
	err := e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		var batch []conntrack.Flow
		var failed error
		flush := func() {
			if len(batch) > 0 && failed == nil {
				_, failed = c.DeleteAll(batch)
			}
			batch = batch[:0]
		}
		err = c.List(&conntrack.Filter{Translated: true}, func(f *conntrack.Flow) bool {
			if !owns(ours, f) {
				return true
			}
			n++
			if cut {
				if batch = append(batch, *f); len(batch) == cutAtOnce {
					flush()
				}
			}
			return failed == nil
		})
		flush()
		if err == nil {
			err = failed
		}
		return err
	})
	if err != nil {
		return n, fmt.Errorf("cut translated flows: %w", err)
	}
	return n, nil
}
