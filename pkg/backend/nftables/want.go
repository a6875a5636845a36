//go:build linux

package nftables

import (
	"encoding/binary"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Want encodes a ruleset. What cannot be encoded is refused with its origin,
// as the kernel's refusals are.
func (b *Backend) Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) {
	if err := backend.Check(rs); err != nil {
		return nil, err
	}
	s := &plan.Snapshot{Origins: rs.Origins}
	sets := make(map[string]*ruleset.Set, len(rs.Sets))
	s.Sets = make([]*plan.Set, len(rs.Sets))
	var group sync.WaitGroup // sets can be large
	defer group.Wait()
	for i, set := range rs.Sets {
		sets[set.Name] = set
		group.Go(func() {
			s.Sets[i] = wantSet(set)
			s.Sets[i].Elements.Sort()
		})
	}
	for _, c := range rs.Chains {
		chain := plan.Chain{Name: c.Name, Attributes: hookAttributes(c.Hook), Origin: c.Origin}
		for _, r := range c.Rules {
			body, err := expressions(r, sets)
			if err != nil {
				return nil, &backend.Refused{Object: "a rule of chain " + c.Name, Origin: r.Origin, Err: err}
			}
			chain.Rules = append(chain.Rules, plan.Rule{Body: body, Origin: r.Origin})
		}
		s.Chains = append(s.Chains, chain)
	}
	for _, c := range rs.Counters {
		s.Counters = append(s.Counters, plan.Counter{Name: c.Name, Origin: c.Origin})
	}
	group.Wait()
	objects, err := wantObjects(rs)
	if err != nil {
		return nil, err
	}
	s.Objects = objects
	s.Normalize()
	return s, nil
}

func wantSet(set *ruleset.Set) *plan.Set {
	spec := specOf(set)
	out := &plan.Set{Name: set.Name, Attributes: spec.attributes(), Origin: set.Origin}
	e := &out.Elements
	e.KeyLen = spec.recordKey()
	e.Grow(set.Len(), e.KeyLen+set.DataLen())
	for i := range set.Len() {
		data := set.DataAt(i)
		if set.IsVerdictMap() {
			data = verdictRecord(verdictCode(set.Verdicts[i].Kind), []byte(set.Verdicts[i].Chain))
		}
		if set.Interval {
			e.Append(set.OriginAt(i), kernelOrders(set.Key, set.KeyAt(i)), kernelOrders(set.Key, set.HighAt(i)), data)
		} else {
			e.Append(set.OriginAt(i), kernelOrders(set.Key, set.KeyAt(i)), data)
		}
	}
	return out
}

// verdictRecord is how a verdict stands in an element's record: its code, then
// the chain's name.
func verdictRecord(code uint32, chain []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, code), chain...)
}
