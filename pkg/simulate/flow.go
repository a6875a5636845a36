package simulate

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Flow is an entry of conntrack: the two directions as conntrack -L shows them,
// and what entries set.
type Flow struct {
	Original, Reply Ends
	Mark            uint32
	Helpers         []string // the kernel's names, as "ftp"
	Timeouts        []ruleset.TimeoutState
	// Flowtable is where it is offloaded to once it is established, or "".
	Flowtable string
}

// turned are the ends of an answer.
func (e Ends) turned() Ends {
	return Ends{e.Destination, e.Source, e.DestinationPort, e.SourcePort}
}

// became are the ends that the first packet left with.
func (f *Flow) became() Ends { return f.Reply.turned() }

func (f *Flow) explained(answer bool) *explain.Flow {
	became := func(e Ends) explain.Became {
		return explain.Became{Source: e.Source, Destination: e.Destination, SourcePort: e.SourcePort, DestinationPort: e.DestinationPort}
	}
	return &explain.Flow{Original: became(f.Original), Reply: became(f.Reply), Answer: answer}
}

// held is what conntrack would hold of the packet's flow.
func (q *question) held(out *Outcome) *Flow {
	if q.flow != nil {
		return q.flow
	}
	tracked := !slices.ContainsFunc(out.Steps, func(s Step) bool { return s.does(ruleset.NoTrack) != nil })
	if q.State != ruleset.CtNew || !tracked {
		return nil
	}
	f := &Flow{Original: out.Arrived, Reply: out.Left.turned(), Mark: out.CtMark}
	for i := range out.Steps {
		if do := out.Steps[i].does(ruleset.SetHelper); do != nil {
			for _, h := range q.rules.Helpers {
				if h.Name == do.Object && !slices.Contains(f.Helpers, h.Helper) {
					f.Helpers = append(f.Helpers, h.Helper)
				}
			}
		}
		if do := out.Steps[i].does(ruleset.SetTimeout); do != nil {
			for _, x := range q.rules.Timeouts {
				if x.Name == do.Object {
					f.Timeouts = x.Policy
				}
			}
		}
		if do := out.Steps[i].does(ruleset.Offload); do != nil {
			f.Flowtable = do.Object
		}
	}
	return f
}

// does finds a statement of the step's rule.
func (s *Step) does(kind ruleset.StatementKind) *ruleset.Statement {
	if s.Rule == nil || s.Limited {
		return nil
	}
	for i := range s.Rule.Do {
		if s.Rule.Do[i].Kind == kind {
			return &s.Rule.Do[i]
		}
	}
	return nil
}
