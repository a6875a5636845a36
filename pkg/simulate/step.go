package simulate

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Step is a rule that the packet met and whose conditions it fulfilled, or
// something that the kernel does by itself, in the order of the packet's way. The
// ends in the embedded step are those before it.
type Step struct {
	// Step has no Chain, Rule and Origin where By is not a rule.
	explain.Step
	By Actor
	// Matters says that it is worth telling: it is of an entry, or decided
	// something. Others only lead the way through the ruleset.
	Matters bool
	// Does is what it did, in words: "passes", "destination 203.0.113.1:80 becomes
	// 192.168.2.10:8080".
	Does string
	// Looked is what of the packet it looked at, as "to eth0", "tcp", "port 80".
	Looked []string
	// Limit is the limit that it has, in words; for this packet it is not reached.
	Limit string
	After Ends // of the packet behind it
}

// Actor is who did a step.
type Actor string

// The actors.
const (
	ByRule      Actor = "rule"
	ByRouting   Actor = "routing"
	ByConntrack Actor = "conntrack" // it translates what is of a known flow
)

func endsAt(s *explain.Step) Ends {
	return Ends{s.Source, s.Destination, s.SourcePort, s.DestinationPort}
}

// step tells of a rule in words. Out is the interface that the packet leaves by,
// where it is known by then.
func (q *question) step(s explain.Step, r *explain.Result, out string) Step {
	s.Origin = opener(s.Origin, r)
	x := Step{Step: s, By: ByRule, After: endsAt(&s)}
	a := &s.Rule.Action
	switch {
	case s.Set != nil && s.Set.IsVerdictMap() && s.Element < len(s.Set.Verdicts):
		a = &s.Set.Verdicts[s.Element]
	}
	switch x.Limit = limitText(s.Rule); {
	case s.Limited:
		x.Does, x.Matters = unlimited, isNamed(s.Origin)
		return x.looked(q, out)
	}
	x.decide(q, a, r)
	for i := range s.Rule.Do {
		if text := doText(&s.Rule.Do[i]); text != "" {
			x.Matters = true
			x.Does = strings.Trim(x.Does+", "+text, ", ")
		}
	}
	if x.Limit != "" && !x.Matters && isNamed(s.Origin) {
		x.Matters, x.Does = true, unlimited
	}
	return x.looked(q, out)
}

// unlimited is what a limit does.
const unlimited = "its limit is taken not to be reached"

// decide says what the rule's action does.
func (x *Step) decide(q *question, a *ruleset.Action, r *explain.Result) {
	named := isNamed(x.Origin)
	guard := strings.HasPrefix(x.Chain.Name, "leak_guard")
	switch a.Kind {
	case ruleset.Accept:
		filters := x.Hook == ruleset.Forward || x.Hook == ruleset.Input
		x.Matters, x.Does = !guard && (named && translates(x.Origin) || filters && x.Origin.Entry != zones), "passes"
		switch {
		case !filters && translates(x.Origin):
			x.Does = "leaves it as it is"
		case !filters:
			x.Does = ""
		case x.Origin.Entry != plumbing:
		case looksAt(x.Rule, ruleset.CtStateField):
			x.Does = "passes, as its flow did"
		case len(x.Rule.Matches) == 0 && x.Chain.Hook != nil && x.Chain.Hook.Priority == 0:
			x.Does = "passes: it comes from no zone, and the policy says nothing of that"
		case x.Chain.Hook == nil || x.Chain.Hook.Priority != 0:
			x.Matters = false
		default:
			x.Does = "passes, as every policy has it"
		}
	case ruleset.Drop:
		x.Matters, x.Does = true, "drops it"
		switch {
		case x.Chain.Name == "leak_guard_translated":
			x.Does = fmt.Sprintf("drops it: it would leave with the inside address %s, which %s does not have", x.Source, r.Out)
		case guard:
			x.Does = "drops it: it would leave with a source that is to be translated, and was not"
		case strings.HasPrefix(x.Origin.Entry, "antispoof"):
			x.Does = fmt.Sprintf("drops it: the way back to %s is not %s", x.Source, q.Interface)
		case strings.HasPrefix(x.Origin.Entry, "invalid") || strings.HasPrefix(x.Chain.Name, invalidChain):
			x.Does = "drops it: conntrack can make nothing of it"
		case strings.HasSuffix(x.Origin.Entry, " default"):
			x.Does = "drops it: no rule lets it pass"
		}
	case ruleset.Reject:
		x.Matters, x.Does = true, "rejects it, and tells the sender: "+a.With
	case ruleset.Synproxy:
		x.Matters, x.Does = true, "the gateway answers the handshake, and opens the connection when the client has"
	case ruleset.DNAT, ruleset.Redirect:
		x.Matters = true
		x.After.Destination, x.After.DestinationPort = r.DNAT.Address, r.DNAT.Port
		x.Does = fmt.Sprintf("destination %s becomes %s", end(x.Destination, x.DestinationPort), end(r.DNAT.Address, r.DNAT.Port))
		if a.Kind == ruleset.Redirect {
			x.Does += ", the gateway itself"
		}
	case ruleset.SNAT, ruleset.SNATToDest, ruleset.Masquerade:
		x.Matters = true
		x.After.Source, x.After.SourcePort = r.SNAT.Address, r.SNAT.Port
		x.Does = fmt.Sprintf("source %s becomes %s", end(x.Source, x.SourcePort), end(r.SNAT.Address, r.SNAT.Port))
		if !r.SNAT.Address.IsValid() {
			x.After.Source, x.After.SourcePort = x.Source, x.SourcePort
			x.Does = fmt.Sprintf("source %s is to become an address of the interface, which has none: the kernel drops the packet", end(x.Source, x.SourcePort))
		}
	case ruleset.Return:
		if strings.HasPrefix(x.Origin.Entry, "antispoof") && looksAt(x.Rule, ruleset.FibSaddrIif) {
			x.Matters, x.Does = true, fmt.Sprintf("is not forged: the way back to %s is %s", x.Source, q.Interface)
		}
	}
}

