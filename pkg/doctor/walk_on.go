package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

func (w *walker) routing() error {
	o := w.x.out
	if o.Verdict == simulate.Delivered {
		return w.passes("routing", "it is for the gateway itself")
	}
	// Rules may be asked of a packet that goes nowhere: it is then taken to be for
	// the only uplink.
	if to := o.Left.Destination; o.Verdict == simulate.Unrouted || len(w.routes().Leaves(to)) == 0 && w.routes().Kind(to) != link.KindLocal {
		return w.stopped("routing", w.noRoute(to))
	}
	if o.Out == "" || o.EndedAt == ruleset.Input {
		return nil
	}
	if o.Packet.Interface != "" {
		family := link.IPv4
		if o.Arrived.Source.Is6() {
			family = link.IPv6
		}
		name, on := forwardingSwitch(family), forwardingSwitch(family)
		if family == link.IPv4 { // which asks the link alone
			on = "net/ipv4/conf/" + o.Packet.Interface + "/forwarding"
		}
		if w.Sysctls[on] == "0" {
			f := Finding{
				Title:    fmt.Sprintf("the host does not forward %s that arrives by %s", family, o.Packet.Interface),
				Evidence: []string{w.sysctl(name)},
				Mend:     w.applyAgain("sysctl -w " + dotted(name) + "=1"),
			}
			if on != name {
				f.Evidence = append(f.Evidence, w.sysctl(on))
			}
			if w.Sysctls[name] == "1" && on != name {
				f.Mend = []string{"sysctl -w " + dotted(on) + "=1"}
			}
			return w.stopped("routing", f)
		}
	}
	if f := w.linkStopped(o.Out); f != nil {
		return w.stopped("routing", *f)
	}
	if w.byRules() {
		return nil
	}
	text := "leaves by " + o.Out
	if o.To != "" {
		text += ", zone " + o.To
	}
	return w.passes("routing", "%s", text)
}

// filtered asks the rules of forward, input or output: ours have priority 0 among
// those of others.
func (w *walker) filtered() error {
	o := w.x.out
	at, hook, point := "forward", foreign.Forward, ruleset.Forward
	switch {
	case o.Packet.Interface == "":
		at, hook, point = "output", foreign.Output, ruleset.Output
	case o.Verdict == simulate.Delivered || o.EndedAt == ruleset.Input:
		at, hook, point = "input", foreign.Input, ruleset.Input
	}
	if w.foreigners(at, hook, earliest, 0, false) || w.acceptedFirst(at, hook, point) || w.ours(at, point) || w.foreigners(at, hook, 0, latest, false) {
		return nil
	}
	if err := w.passes(at, "%s", w.letBy()); err != nil {
		return err
	}
	if hook == foreign.Input && w.x.here && o.DNAT.Kind == ruleset.Continue {
		w.hairpinHint()
	}
	return nil
}

// acceptedFirst says that others accept the packet before our rules are asked, which
// would stop it. What becomes of it then is not ours to tell.
func (w *walker) acceptedFirst(at string, hook foreign.Hook, point ruleset.HookPoint) bool {
	if w.x.out.EndedAt != point || w.x.passes() {
		return false
	}
	for _, c := range w.Rules.Foreign.Base(w.x.out.Arrived.Source.Is6(), hook) {
		if d := acceptedFirst(c, w.x.seenBy(c, false)); d != nil && c.Type != "nat" {
			_ = w.add(Stage{At: at, Verdict: Unsure, Text: fmt.Sprintf("%s accepts it, before ipmasq is asked: by the policy, %s would stop it", programOf(c).chain(c), originText(&w.x.out.By)),
				Evidence: []string{decided(c, d)}, Mend: w.toTheFront(c)})
			w.lost = true
			return true
		}
	}
	return false
}

func (w *walker) letBy() string {
	if o := w.x.out; o.By.Entry != "" {
		return originText(&o.By) + " lets it pass"
	}
	return "nothing stops it"
}

// hairpinHint tells of port forwards that the flow looks for and does not find.
func (w *walker) hairpinHint() {
	for i := range w.Policy.PortForward {
		f := &w.Policy.PortForward[i]
		if !forwardsPort(f, w.flow.Protocol, w.flow.DestinationPort) {
			continue
		}
		_ = w.add(Stage{
			At: "input", Verdict: Unsure, Text: fmt.Sprintf("the gateway's own port %d answers, not port_forward %s", w.flow.DestinationPort, f.Name),
			Evidence: []string{fmt.Sprintf("policy %s: port_forward %s is not for zone %s at %s", f.Place, f.Name, w.x.out.Packet.From, w.flow.Destination)},
			Mend:     []string{fmt.Sprintf("# give it hairpin for that zone, or that zone in from, at %s", f.Place)},
		})
	}
}

