package link

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// seenRule is a rule as it is read, for both uses.
type seenRule struct {
	rule     Rule
	protocol Protocol
	fib      fibRule
	selector Selector
}

// readRules reads the rules of a family, in their order. It decodes them itself:
// the library's list tells neither the action nor what a VRF's rule is.
func readRules(family Family, vrfs []int) ([]seenRule, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(number(family)))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	if err != nil {
		return nil, err
	}
	out := make([]seenRule, 0, len(messages))
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
		if err != nil {
			return nil, err
		}
		// A kernel may tell of a family that was not asked for.
		if header := nl.DeserializeRtMsg(m); int(header.Family) == number(family) {
			out = append(out, toRule(family, header, attributes, vrfs))
		}
	}
	return out, nil
}

const (
	ruleInvert = 2  // FIB_RULE_INVERT of linux/fib_rules.h
	ruleDSCP   = 26 // FRA_DSCP; like all behind it something to ask for
)

func toRule(family Family, header *nl.RtMsg, attributes []syscall.NetlinkRouteAttr, vrfs []int) seenRule {
	s := seenRule{
		rule: Rule{Family: family, Table: int(header.Table)},
		fib:  fibRule{action: ruleAction(header.Type), invert: header.Flags&ruleInvert != 0, suppress: -1, asks: header.Tos != 0},
	}
	s.selector.More = header.Tos != 0
	vrf := false
	for _, a := range attributes {
		if len(a.Value) == 0 {
			continue
		}
		value := uint32(0)
		if len(a.Value) >= 4 {
			value = binary.NativeEndian.Uint32(a.Value)
		}
		switch a.Attr.Type {
		case nl.FRA_PRIORITY:
			s.rule.Priority = int(value)
		case nl.FRA_TABLE:
			s.rule.Table = int(value)
		case nl.FRA_FWMARK:
			s.rule.Mark = value
		case nl.FRA_FWMASK:
			s.rule.Mask = value
			s.fib.asks = s.fib.asks || value != 0
		case nl.FRA_PROTOCOL:
			s.protocol = Protocol(a.Value[0])
		case nl.FRA_DST:
			if to, ok := netip.AddrFromSlice(a.Value); ok {
				s.fib.to = netip.PrefixFrom(to, int(header.Dst_len))
				s.selector.To = s.fib.to
			}
		case nl.FRA_GOTO:
			s.fib.target = int(value)
		case nl.FRA_SUPPRESS_PREFIXLEN:
			s.fib.suppress = int(int32(value))
		case nl.FRA_SUPPRESS_IFGROUP:
			s.fib.asks = s.fib.asks || int32(value) >= 0
		case nl.FRA_L3MDEV:
			vrf = a.Value[0] != 0
			s.selector.More = s.selector.More || vrf
		case nl.FRA_SRC:
			s.fib.asks = true
			if from, ok := netip.AddrFromSlice(a.Value); ok {
				s.selector.From = netip.PrefixFrom(from, int(header.Src_len))
			}
		case nl.FRA_IIFNAME:
			s.fib.asks = true
			s.selector.In = unix.ByteSliceToString(a.Value)
		case nl.FRA_OIFNAME:
			s.fib.asks = true
			s.selector.Out = unix.ByteSliceToString(a.Value)
		case nl.FRA_TUN_ID, nl.FRA_UID_RANGE, nl.FRA_IP_PROTO,
			nl.FRA_SPORT_RANGE, nl.FRA_DPORT_RANGE:
			s.fib.asks, s.selector.More = true, true
		default:
			more := a.Attr.Type >= ruleDSCP
			s.fib.asks, s.selector.More = s.fib.asks || more, s.selector.More || more
		}
	}
	s.fib.priority, s.fib.tables = s.rule.Priority, []int{s.rule.Table}
	if vrf {
		s.fib.tables, s.fib.asks = vrfs, true
	}
	s.selector.Rule, s.selector.Not, s.selector.Action, s.selector.Suppress = s.rule, s.fib.invert, uint32(header.Type), s.fib.suppress
	return s
}

func selectors(rules []seenRule) (out []Selector) {
	for _, r := range rules {
		if r.protocol != ProtocolOwn {
			out = append(out, r.selector)
		}
	}
	return out
}

func destinations(rules []seenRule) []fibRule {
	out := make([]fibRule, len(rules))
	for i, r := range rules {
		out[i] = r.fib
	}
	return out
}