// invalidChain is the beginning of the names of chains for what conntrack can make
// nothing of.
const invalidChain = "forward_invalid"

// translates says whether an origin is an entry that translates.
func translates(o *ruleset.Origin) bool {
	section, _, _ := strings.Cut(o.Entry, " ")
	switch section {
	case "masquerade", "snat", "one_to_one", "port_forward", "redirect":
		return true
	}
	return false
}

// opener gives, for what stands for all entries of a section, the one of them that
// has translated the packet; else what it was given.
func opener(o *ruleset.Origin, r *explain.Result) *ruleset.Origin {
	for _, made := range []*ruleset.Origin{r.DNAT.Origin, r.SNAT.Origin} {
		if made != nil && made.Place.Line > 0 && strings.HasPrefix(made.Entry, o.Entry+" ") {
			return made
		}
	}
	return o
}

// plumbing is the origin of what every policy needs, zones of what finds a
// packet's zone.
const (
	plumbing = "ipmasq"
	zones    = "zones"
)

// isNamed says whether an origin is something that the policy says.
func isNamed(o *ruleset.Origin) bool {
	return o != nil && (o.Place.Line > 0 || strings.HasSuffix(o.Entry, " default"))
}

func looksAt(r *ruleset.Rule, field ruleset.Field) bool {
	for i := range r.Matches {
		for _, f := range r.Matches[i].Fields {
			if f == field {
				return true
			}
		}
	}
	return false
}

// end writes an address and, where there is one, its port.
func end(a netip.Addr, port uint16) string {
	switch {
	case !a.IsValid():
		return "no address"
	case port == 0:
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// doText says what a statement does, where that is worth telling.
func doText(do *ruleset.Statement) string {
	switch do.Kind {
	case ruleset.Log:
		return "logs it"
	case ruleset.SetMark:
		return fmt.Sprintf("marks the packet %#x/%#x", do.Value, do.Mask)
	case ruleset.SetCtMark:
		return fmt.Sprintf("marks the flow %#x/%#x", do.Value, do.Mask)
	case ruleset.SetMaxSeg:
		if do.Value == 0 {
			return "lowers the segment size to what the route takes"
		}
		return fmt.Sprintf("lowers the segment size to %d", do.Value)
	case ruleset.SetHelper:
		return "gives the flow a helper"
	case ruleset.SetTimeout:
		return "gives the flow its timeouts"
	case ruleset.NoTrack:
		return "has conntrack pass it by"
	case ruleset.Offload:
		return "the flow goes to the flowtable " + do.Object
	case ruleset.SetAddress:
		return "writes another address for the time of routing"
	}
	return ""
}
