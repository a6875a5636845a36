package simulate

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// looked notes what of the packet the rule looked at, with what it saw there.
func (x Step) looked(q *question, out string) Step {
	add := func(fields []ruleset.Field) {
		for _, f := range fields {
			if text := x.saw(q, f, out); text != "" && !slices.Contains(x.Looked, text) {
				x.Looked = append(x.Looked, text)
			}
		}
	}
	for i := range x.Rule.Matches {
		add(x.Rule.Matches[i].Fields)
	}
	add(x.Rule.Action.Fields)
	return x
}

// saw is what a field of the packet is at this point. The family is no news.
func (x *Step) saw(q *question, f ruleset.Field, out string) string {
	switch f {
	case ruleset.IIfName:
		if q.Interface == "" {
			return "from the gateway"
		}
		return "from " + q.Interface
	case ruleset.OIfName:
		return "to " + out
	case ruleset.L4Proto:
		return policy.ProtocolName(q.Protocol)
	case ruleset.IPSaddr, ruleset.IP6Saddr:
		return "source " + x.Source.String()
	case ruleset.IPDaddr, ruleset.IP6Daddr:
		return "destination " + x.Destination.String()
	case ruleset.SrcPort:
		return fmt.Sprintf("source port %d", x.SourcePort)
	case ruleset.DstPort:
		return fmt.Sprintf("port %d", x.DestinationPort)
	case ruleset.ICMPTypeField, ruleset.ICMPv6TypeField:
		return fmt.Sprintf("type %d", q.ICMPType)
	case ruleset.CtStateField:
		return "state " + StateName(q.State)
	case ruleset.CtStatusField:
		return "whether it was translated"
	case ruleset.CtDirection:
		return "the direction within its flow"
	case ruleset.CtOrigProtoDst:
		return fmt.Sprintf("port %d that it was first sent to", q.original().DestinationPort)
	case ruleset.CtOrigIPDaddr, ruleset.CtOrigIP6Daddr:
		return fmt.Sprintf("destination %s that it was first sent to", q.original().Destination)
	case ruleset.CtOrigIPSaddr, ruleset.CtOrigIP6Saddr:
		return fmt.Sprintf("source %s that it first had", q.original().Source)
	case ruleset.CtReplyIPDaddr, ruleset.CtReplyIP6Daddr:
		return "where answers go"
	case ruleset.FibDaddrType, ruleset.FibDaddrIifType:
		return fmt.Sprintf("whether %s is the gateway's own", x.Destination)
	case ruleset.FibSaddrType, ruleset.FibSaddrOifType:
		return fmt.Sprintf("whether %s is the gateway's own", x.Source)
	case ruleset.FibSaddrIif, ruleset.FibSaddrOIfName:
		return "the way back to " + x.Source.String()
	case ruleset.FibDaddrOIfName:
		return "the way to " + x.Destination.String()
	case ruleset.MetaMark:
		return "the packet's mark"
	case ruleset.CtMark:
		return "the flow's mark"
	case ruleset.TCPFlagsField:
		return "TCP flags " + FlagNames(q.TCPFlags)
	case ruleset.IP6HopLimit:
		return "the hop limit"
	}
	return ""
}

// original are the ends of the first packet of the flow.
func (q *question) original() Ends {
	if q.flow != nil {
		return q.flow.Original
	}
	return q.ends()
}