// nextHop asks the neighbour table.
func (w *walker) nextHop() error {
	o := w.x.out
	if o.Verdict != simulate.Forwarded || o.Out == "" || o.Out == "lo" {
		return nil
	}
	hop := w.hopTo(o.Out, o.Left.Destination)
	if !hop.IsValid() {
		return nil
	}
	n := w.neighbor(hop)
	switch {
	case n == nil:
		return w.add(Stage{At: "neighbour", Verdict: Passes, Text: fmt.Sprintf("%s was not asked for yet", hop)})
	case n.State.Silent():
		return w.stopped("neighbour", Finding{
			Title:    fmt.Sprintf("%s on %s does not answer", hop, o.Out),
			Evidence: []string{neighborText(n)},
			Mend:     []string{fmt.Sprintf("# see whether it is there: ping %s; turn it on, or correct its address", hop)},
		})
	}
	return w.add(Stage{At: "neighbour", Verdict: Passes, Text: fmt.Sprintf("%s is there", hop), Evidence: []string{neighborText(n)}})
}

// hopTo is the neighbour that a packet is handed to.
func (w *walker) hopTo(out string, to netip.Addr) netip.Addr {
	l, _ := w.facts().Link(out)
	for _, a := range l.Addresses {
		if a.Prefix.Contains(to) {
			return to
		}
	}
	family := link.IPv4
	if to.Is6() {
		family = link.IPv6
	}
	for _, d := range w.facts().Defaults {
		if d.Family == family && d.Interface == out {
			return d.Gateway
		}
	}
	return netip.Addr{}
}

func (w *walker) postrouting() error {
	o := w.x.out
	if o.Verdict == simulate.Delivered {
		return nil
	}
	if w.foreigners("postrouting", foreign.Postrouting, earliest, latest, false) || w.ours("postrouting", ruleset.Postrouting) {
		return nil
	}
	if w.Rules.Foreign != nil {
		if f := w.sourceTaken(&w.x, everyChain); f != nil {
			return w.stopped("postrouting", *f)
		}
	}
	if w.foreigners("postrouting", foreign.Egress, earliest, latest, false) {
		return nil
	}
	if o.SNAT.Kind != ruleset.Continue {
		return w.passes("postrouting", "%s has it leave as %s", originText(o.SNAT.Origin), portText(o.Left.Source, o.Left.SourcePort))
	}
	return w.passes("postrouting", "it leaves as %s", portText(o.Left.Source, o.Left.SourcePort))
}

// answerStopped asks the chains of others that the answer comes by.
func (w *walker) answerStopped() bool {
	return slices.ContainsFunc([]foreign.Hook{foreign.Ingress, foreign.Forward, foreign.Egress}, func(hook foreign.Hook) bool {
		return w.foreigners("answer", hook, earliest, latest, true)
	})
}

// answer takes the answer back.
func (w *walker) answer() error {
	o := w.x.out
	if o.Verdict == simulate.Forwarded && o.Packet.Interface != "" && w.answerStopped() {
		return nil
	}
	if o.Answer == nil {
		return nil
	}
	switch v := o.Answer.Verdict; {
	case v == simulate.Dropped || v == simulate.Rejected:
		return w.stopped("answer", Finding{
			Title:    "the policy drops the answer: " + originText(&o.Answer.By),
			Evidence: []string{fmt.Sprintf("at the hook %s, by %s", o.Answer.EndedAt, originText(&o.Answer.By))},
			Mend:     []string{"# ipmasq explain shows each step of it"},
		})
	case len(o.Answer.Notes) > 0:
		if err := w.add(Stage{At: "answer", Verdict: Unsure, Text: o.Answer.Notes[0], Evidence: o.Answer.Notes}); err != nil {
			return err
		}
	}
	for i := range w.Flows.Seen {
		s := &w.Flows.Seen[i]
		if !w.flow.is(s) || !s.waits() {
			continue
		}
		mend := []string{fmt.Sprintf("# on %s: have its route back lead by this gateway, and look at its own firewall", s.Reply.Source)}
		if s.DNAT() && s.Ours {
			mend = append(mend, fmt.Sprintf("# or write masquerade: true in %s", originText(&s.Origin)))
		}
		return w.stopped("answer", Finding{
			Title:    fmt.Sprintf("it was sent to %s, and no answer has come back by this way", s.Reply.Source),
			Evidence: []string{"conntrack: " + s.String() + " SYN_SENT [UNREPLIED]"}, Mend: mend,
		})
	}
	if o.Answer.Out == "" {
		return w.passes("answer", "reaches the gateway")
	}
	return w.passes("answer", "goes back by %s to %s", o.Answer.Out, portText(o.Answer.Received.Destination, o.Answer.Received.DestinationPort))
}
