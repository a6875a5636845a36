package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Docker is what a host's Docker has made.
type Docker struct {
	// Chains are those that lead to what users of iptables want first.
	Chains []ruleset.UserChain
	// Tables are those of Docker's own nftables rules.
	Tables []DockerTable
	// Marks are what these let pass to its bridges.
	Marks []DockerMark
}

// DockerTable is a table of Docker's own nftables rules.
type DockerTable struct {
	Family ruleset.Family
	Drops  bool // what goes to none of its bridges
}

// DockerMark is the mark with which packets of a family pass to a bridge of
// Docker's. A mask of 0 is that none does.
type DockerMark struct {
	Bridge      string
	Family      ruleset.Family
	Value, Mask uint32
}

// marked says whether a packet that leaves by an interface of a pattern may need
// a mark, and which.
func (d *Docker) marked(f ruleset.Family, out string) (marks []DockerMark) {
	if d == nil {
		return nil
	}
	prefix, wildcard := strings.CutSuffix(out, "*")
	for _, m := range d.Marks {
		if m.Family == f && (out == "" || m.Bridge == out || wildcard && strings.HasPrefix(m.Bridge, prefix)) {
			marks = append(marks, m)
		}
	}
	return marks
}

// docker finds what Docker's rules are to let pass, and marks what its own
// nftables rules know by a mark.
//
// It is wider than what forward accepts: two zones between which something may
// pass. That does no harm, since what comes from a zone is for forward to judge,
// whoever is asked first; and it has to be, since what Docker's chain accepts may
// be judged by ours before or behind it. What comes from no zone, and what goes to
// none, is not in it: Docker's networks stay as closed as Docker has them, but
// where a zone, or the target of a port forward, is in one.
func (c *compiler) docker(forwards *forwards) {
	if !c.policy.Gateway.Docker {
		return
	}
	p := passings{}
	for _, way := range c.ways(forwards) {
		for f := range 2 {
			if way.families[f] {
				p.add(f, c.sides(way.from, f), c.sides(way.to, f))
			}
		}
	}
	c.passTargets(p, forwards)
	d := &ruleset.Docker{Passing: p.list()}
	c.out.Docker = d
	if c.facts.Docker != nil {
		d.Chains = c.facts.Docker.Chains
	}
	c.dockerMarks(d.Passing)
}

// way is zones between which packets may pass.
type way struct {
	families [2]bool
	from, to []*zone
}

// ways are all of them, but those of port forwards.
func (c *compiler) ways(forwards *forwards) (out []way) {
	both := [2]bool{true, true}
	if c.policy.Forward.Default == policy.Accept {
		return []way{{both, c.zones, c.zones}}
	}
	for i := range c.rules.Rules {
		if r := &c.rules.Rules[i]; r.Action == policy.Accept {
			to := c.zones
			if named := c.towards(r.To); named != nil {
				to = named
			}
			out = append(out, way{c.rules.conditions[i].families(), c.rules.conditions[i].from, to})
		}
	}
	for _, t := range c.translators {
		if t.opens {
			out = append(out, way{t.condition.families(), t.from, t.to})
		}
	}
	for _, g := range c.oneToOne {
		for _, m := range g.list {
			if m.ExposeAll || len(m.Expose) > 0 {
				families := [2]bool{}
				families[m.family] = true
				out = append(out, way{families, append([]*zone{m.zone}, m.homes...), m.homes})
			}
		}
	}
	return out
}

// end is one end of a packet's way: an interface, "" for any, and an address.
type end struct {
	name    string
	address netip.Prefix
}

// sides are where packets of zones come from or go to. On interfaces that are
// named the addresses do not matter: all that arrives there is judged.
func (c *compiler) sides(zones []*zone, f int) (out []end) {
	for _, z := range zones {
		if len(z.left[f]) == 0 {
			continue
		}
		for _, p := range z.patterns {
			switch {
			case !p.wildcard:
				out = append(out, end{name: p.name})
			case p.name != "":
				out = append(out, end{name: p.name + "*"})
			case z.networks[f].equal(whole(f)):
				out = append(out, end{})
			default:
				for _, s := range z.networks[f] {
					for _, n := range s.prefixes() {
						out = append(out, end{address: n})
					}
				}
			}
		}
	}
	return out
}

// fewTargets is how many targets of which only the address is known have a way of
// their own.
const fewTargets = 256

// passTargets adds the ways to the targets of port forwards. Where a target is on
// a link of no zone, as on a network of Docker's, the way is to it alone; so it is
// where nobody knows by which link it is reached.
func (c *compiler) passTargets(p passings, forwards *forwards) {
	var from []*zone
	for _, z := range c.zones {
		if forwards.enters(z) {
			from = append(from, z)
		}
	}
	seen := map[netip.Addr]bool{}
	var unknown [2][]end
	for i := range forwards.claims {
		k := &forwards.claims[i]
		if forwards.entries[k.entry].loopback || seen[k.target] {
			continue
		}
		seen[k.target] = true
		f, at, name := familyIndex(k.target), span{k.target, k.target}, c.linkOf(k.target)
		alone := end{name, netip.PrefixFrom(k.target, k.target.BitLen())}
		zones := c.naming(at, f)
		if z := c.zoneOf(name, at); name != "" && z != nil {
			zones = []*zone{z}
		}
		switch {
		case len(zones) > 0:
			p.add(f, c.sides(from, f), c.sides(zones, f))
		case name != "":
			p.add(f, c.sides(from, f), []end{alone})
		default:
			unknown[f] = append(unknown[f], alone)
		}
	}
	for f, list := range unknown {
		if len(list) > fewTargets {
			list = c.sides(c.zones, f)
		}
		p.add(f, c.sides(from, f), list)
	}
}

