package main

import (
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// each hands over the connections that the filter allows, with what the policy
// says of them, until yield returns false. Both are valid during the call only;
// yield may delete connections.
//
// The kernel is read meanwhile, by List, and has begun to be while the policy is
// still being compiled. To judge and print takes less than the kernel takes to
// tell, so that is done without another goroutine, and without a copy.
func (x *connections) each(yield func(*conntrack.Flow, *flows.Judgement) bool) error {
	var judge *flows.Judge
	var failed error
	asked := false
	var j flows.Judgement
	err := x.List(&x.filter.kernel, func(f *conntrack.Flow) bool {
		if !x.filter.matchesRest(f) {
			return true
		}
		if !asked {
			asked = true
			if judge, failed = x.judge(); failed != nil {
				return false
			}
		}
		if judge != nil {
			j = judge.Judge(f)
		}
		return !x.filter.matchesPolicy(&j) || yield(f, &j)
	})
	if !asked {
		_, failed = x.judge() // a policy that cannot be judged by is told of in any case
	}
	if failed != nil {
		return failed
	}
	return err
}
