package iptables

import (
	"bytes"
	"fmt"
	"hash"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// heldSet is a set of ours in the kernel.
type heldSet struct {
	set    *plan.Set
	digest digest
	// readable says that it is of a kind that we make.
	readable bool
}

// settle puts the elements in order. That takes longer than reading them, so
// where a known set has the very same, those are taken.
func (h *heldSet) settle(known []*plan.Set) {
	for _, k := range known {
		if k.Name == h.set.Name && k.Attributes == h.set.Attributes && digestOf(&k.Elements) == h.digest {
			h.set.Elements = k.Elements
			return
		}
	}
	h.set.Elements.Sort()
}

// writeSets adds the sets to the digest of all rules, but some.
func writeSets(to hash.Hash32, sets []heldSet, but map[string]bool) {
	for i := range sets {
		if s := &sets[i]; !but[s.set.Name] {
			fmt.Fprintln(to, s.set.Name, s.set.Attributes, s.digest)
		}
	}
}

// setDifference gives the elements that a change of a set puts in and takes out.
// One whose entry alone is another is neither.
func setDifference(changes *plan.Changes, c plan.SetChange) (added, removed []uint32) {
	from, to := &changes.From.Sets[c.From].Elements, &changes.To.Sets[c.To].Elements
	i, j := 0, 0
	for i < len(c.Removed) || j < len(c.Added) {
		order := 0
		switch {
		case i == len(c.Removed):
			order = 1
		case j == len(c.Added):
			order = -1
		default:
			order = bytes.Compare(from.At(int(c.Removed[i])), to.At(int(c.Added[j])))
		}
		switch {
		case order < 0:
			removed = append(removed, c.Removed[i])
			i++
		case order > 0:
			added = append(added, c.Added[j])
			j++
		default:
			i++
			j++
		}
	}
	return added, removed
}