// linkOf is the link that has a network with an address, or "".
func (c *compiler) linkOf(a netip.Addr) (name string) {
	longest := -1
	for _, l := range c.facts.Links {
		for _, p := range l.Addresses {
			if p.Masked().Contains(a) && p.Bits() > longest {
				name, longest = l.Name, p.Bits()
			}
		}
	}
	return name
}

// naming are the zones that name a network with an address.
func (c *compiler) naming(at span, f int) (out []*zone) {
	for _, z := range c.zones {
		if !z.networks[f].equal(whole(f)) && z.left[f].intersects(spans{at}) {
			out = append(out, z)
		}
	}
	return out
}

// passings are what may pass, and whether more than answers.
type passings map[ruleset.Passing]bool

func (p passings) add(f int, from, to []end) {
	for _, a := range from {
		for _, b := range to {
			p[ruleset.Passing{Family: familyOf(f), In: a.name, From: a.address, Out: b.name, To: b.address}] = true
		}
	}
}

// list adds the answers to what does not pass in both directions anyway.
func (p passings) list() []ruleset.Passing {
	out := slices.Collect(maps.Keys(p))
	for x := range p {
		back := ruleset.Passing{Family: x.Family, In: x.Out, From: x.To, Out: x.In, To: x.From}
		if !p[back] {
			back.Answers = true
			out = append(out, back)
		}
	}
	slices.SortFunc(out, func(a, b ruleset.Passing) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), compareBool(a.Answers, b.Answers), cmp.Compare(a.In, b.In), cmp.Compare(a.Out, b.Out),
			cmp.Compare(a.From.String(), b.From.String()), cmp.Compare(a.To.String(), b.To.String()))
	})
	return out
}

// dockerMarks builds the chain that marks what passes to bridges of Docker's: its
// own nftables rules look at no other table, and leave no chain to users. The
// answers are let pass there anyway.
func (c *compiler) dockerMarks(passing []ruleset.Passing) {
	var base *ruleset.Chain
	c.dockerDrops()
	told := map[DockerMark]bool{}
	for _, x := range passing {
		if x.Answers {
			continue
		}
		for _, m := range c.facts.Docker.marked(x.Family, x.Out) {
			if m.Mask == 0 {
				if !told[m] {
					told[m] = true
					c.warning(c.policy.Gateway.Place, fmt.Sprintf("Docker's own nftables rules let nothing of %s pass to %s by a mark, so what the policy accepts there may be dropped: "+
						"start dockerd with --bridge-accept-fwmark=0x10000000/0x10000000", familyName(indexOf(x.Family)), m.Bridge))
				}
				continue
			}
			if base == nil {
				base = c.base("docker_forward", ruleset.TypeFilter, ruleset.Forward, priorityMangle)
			}
			f := indexOf(x.Family)
			when := []ruleset.Match{isFamily(f)}
			if x.In != "" {
				prefix, wildcard := strings.CutSuffix(x.In, "*")
				when = append(when, interfaceIs(ruleset.IIfName, pattern{prefix, wildcard})...)
			}
			when = append(when, equal(ruleset.OIfName, ifname(m.Bridge)...))
			for _, of := range []struct {
				field   ruleset.Field
				address netip.Prefix
			}{{sources()[f], x.From}, {destinations()[f], x.To}} {
				if of.address.IsValid() {
					when = append(when, inPrefix(of.field, of.address.String()))
				}
			}
			c.rule(base, own("docker"), ruleset.Action{}, when...).Do = []ruleset.Statement{{Kind: ruleset.SetMark, Value: m.Value, Mask: m.Mask}}
		}
	}
	if base != nil {
		c.rule(base, own("ipmasq"), pass())
	}
}

// dockerDrops warns of what no mark passes.
func (c *compiler) dockerDrops() {
	if c.facts.Docker == nil {
		return
	}
	for _, t := range c.facts.Docker.Tables {
		if t.Drops {
			table := [2]string{"ip", "ip6"}[indexOf(t.Family)]
			c.warning(c.policy.Gateway.Place, fmt.Sprintf("Docker's chain %s docker-bridges filter-FORWARD drops what goes to none of Docker's networks, and no mark passes it: "+
				"restart Docker, now that the host forwards, or run nft 'chain %[1]s docker-bridges filter-FORWARD { policy accept; }'", table))
		}
	}
}

// indexOf is the index of a family.
func indexOf(family ruleset.Family) int {
	if family == ruleset.IPv6 {
		return 1
	}
	return 0
}
