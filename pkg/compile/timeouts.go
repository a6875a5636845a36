package compile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// timeouts gives flows the lives that an entry says, by protocol.
func (c *compiler) timeouts(ch *ruleset.Chain, o ruleset.Origin, a attributes) {
	t := a.timeouts
	if t == nil {
		return
	}
	for _, x := range []struct {
		proto  uint8
		policy []ruleset.TimeoutState
	}{
		{policy.ProtocolTCP, states(t.TCP)},
		{policy.ProtocolUDP, states(t.UDP)},
		{policy.ProtocolUDPLite, states(t.UDP)},
		{policy.ProtocolICMP, single(t.ICMP, a.families[0])},
		{policy.ProtocolICMPv6, single(t.ICMP, a.families[1])},
	} {
		// Not every kernel knows UDP-Lite, and it is not for those who do not
		// speak of it to learn that.
		if all := len(a.protocols) == 0 && x.proto != policy.ProtocolUDPLite; all || hasProtocol(a.protocols, x.proto) {
			c.timeout(ch, o, x.proto, x.policy)
		}
	}
}

// timeout gives the flows of a protocol an object with the states that are
// named. The object is for both families: the kernel looks at the protocol
// alone.
func (c *compiler) timeout(ch *ruleset.Chain, o ruleset.Origin, proto uint8, policed []ruleset.TimeoutState) {
	if len(policed) == 0 {
		return
	}
	name, isNew := c.named("timeout_"+policy.ProtocolName(proto), fmt.Sprint(policed))
	if isNew {
		c.out.Timeouts = append(c.out.Timeouts, &ruleset.Timeout{Name: name, Protocol: proto, Family: ruleset.Inet, Policy: policed, Origin: own("timeouts")})
	}
	c.rule(ch, o, ruleset.Action{}, equal(ruleset.L4Proto, proto)).Do = []ruleset.Statement{{Kind: ruleset.SetTimeout, Object: name}}
}

func states(list []policy.Timeout) []ruleset.TimeoutState {
	out := make([]ruleset.TimeoutState, len(list))
	for i, t := range list {
		out[i] = ruleset.TimeoutState{State: t.State, Seconds: uint32(t.After / time.Second)}
	}
	slices.SortFunc(out, func(a, b ruleset.TimeoutState) int { return cmp.Compare(a.State, b.State) })
	return out
}

// single is the timeouts of a protocol that has one state, where it is used.
func single(after time.Duration, used bool) []ruleset.TimeoutState {
	if after == 0 || !used {
		return nil
	}
	return []ruleset.TimeoutState{{State: "timeout", Seconds: uint32(after / time.Second)}}
}
