package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// offloadChains is what the names of its chains begin with.
const offloadChains = "offload_"

// offload appends to forward what gives open flows between the zones of
// `gateway.offload` to a flowtable, whose packets then leave from the ingress of
// its devices and meet no hook. What is open has been accepted; which flows the
// kernel can take is its own to say (nft_flow_offload_eval). Only devices that
// exist can be in a flowtable, so that on a desk there is none.
func (c *compiler) offload(base *ruleset.Chain) {
	p := c.policy.Gateway.Offload
	if p == nil || !c.facts.Host {
		return
	}
	o, zones := origin("gateway", "offload", p.Place), c.refs(p.Zones)
	var devices []string
	for _, l := range c.facts.Links { // a zone of an offload has interfaces
		if slices.ContainsFunc(zones, func(z *zone) bool { return z.on(pattern{name: l.Name}) }) && l.Name != "lo" {
			devices = append(devices, l.Name)
		}
	}
	if len(devices) == 0 {
		c.warning(p.Place, fmt.Sprintf("the host has no interface of %s now, and nothing is offloaded; apply again once there is one", zoneList(zones)))
		return
	}
	slices.Sort(devices)
	var patterns []pattern
	for _, d := range devices {
		patterns = append(patterns, pattern{name: d})
	}
	in, out := c.interfaces(ruleset.IIfName, patterns, "offloaded", o), c.interfaces(ruleset.OIfName, patterns, "offloaded", o)
	protocols := c.set("offloaded_protocols", o, false, []ruleset.Type{ruleset.InetProto}, func(s *ruleset.Set) {
		s.Add([]byte{policy.ProtocolTCP}, nil, nil, ruleset.NoOrigin)
		s.Add([]byte{policy.ProtocolUDP}, nil, nil, ruleset.NoOrigin)
	})
	m := append([]ruleset.Match{anyBit(ruleset.CtStateField, ruleset.CtEstablished), equal(ruleset.CtDirection, ruleset.CtOriginal)}, in.matches...)
	m = append(append(m, out.matches...), ruleset.Match{Fields: []ruleset.Field{ruleset.L4Proto}, Op: ruleset.In, Set: protocols})
	flows := c.chain(offloadChains+"flows", o)
	c.rule(base, o, jumpTo(flows.Name), m...)
	c.offloads(flows, o, &ruleset.Flowtable{Devices: slices.Compact(devices), Hardware: p.Hardware, Origin: o})
}

// offloads fills the chain that gives flows to the flowtable. No guard sees
// them after that, and so what an entry should have translated and did not
// stays with the rules. The flowtable is named after what is asked here: where
// that changes there is a new one, and flows are asked again.
func (c *compiler) offloads(ch *ruleset.Chain, o ruleset.Origin, f *ruleset.Flowtable) {
	add := ruleset.Statement{Kind: ruleset.Offload}
	var adding []*ruleset.Rule
	give := func(ch *ruleset.Chain, matches ...ruleset.Match) {
		r := c.rule(ch, o, pass(), matches...)
		r.Do = []ruleset.Statement{add}
		adding = append(adding, r)
	}
	give(ch, anyBit(ruleset.CtStatusField, ruleset.CtSNAT))
	from := c.translated(offloadChains+"from_", func(ch *ruleset.Chain, t *translator) {
		c.entryRules(ch, t.origin, t.when, "", pass())
	})
	for _, other := range c.out.Chains {
		if slices.Contains(slices.Collect(maps.Values(from)), other.Name) {
			give(other)
		}
	}
	c.dispatch(ch, from, "")
	give(ch)
	f.Name, _ = c.named("offloaded", c.offloadContent())
	for _, r := range adding {
		r.Do[0].Object = f.Name
	}
	c.out.Flowtables = append(c.out.Flowtables, f)
}

// offloadContent tells what the rules for the flowtable match, in bytes that
// are the same for the same policy.
func (c *compiler) offloadContent() string {
	var out strings.Builder
	sets := map[string]bool{}
	for _, ch := range c.out.Chains {
		if !strings.HasPrefix(ch.Name, offloadChains) {
			continue
		}
		for _, r := range ch.Rules {
			fmt.Fprintf(&out, "%s %v %v\n", r.ID, r.Matches, r.Action)
			sets[r.Action.Map] = true
			for _, m := range r.Matches {
				sets[m.Set] = true
			}
		}
	}
	for _, s := range c.out.Sets {
		if sets[s.Name] {
			s.Sort()
			for i := range s.Len() {
				out.Write(s.KeyAt(i))
				if s.Interval {
					out.Write(s.HighAt(i))
				}
			}
		}
	}
	return out.String()
}
