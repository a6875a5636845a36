package backendtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What the fake refuses with.
var (
	errNotThere = errors.New("no such file or directory")
	errThere    = errors.New("file exists")
	errUnfit    = errors.New("operation not supported")
)

// applier carries changes out on a copy of what is held.
type applier struct {
	*plan.Changes
	next    *plan.Snapshot
	entries map[string]uint32 // index in next.Origins
}

// apply gives what is held after the changes.
func apply(held *plan.Snapshot, changes *plan.Changes) (*plan.Snapshot, error) {
	if err := validate(changes.To); err != nil {
		return nil, err
	}
	a := &applier{changes, forget(held), map[string]uint32{}}
	for i, o := range a.next.Origins {
		a.entries[o.Entry] = uint32(i)
	}
	for _, c := range changes.Chains {
		if err := a.chain(c); err != nil {
			return nil, err
		}
	}
	for i := range changes.Sets {
		if err := a.set(changes.Sets[i]); err != nil {
			return nil, err
		}
	}
	for _, c := range changes.Counters {
		if err := a.counter(c); err != nil {
			return nil, err
		}
	}
	for _, o := range changes.Objects {
		if err := a.object(o); err != nil {
			return nil, err
		}
	}
	a.next.Normalize()
	return forget(a.next), nil
}

func (a *applier) chain(c plan.ChainChange) error {
	if c.From >= 0 && !removeChain(a.next, a.From.Chains[c.From].Name) {
		return &backend.Refused{Object: "chain " + a.From.Chains[c.From].Name, Err: errNotThere}
	}
	if c.To < 0 {
		return nil
	}
	chain := a.To.Chains[c.To]
	if findChain(a.next, chain.Name) != nil {
		return &backend.Refused{Object: "chain " + chain.Name, Origin: chain.Origin, Err: errThere}
	}
	a.next.Chains = append(a.next.Chains, chain)
	return nil
}

func (a *applier) counter(c plan.CounterChange) error {
	if c.Kind == plan.Add {
		counter := a.To.Counters[c.To]
		counter.Packets, counter.Bytes = 0, 0
		a.next.Counters = append(a.next.Counters, counter)
		return nil
	}
	name := a.From.Counters[c.From].Name
	i := slices.IndexFunc(a.next.Counters, func(x plan.Counter) bool { return x.Name == name })
	if i < 0 {
		return &backend.Refused{Object: "counter " + name, Err: errNotThere}
	}
	a.next.Counters = slices.Delete(a.next.Counters, i, i+1)
	return nil
}

func (a *applier) object(c plan.ObjectChange) error {
	if c.From >= 0 {
		old := &a.From.Objects[c.From]
		i := slices.IndexFunc(a.next.Objects, func(x plan.Object) bool { return x.Kind == old.Kind && x.Name == old.Name })
		if i < 0 {
			return &backend.Refused{Object: old.String(), Err: errNotThere}
		}
		a.next.Objects = slices.Delete(a.next.Objects, i, i+1)
	}
	if c.To >= 0 {
		a.next.Objects = append(a.next.Objects, a.To.Objects[c.To])
	}
	return nil
}

func findChain(s *plan.Snapshot, name string) *plan.Chain {
	for i := range s.Chains {
		if s.Chains[i].Name == name {
			return &s.Chains[i]
		}
	}
	return nil
}

func removeChain(s *plan.Snapshot, name string) bool {
	for i := range s.Chains {
		if s.Chains[i].Name == name {
			s.Chains = append(s.Chains[:i:i], s.Chains[i+1:]...)
			return true
		}
	}
	return false
}

func findSet(s *plan.Snapshot, name string) int {
	for i, set := range s.Sets {
		if set.Name == name {
			return i
		}
	}
	return -1
}

func (a *applier) set(c plan.SetChange) error {
	var held *plan.Set
	if c.From >= 0 {
		i := findSet(a.next, a.From.Sets[c.From].Name)
		if i < 0 {
			return &backend.Refused{Object: "set " + a.From.Sets[c.From].Name, Err: errNotThere}
		}
		held = a.next.Sets[i]
		a.next.Sets = slices.Delete(a.next.Sets, i, i+1)
	}
	if c.To < 0 {
		return nil
	}
	set := *a.To.Sets[c.To]
	if findSet(a.next, set.Name) >= 0 {
		return &backend.Refused{Object: "set " + set.Name, Origin: set.Origin, Err: errThere}
	}
	out := plan.Elements{KeyLen: set.Elements.KeyLen}
	if c.Kind == plan.Keep {
		if err := a.keep(&out, held, c); err != nil {
			return err
		}
	} else {
		c.Added = nil
		for i := range set.Elements.Len() {
			c.Added = append(c.Added, uint32(i))
		}
	}
	for _, i := range c.Added {
		origin := uint32(plan.NoOrigin)
		if o := set.Elements.OriginAt(int(i)); o != plan.NoOrigin {
			origin = a.adopt(a.To.Origins[o].Entry)
		}
		out.Append(origin, set.Elements.At(int(i)))
		// The counters of a set that is made anew go on.
		if c.Kind == plan.Replace && held.Elements.KeyLen == out.KeyLen {
			if j := held.Elements.Find(set.Elements.KeyAt(int(i))); j >= 0 {
				out.Count(held.Elements.CountAt(j))
			}
		}
	}
	set.Elements = out
	a.next.Sets = append(a.next.Sets, &set)
	return nil
}

// keep copies what a set holds but for the elements that go. They keep what
// they counted.
func (a *applier) keep(out *plan.Elements, held *plan.Set, c plan.SetChange) error {
	gone := make(map[string]bool, len(c.Removed))
	for _, i := range c.Removed {
		gone[string(a.From.Sets[c.From].Elements.At(int(i)))] = true
	}
	for i := range held.Elements.Len() {
		record := held.Elements.At(i)
		if gone[string(record)] {
			delete(gone, string(record))
			continue
		}
		out.Append(held.Elements.OriginAt(i), record)
		out.Count(held.Elements.CountAt(i))
	}
	for record := range gone {
		return &backend.Refused{Object: fmt.Sprintf("element %x of set %s", record, held.Name), Err: errNotThere}
	}
	return nil
}

// adopt gives the index of an entry in the origins, of which it may become one.
func (a *applier) adopt(entry string) uint32 {
	i, known := a.entries[entry]
	if !known {
		i = uint32(len(a.next.Origins))
		a.entries[entry] = i
		a.next.Origins = append(a.next.Origins, ruleset.Origin{Entry: entry})
	}
	return i
}
