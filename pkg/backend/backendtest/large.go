package backendtest

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// crowd is how many elements a large set has. Each takes some 80 bytes, and a
// message at most 65,535.
const crowd = 100_000

func large(s *suite) {
	rs := newSample()
	s.apply(crowded(rs, 0).Ruleset)
	c := s.apply(crowded(newSample(), 1).Ruleset)
	for _, set := range c.Sets {
		if n := len(set.Added) + len(set.Removed); n > crowd/10 {
			s.Errorf("%d elements change", n)
		}
	}
}

// crowded fills sets of each kind. Another version differs in a few elements.
func crowded(rs *sample, version int) *sample {
	var entries []uint32
	for i := range 100 {
		entries = append(entries, rs.entry(fmt.Sprintf("port_forward entry %d", i)))
	}
	ports := rs.set("ports", types(ruleset.IPv4Addr, ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	nets := rs.interval("nets", types(ruleset.IPv4Addr), nil)
	marks := rs.set("marks", types(ruleset.IPv4Addr), types(ruleset.Verdict))
	target := rs.chain("target", nil)
	rs.rule(target, "forward", accept())
	for i := range crowd {
		if i%1000 == version {
			continue
		}
		value := i
		if i%1000 == 500 {
			value += version
		}
		ports.Add(join(ip(0x0a000000+i/1000), port(i%1000)), nil, join(ip(0x0b000000+value), port(80)), entries[i%100])
		nets.Add(ip(i*16), ip(i*16+15-i%2), nil, ruleset.NoOrigin)
		if i%10 == 3 {
			marks.AddVerdict(ip(i), nil, goTo("target"), ruleset.NoOrigin)
		}
	}
	return rs
}
