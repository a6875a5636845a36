package compile

import (
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// attributes are what an entry asks for the flows that it translates or lets
// pass: how many, how long they live, who reads along, what is written down.
// They are given to the first packet of a flow, before it is confirmed, and so
// cost the others nothing.
type attributes struct {
	limits   policy.Limits
	timeouts *policy.Timeouts
	helpers  []policy.Helper
	log      *policy.Log
	// protocols are those of the entry; none are all. families are those that
	// its packets can be of.
	protocols []policy.Protocol
	families  [2]bool
}

func (a *attributes) any() bool {
	return a.limits.PerHost != 0 || a.limits.Total != 0 || a.timeouts != nil || len(a.helpers) > 0 || a.log != nil
}

// attributed has do append an entry's decision to a chain: straight, or behind
// the entry's attributes in a chain of its own, which all that lead to it share.
// Object is what the names of the entry's objects begin with. The chain sees
// new flows alone.
func (c *compiler) attributed(ch *ruleset.Chain, o ruleset.Origin, object string, when []alternative, a attributes, do func(*ruleset.Chain, []alternative)) {
	if !a.any() {
		do(ch, when)
		return
	}
	name := fit("flows_of_" + object)
	if !c.chains[name] {
		flows := c.chain(name, o)
		c.give(flows, o, object, a)
		do(flows, anything())
	}
	c.entryRules(ch, o, when, "", goTo(name))
}

// give appends what gives a new flow an entry's attributes, or drops it.
func (c *compiler) give(ch *ruleset.Chain, o ruleset.Origin, object string, a attributes) {
	c.limit(ch, o, object, a)
	c.timeouts(ch, o, a)
	c.helpers(ch, o, a.helpers)
	c.log(ch, o, a.log)
}

// Sizes of the sets that rules fill. The kernel takes 16 bytes for each place
// from the start, walks over all of them once a second, and limits nothing for
// a host that finds none.
const (
	hostsRemembered = 1 << 16
	totalRemembered = 16 // one, and those that are empty and not yet gone
)

// dynamic makes a set that rules fill, or finds it.
func (c *compiler) dynamic(name string, o ruleset.Origin, field ruleset.Field, size, timeout uint32) string {
	name = fit(name)
	if !c.taken[name] {
		c.taken[name] = true
		s := ruleset.NewSet(name, []ruleset.Type{field.Type()}, nil)
		s.Origin, s.Dynamic, s.Size, s.Timeout = o, true, size, timeout
		c.out.Sets = append(c.out.Sets, s)
	}
	return name
}

// limit drops a flow that is one too many. Open flows are remembered in sets,
// which stay when chains are filled again. The kernel keeps the limit with each
// element, so that a set is named after it.
func (c *compiler) limit(ch *ruleset.Chain, o ruleset.Origin, object string, a attributes) {
	// Of a new flow the direction is always the same: one key for all.
	c.limitBy(ch, o, object, a, ruleset.CtDirection)
}

// limitBy is limit with a field that is the same for all packets that come by.
func (c *compiler) limitBy(ch *ruleset.Chain, o ruleset.Origin, object string, a attributes, all ruleset.Field) {
	l := a.limits
	drop := ruleset.Action{Kind: ruleset.Drop}
	over := func(name string, n uint32, field ruleset.Field, size uint32, matches ...ruleset.Match) {
		r := c.rule(ch, o, drop, matches...)
		set := c.dynamic(fmt.Sprintf("open_%s_%s_%d", object, name, n), o, field, size, 0)
		r.Do = []ruleset.Statement{{Kind: ruleset.CountOver, Count: n, Set: set, Fields: []ruleset.Field{field}}}
		r.Counter = c.counter("limit_stopped_"+object, o)
	}
	for f, field := range sources() {
		if l.PerHost != 0 && a.families[f] {
			over("by_host"+familySuffix(f), l.PerHost, field, hostsRemembered, isFamily(f))
		}
	}
	if l.Total != 0 {
		over("total", l.Total, all, totalRemembered)
	}
}

// above returns from a chain what is more than an entry's rate, of all sources
// together or of each. A source is remembered for as long as it takes until a
// whole burst may come again: to forget it then changes nothing.
func (c *compiler) above(ch *ruleset.Chain, o ruleset.Origin, object string, r *policy.Rate, families [2]bool) {
	if r == nil {
		return
	}
	back, over := ruleset.Action{Kind: ruleset.Return}, ruleset.Statement{Kind: ruleset.RateOver, Rate: rate(*r)}
	full := over.Rate.Seconds * uint64(over.Rate.Burst) / over.Rate.Packets
	if !r.PerSource {
		c.rule(ch, o, back).Do = []ruleset.Statement{over}
		return
	}
	for f, field := range sources() {
		if !families[f] {
			continue
		}
		over.Fields = []ruleset.Field{field}
		over.Set = c.dynamic(fmt.Sprintf("rate_%s_by_source%s_%d_%d_%d", object, familySuffix(f), over.Rate.Packets, over.Rate.Seconds, over.Rate.Burst), o, field,
			hostsRemembered, uint32(min(full+1, math.MaxUint32)))
		c.rule(ch, o, back, isFamily(f)).Do = []ruleset.Statement{over}
	}
}

// log writes a flow down, no more often than the entry says.
func (c *compiler) log(ch *ruleset.Chain, o ruleset.Origin, l *policy.Log) {
	if l != nil {
		c.rule(ch, o, ruleset.Action{}).Do = logging(o, l)
	}
}

// logging is the statements that log. The kernel takes a prefix of 127 bytes
// (NF_LOG_PREFIXLEN), which is more than the longest name has.
func logging(o ruleset.Origin, l *policy.Log) []ruleset.Statement {
	to := ruleset.LogTo{Prefix: l.Prefix, Level: uint32(l.Level)}
	if to.Prefix == "" {
		to.Prefix = o.Entry + ": "
	}
	if l.Group != nil {
		to.Group, to.HasGroup = *l.Group, true
	}
	return []ruleset.Statement{
		{Kind: ruleset.RateUnder, Rate: rate(l.Rate)},
		{Kind: ruleset.Log, Log: to},
	}
}

func rate(r policy.Rate) ruleset.Rate {
	return ruleset.Rate{Packets: uint64(r.Count), Seconds: uint64(r.Per / time.Second), Burst: r.Burst}
}

// named gives an object its name by its content, so that all that need the
// same share it; it is new where none has it yet.
func (c *compiler) named(base, content string) (name string, isNew bool) {
	name = fmt.Sprintf("%s_%08x", base, crc32.ChecksumIEEE([]byte(content)))
	isNew = !c.taken[name]
	c.taken[name] = true
	return name, isNew
}
