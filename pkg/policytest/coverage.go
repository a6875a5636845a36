package policytest

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Coverage is which entries of a policy tests have come by.
type Coverage struct {
	Policies []string
	Entries  []Covered
}

// Covered is an entry, and how many packets met it.
type Covered struct {
	ruleset.Origin
	Packets int
}

// Tested is how many entries some packet met.
func (c *Coverage) Tested() int {
	n := 0
	for _, e := range c.Entries {
		if e.Packets > 0 {
			n++
		}
	}
	return n
}

// Percent is the part of the entries that is tested, rounded down; 100 where
// there is none.
func (c *Coverage) Percent() int {
	if len(c.Entries) == 0 {
		return 100
	}
	return 100 * c.Tested() / len(c.Entries)
}

// Tested is a file and what became of its tests.
type Tested struct {
	*Gateway
	Results []Result
}

// Cover counts, for each policy, the packets of all files about it. An entry is
// met by a packet that it decided about, translated, or marked: a rule that was
// only looked at does not count.
func Cover(files []Tested) []Coverage {
	var out []Coverage
	at := map[string]int{}
	for _, f := range files {
		key := strings.Join(f.File.Policies, "\x00")
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			c := Coverage{Policies: f.File.Policies}
			for _, e := range Entries(f.Policy) {
				c.Entries = append(c.Entries, Covered{Origin: e})
			}
			out = append(out, c)
		}
		for _, r := range f.Results {
			for _, p := range r.Packets {
				out[i].count(&p)
			}
		}
	}
	return out
}

func (c *Coverage) count(p *PacketResult) {
	met := Took(p.Simulated)
	for _, s := range p.Simulated.Steps {
		if s.Origin != nil && marks(s.Rule) {
			met = append(met, s.Origin.Entry)
		}
	}
	for i := range c.Entries {
		if slices.Contains(met, c.Entries[i].Entry) {
			c.Entries[i].Packets++
		}
	}
}

// marks says whether a rule changes the mark of a packet.
func marks(r *ruleset.Rule) bool {
	return r != nil && slices.ContainsFunc(r.Do, func(s ruleset.Statement) bool { return s.Kind == ruleset.SetMark })
}
