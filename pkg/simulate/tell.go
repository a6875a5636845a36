package simulate

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// tell makes of the rules that a packet met what a person reads: with what they
// did, and what the kernel does between them.
func (q *question) tell(raw []explain.Step, r *explain.Result) []Step {
	entry := ruleset.Prerouting
	if q.Interface == "" {
		entry = ruleset.Output
	}
	t := &teller{question: q, result: r, now: q.ends()}
	i := 0
	for ; i < len(raw) && raw[i].Hook == entry; i++ {
		t.rule(raw[i], "")
		t.written(raw, i)
	}
	if r.Verdict != ruleset.Accept && r.At == entry {
		return t.steps
	}
	t.flow(entry, t.wants(true))
	t.route(entry)
	for ; i < len(raw); i++ {
		t.rule(raw[i], r.Out)
		t.written(raw, i)
	}
	if r.Verdict == ruleset.Accept && !r.Unrouted && r.At != entry {
		t.flow(r.At, t.wants(false))
	}
	return t.steps
}

// teller follows a packet on its way.
type teller struct {
	*question
	result *explain.Result
	steps  []Step
	now    Ends // of the packet
}

// rule tells of a rule. Where the packet's ends have changed before it, conntrack
// has done that.
func (t *teller) rule(s explain.Step, out string) {
	t.flow(s.Hook, endsAt(&s))
	x := t.step(s, t.result, out)
	t.steps, t.now = append(t.steps, x), x.After
}

// written takes over the address that a rule has written without conntrack's
// knowledge: the next step has it.
func (t *teller) written(raw []explain.Step, i int) {
	s := &t.steps[len(t.steps)-1]
	if s.does(ruleset.SetAddress) != nil && i+1 < len(raw) {
		s.After = endsAt(&raw[i+1])
		t.now = s.After
	}
}

// wants are the ends that a packet of a known flow has behind its first hook,
// and behind its last.
func (t *teller) wants(destination bool) Ends {
	want := t.now
	if t.question.flow == nil {
		return want
	}
	became := t.question.flow.became()
	if t.answer {
		became = t.question.flow.Original.turned()
	}
	if destination {
		want.Destination, want.DestinationPort = became.Destination, became.DestinationPort
	} else {
		want.Source, want.SourcePort = became.Source, became.SourcePort
	}
	return want
}

// flow tells what conntrack does to a packet of a known flow.
func (t *teller) flow(hook ruleset.HookPoint, want Ends) {
	if t.question.flow == nil || want == t.now {
		t.now = want
		return
	}
	text := ""
	if want.Destination != t.now.Destination || want.DestinationPort != t.now.DestinationPort {
		text = "destination " + end(t.now.Destination, t.now.DestinationPort) + " becomes " + end(want.Destination, want.DestinationPort)
	} else {
		text = "source " + end(t.now.Source, t.now.SourcePort) + " becomes " + end(want.Source, want.SourcePort)
	}
	if t.answer {
		text += " again"
	} else {
		text += ", as its flow's did"
	}
	t.steps = append(t.steps, Step{Step: t.at(hook), By: ByConntrack, Matters: true, Does: text, After: want})
	t.now = want
}

// at is a step that no rule does.
func (t *teller) at(hook ruleset.HookPoint) explain.Step {
	return explain.Step{Hook: hook, Element: -1, Source: t.now.Source, Destination: t.now.Destination,
		SourcePort: t.now.SourcePort, DestinationPort: t.now.DestinationPort}
}

// route tells where routing leads.
func (t *teller) route(hook ruleset.HookPoint) {
	to, text := t.now.Destination, ""
	switch r := t.result; {
	case r.Unrouted && (r.Local || len(t.host.Way(to)) > 0):
		text = fmt.Sprintf("from %s to %s nothing is handed on: such addresses do not leave their link", t.now.Source, to)
	case r.Unrouted:
		text = fmt.Sprintf("no route leads to %s", to)
	case r.Local && t.Interface != "":
		text = fmt.Sprintf("%s is for the gateway itself", to)
	case r.Local:
		text = fmt.Sprintf("%s is the gateway's own", to)
	default:
		zone := t.zones.Of(r.Out, to)
		if zone == "" {
			zone = "no zone"
		} else {
			zone = "zone " + zone
		}
		text = fmt.Sprintf("%s is reached by %s (%s)", to, r.Out, zone)
	}
	t.steps = append(t.steps, Step{Step: t.at(hook), By: ByRouting, Matters: true, Does: text, After: t.now})
}
