package compile

import (
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// priorityMangle is behind conntrack and before nat (NF_IP_PRI_MANGLE).
const priorityMangle = -150

// mssClamp builds the chain that lowers the maximum segment size of TCP
// connections to and from zones: each side tells the other in its SYN what it
// takes, and only the gateway knows that the path between takes less. The
// kernel never raises it, so a connection between two zones gets the lower one.
func (c *compiler) mssClamp() {
	var ch *ruleset.Chain
	for _, z := range c.zones {
		if !z.MSSClamp.PathMTU && z.MSSClamp.Size == 0 {
			continue
		}
		if ch == nil {
			base := c.base("mangle_forward", ruleset.TypeFilter, ruleset.Forward, priorityMangle)
			ch = c.chain("mss_clamp", own("mss_clamp"))
			c.rule(base, own("mss_clamp"), goTo(ch.Name), equal(ruleset.L4Proto, policy.ProtocolTCP), flags(ruleset.Masked, ruleset.TCPSyn, ruleset.TCPSyn|ruleset.TCPRst))
			c.rule(base, own("ipmasq"), pass())
		}
		o := origin("zone", z.Name, z.Place)
		for _, a := range append(c.within([]*zone{z}, ruleset.OIfName, destinations()), c.within([]*zone{z}, ruleset.IIfName, sources())...) {
			m := a.matches
			if f, one := a.family.index(); one {
				m = append([]ruleset.Match{isFamily(f)}, m...)
			}
			c.rule(ch, o, ruleset.Action{}, m...).Do = []ruleset.Statement{{Kind: ruleset.SetMaxSeg, Value: uint32(z.MSSClamp.Size)}}
		}
	}
}

// flags compares those TCP flags that are in a mask.
func flags(op ruleset.Op, value, mask byte) ruleset.Match {
	return ruleset.Match{Fields: []ruleset.Field{ruleset.TCPFlagsField}, Op: op, Value: []byte{value}, High: []byte{mask}}
}
