package simulate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// hint says what would let the packet pass.
func (q *question) hint(out *Outcome) string {
	entry := out.By.Entry
	from := q.From
	if q.Interface != "" && from == "" {
		from = "no zone"
	}
	chain := ""
	if n := len(out.Steps); n > 0 && out.Steps[n-1].Chain != nil {
		chain = out.Steps[n-1].Chain.Name
	}
	switch {
	case out.Verdict == Unrouted && (len(q.host.Way(out.Left.Destination)) > 0 || q.host.Kind(out.Left.Destination) == ruleset.RTNLocal):
		return "nothing: the kernel hands no packet on from or to such an address"
	case out.Verdict == Unrouted:
		return fmt.Sprintf("the host needs a route to %s: ip route get %s says what it does", out.Left.Destination, out.Left.Destination)
	case chain == "leak_guard_translated":
		return fmt.Sprintf("%s needs an address to translate to that the other side can answer", out.Out)
	case strings.HasPrefix(chain, "leak_guard"):
		if q.State != ruleset.CtNew {
			return fmt.Sprintf("nothing: only the first packet of a flow is translated, and this one would leave with the source %s", out.Left.Source)
		}
		return fmt.Sprintf("an entry of snat or masquerade that translates what goes from %s to %s by %s", from, q.leftTo(out), policy.ProtocolName(q.Protocol))
	case strings.HasPrefix(entry, "antispoof"):
		return q.hintForged()
	case strings.HasPrefix(entry, "invalid") || strings.HasPrefix(chain, invalidChain):
		return "nothing: conntrack can make no flow of it, and no rule can let it pass"
	case entry == "forward default":
		return q.hintForward(out)
	case entry == "input default":
		return fmt.Sprintf("no rule of input lets it in: add {from: %s, %s, action: accept} to input.rules", from, q.traffic())
	case strings.HasPrefix(entry, "one_to_one"):
		return fmt.Sprintf("%s does not expose it: add %s to its `expose`", entry, q.service())
	case strings.HasPrefix(entry, "forward ") || strings.HasPrefix(entry, "input "):
		section, _, _ := strings.Cut(entry, " ")
		return fmt.Sprintf("%s refuses it: a rule that accepts it has to stand before that one in %s.rules", entry, section)
	}
	return ""
}

func (q *question) hintForged() string {
	ways := q.host.Way(q.Source)
	if len(ways) == 0 {
		return fmt.Sprintf("no route leads back to %s: it needs one by %s, or the zone `antispoof: false`", q.Source, q.Interface)
	}
	return fmt.Sprintf("%s is reached by %s: send it from there, give it a route by %s, or the zone `antispoof: false`", q.Source, ways[0], q.Interface)
}

func (q *question) hintForward(out *Outcome) string {
	to := q.leftTo(out)
	if o := out.DNAT.Origin; o != nil && strings.HasPrefix(o.Entry, "one_to_one ") {
		return fmt.Sprintf("%s does not expose it: add %s to its `expose`", o.Entry, q.service())
	}
	if to == q.From && to != "" && out.Left == out.Arrived && q.isUplink(q.policy.Zone(to)) {
		return fmt.Sprintf("%s is not one of the gateway's addresses%s, and no entry takes what is for it", q.Destination, q.heldBy(out.Out))
	}
	if to == "" {
		return fmt.Sprintf("%s is in no zone: add it to the interfaces of one, and a rule that lets %s reach it", out.Out, q.From)
	}
	text := fmt.Sprintf("no rule lets %s to %s pass: add {from: %s, to: %s, %s, action: accept} to forward.rules", q.From, to, q.From, to, q.traffic())
	if q.translates(to) && !q.translates(q.From) && q.Source.IsPrivate() {
		text += fmt.Sprintf(", or %s to the `from` of a masquerade entry", q.From)
	}
	return text
}

// isUplink says whether what leaves to a zone is translated, or it holds the
// default route.
func (q *question) isUplink(z *policy.Zone) bool {
	return z != nil && (z.DefaultRoute || q.translates(z.Name) ||
		slices.ContainsFunc(q.facts.Defaults, func(d link.DefaultRoute) bool { return on(z, d.Interface) }))
}

// heldBy writes the addresses of an interface that are of the packet's family.
func (q *question) heldBy(name string) string {
	l, _ := q.facts.Link(name)
	var list []string
	for _, a := range l.Addresses {
		if own := a.Prefix.Addr(); own.Is4() == q.Destination.Is4() && !own.IsLinkLocalUnicast() {
			list = append(list, own.String())
		}
	}
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s has %s)", name, strings.Join(list, ", "))
}

// translates says whether entries translate what leaves to a zone.
func (q *question) translates(zone string) bool {
	for i := range q.policy.Masquerade {
		for _, ref := range q.policy.Masquerade[i].To {
			if ref.Name == zone {
				return true
			}
		}
	}
	for i := range q.policy.SNAT {
		for _, ref := range q.policy.SNAT[i].To {
			if ref.Name == zone {
				return true
			}
		}
	}
	return false
}

// leftTo is the zone that the packet would have left to.
func (q *question) leftTo(out *Outcome) string {
	if out.Out == "" {
		return flows.Gateway
	}
	return q.zones.Of(out.Out, out.Left.Destination)
}

// traffic is what a rule would say of the packet.
func (q *question) traffic() string {
	text := "protocol: " + policy.ProtocolName(q.Protocol)
	if HasPorts(q.Protocol) {
		text += fmt.Sprintf(", ports: %d", q.DestinationPort)
	}
	return text
}

func (q *question) service() string {
	if HasPorts(q.Protocol) {
		return fmt.Sprintf("%s/%d", policy.ProtocolName(q.Protocol), q.DestinationPort)
	}
	return policy.ProtocolName(q.Protocol)
}
