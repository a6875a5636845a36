package doctor

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Stage is what happens to a flow at one point of its way.
type Stage struct {
	At      string // "arrives", "prerouting", "conntrack", "routing", "forward", "input", "output", "neighbour", "postrouting", "answer"
	Verdict StageVerdict
	Text    string
	// Evidence and Mend are as those of a Finding.
	Evidence, Mend []string
}

// StageVerdict is whether a flow gets past a stage.
type StageVerdict string

// The verdicts. Unsure is that some may be stopped, or that it is not known.
const (
	Passes StageVerdict = "passes"
	Unsure StageVerdict = "unsure"
	Stops  StageVerdict = "stops"
)

// Way is the way of a flow, up to the first thing that stops it.
type Way struct {
	Flow   Flow
	Stages []Stage
}

// Stopped is the stage that stops the flow, or nil.
func (w *Way) Stopped() *Stage {
	if n := len(w.Stages); n > 0 && w.Stages[n-1].Verdict == Stops {
		return &w.Stages[n-1]
	}
	return nil
}

// ErrNoPolicy says that there is no policy to walk a flow through.
var ErrNoPolicy = errors.New("no policy was applied, and none is given")

// walker takes a flow along its way.
type walker struct {
	*Host
	flow *Flow
	x    passage
	way  *Way
	lost bool // where it goes on is not known
}

// Walk takes a flow through the host, and ends at the first thing that stops it.
func (h *Host) Walk(f *Flow) (*Way, error) {
	if h.gateway() == nil {
		return nil, ErrNoPolicy
	}
	w := &walker{Host: h, flow: f, way: &Way{Flow: *f}}
	for _, step := range []func() error{w.inForce, w.arrives, w.prerouting, w.conntrack, w.routing, w.filtered, w.nextHop, w.postrouting, w.answer} {
		if err := step(); err != nil {
			return nil, err
		}
		if w.way.Stopped() != nil || w.lost {
			break
		}
	}
	for i := range w.way.Stages {
		s := &w.way.Stages[i]
		for j, line := range s.Mend {
			s.Mend[j] = h.Place.command(line)
		}
	}
	return w.way, nil
}

func (w *walker) add(s Stage) error {
	w.way.Stages = append(w.way.Stages, s)
	return nil
}

func (w *walker) passes(at, format string, args ...any) error {
	return w.add(Stage{At: at, Verdict: Passes, Text: fmt.Sprintf(format, args...)})
}

// stopped is a finding as the stage that stops the flow.
func (w *walker) stopped(at string, f Finding) error {
	return w.add(Stage{At: at, Verdict: Stops, Text: f.Title, Evidence: f.Evidence, Mend: f.Mend})
}

// inForce asks whether the rules are there at all.
func (w *walker) inForce() error {
	if list := rulesMissing(w.Host); len(list) > 0 {
		return w.stopped("rules", list[0])
	}
	if list := rulesDrifted(w.Host); len(list) > 0 {
		f := list[0]
		return w.add(Stage{At: "rules", Verdict: Unsure, Text: f.Title, Evidence: f.Evidence, Mend: f.Mend})
	}
	for _, f := range foreignFirst(w.Host) {
		if err := w.add(Stage{At: "rules", Verdict: Unsure, Text: f.Title, Evidence: f.Evidence, Mend: f.Mend}); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) arrives() error {
	out, err := w.gateway().Send(w.flow.packet())
	var wrong *simulate.QuestionError
	if errors.As(err, &wrong) {
		if wrong.Field != "from" {
			return err
		}
		f := w.noRoute(w.flow.Source)
		if r, refused := w.refusing(w.flow.Source); !(refused && w.astray(r, w.flow.Source)) && w.mainLost(familyOf(w.flow.Source)) == nil {
			f.Title = fmt.Sprintf("the host has no route back to %s", w.flow.Source)
			f.Mend = []string{fmt.Sprintf("# make one: ip route add %s via ROUTER, or give the link its network; or say where it comes from: in INTERFACE", prefixOf(w.flow.Source))}
		}
		return w.stopped("arrives", f)
	}
	if err != nil {
		return err
	}
	w.x = passage{entry: out.By.Entry, out: out, here: w.routes().Kind(out.Arrived.Destination) == link.KindLocal, sourcePort: w.flow.SourcePort}
	if out.Packet.Interface == "" {
		return w.passes("arrives", "the gateway itself sends it, as %s", out.Arrived.Source)
	}
	if f := w.linkStopped(out.Packet.Interface); f != nil {
		return w.stopped("arrives", *f)
	}
	if f := w.filteredReverse(out.Packet.Interface); f != nil {
		return w.stopped("arrives", *f)
	}
	zone := "in no zone: the policy leaves it alone"
	if out.Packet.From != "" {
		zone = "zone " + out.Packet.From
	}
	return w.passes("arrives", "by %s, %s", out.Packet.Interface, zone)
}

// linkStopped is why nothing goes through a link.
func (w *walker) linkStopped(name string) *Finding {
	l, there := w.facts().Link(name)
	switch {
	case !there:
		return &Finding{Title: fmt.Sprintf("there is no link %s", name), Evidence: []string{w.linkNames()}, Mend: []string{"# make it, or name another one"}}
	case !l.Up:
		return &Finding{Title: fmt.Sprintf("the link %s is down", name), Evidence: []string{fmt.Sprintf("link: %s is not set up", name)}, Mend: []string{"ip link set " + name + " up"}}
	case !l.Carrier:
		return &Finding{Title: fmt.Sprintf("the link %s has no carrier", name), Evidence: []string{fmt.Sprintf("link: %s is up, and has no carrier", name)}, Mend: []string{"# look at its cable, or its other end"}}
	}
	return nil
}

// filteredReverse is about the kernel's own look at where a packet comes from.
func (w *walker) filteredReverse(name string) *Finding {
	source := w.x.out.Arrived.Source
	if source.Is6() {
		return nil
	}
	all, on := "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/"+name+"/rp_filter"
	mode := max(w.Sysctls[all], w.Sysctls[on])
	back := w.routes().Leaves(source)
	if mode != "1" || slices.Contains(back[:min(len(back), 1)], name) {
		return nil
	}
	by := "nowhere"
	if len(back) > 0 {
		by = back[0]
	}
	return &Finding{
		Title:    fmt.Sprintf("rp_filter drops it: it arrives by %s, and the route back to %s leads by %s", name, source, by),
		Evidence: []string{w.sysctl(all), w.sysctl(on), fmt.Sprintf("route: %s leaves by %s", source, by)},
		Mend:     []string{"sysctl -w " + dotted(on) + "=2", "# and keep it so: in /etc/sysctl.d; antispoof in the policy does what is needed"},
	}
}

// foreigners asks the chains of others at a hook that have a priority in [from,
// to): the first that stops the packet ends the way.
func (w *walker) foreigners(at string, hook foreign.Hook, from, to int, answer bool) (stopped bool) {
	if w.Rules.Foreign == nil {
		return false
	}
	for _, c := range w.Rules.Foreign.Base(w.x.out.Arrived.Source.Is6(), hook) {
		if c.Type == "nat" || c.Priority < from || c.Priority >= to || !w.x.comesBy(c, answer) {
			continue
		}
		o := c.Walk(w.x.seenBy(c, answer))
		s := stop{&w.x, hook, c, o.Stopped(), answer}
		who := programOf(c)
		if s.decision != nil {
			text := who.chain(c) + " drops it"
			if answer {
				text = who.chain(c) + " drops the answer"
			}
			stops := []stop{s}
			if back := w.Host.stopped(&w.x, true); !answer && back != nil && programOf(back.chain) == who {
				stops = append(stops, *back) // it would be next
			}
			_ = w.add(Stage{At: at, Verdict: Stops, Text: text, Evidence: []string{decided(c, s.decision)}, Mend: who.mend(w.Host, stops)})
			return true
		}
		if d := o.MayStop(); d != nil && (o.Accept != nil || o.Ours != nil) {
			_ = w.add(Stage{At: at, Verdict: Unsure, Text: who.chain(c) + " may drop it: it asks for more than a flow tells", Evidence: []string{decided(c, d)}})
		}
	}
	return false
}

const (
	earliest = -1 << 30
	latest   = 1 << 30
)

func (w *walker) prerouting() error {
	o := w.x.out
	if o.Packet.Interface == "" {
		return nil
	}
	if w.foreigners("prerouting", foreign.Ingress, earliest, latest, false) || w.foreigners("prerouting", foreign.Prerouting, earliest, latest, false) {
		return nil
	}
	if w.ours("prerouting", ruleset.Prerouting) {
		return nil
	}
	if w.Rules.Foreign != nil {
		if f := w.takenAny(); f != nil && f.Severity == Broken {
			return w.stopped("prerouting", *f)
		} else if f != nil && f.Weight != oursFirst {
			_ = w.add(Stage{At: "prerouting", Verdict: Unsure, Text: f.Title, Evidence: f.Evidence, Mend: f.Mend})
		}
	}
	if o.DNAT.Kind != ruleset.Continue {
		return w.passes("prerouting", "%s has it go to %s", originText(o.DNAT.Origin), portText(o.Left.Destination, o.Left.DestinationPort))
	}
	return nil
}

// takenAny says that others translate the destination, which we do not or would
// do otherwise.
func (w *walker) takenAny() *Finding {
	if w.x.out.DNAT.Kind != ruleset.Continue {
		return w.destinationTaken(&w.x, everyChain)
	}
	for _, c := range w.Rules.Foreign.Base(w.x.out.Arrived.Source.Is6(), foreign.Prerouting) {
		if c.Type != "nat" {
			continue
		}
		if o := c.Walk(w.x.at(foreign.Prerouting, false, false)); o.DNAT != nil && o.Accept == nil && o.Ours == nil {
			return &Finding{
				Severity: Broken,
				Title:    programOf(c).chain(c) + " leads it elsewhere, and what becomes of it there is not ours",
				Evidence: []string{decided(c, o.DNAT)},
				Mend:     w.mendNAT(c, o.DNAT, &w.x),
			}
		}
	}
	return nil
}

// ours says where our own rules stop the packet.
func (w *walker) ours(at string, hook ruleset.HookPoint) bool {
	o := w.x.out
	if o.EndedAt != hook || o.Verdict != simulate.Dropped && o.Verdict != simulate.Rejected {
		return false
	}
	verb := "drops"
	if o.Verdict == simulate.Rejected {
		verb = "rejects"
	}
	s := Stage{At: at, Verdict: Stops, Text: fmt.Sprintf("the policy %s it: %s", verb, originText(&o.By)), Mend: []string{"# have the policy let it pass, and apply; ipmasq explain shows each step"}}
	if o.Hint != "" {
		s.Mend = []string{"# " + o.Hint}
	}
	for i := range o.Steps {
		if step := &o.Steps[i]; step.Matters && step.Origin != nil {
			s.Evidence = append(s.Evidence, fmt.Sprintf("%s: %s %s", step.Hook, originText(step.Origin), step.Does))
		}
	}
	if len(s.Evidence) == 0 {
		s.Evidence = []string{originText(&o.By)}
	}
	_ = w.add(s)
	return true
}

func originText(o *ruleset.Origin) string {
	if o == nil || o.Entry == "" {
		return "a rule of no entry"
	}
	if place := o.Place.String(); place != "" {
		return o.Entry + " (" + place + ")"
	}
	return o.Entry
}

// conntrack asks whether the flow is known already: then no rule is asked about
// where it goes.
func (w *walker) conntrack() error {
	for i := range w.Flows.Seen {
		s := &w.Flows.Seen[i]
		if !w.flow.is(s) || !open(s) {
			continue
		}
		line := "conntrack: " + s.String() + " " + s.Stage()
		switch {
		case !s.Fits && s.Untranslated():
			return w.stopped("conntrack", Finding{
				Title:    fmt.Sprintf("it is known already, and not translated: it began before %s was there", originText(&s.Wants)),
				Evidence: []string{line}, Mend: []string{kill(s)},
			})
		case !s.Fits:
			return w.stopped("conntrack", Finding{
				Title:    fmt.Sprintf("it is known already, and goes on as it was: it %s by %s now", s.Why, originText(&s.Wants)),
				Evidence: []string{line}, Mend: []string{kill(s)},
			})
		case s.Status&conntrack.StatusSeenReply != 0:
			return w.add(Stage{At: "conntrack", Verdict: Passes, Text: "it is known, and was answered", Evidence: []string{line}})
		}
		return w.add(Stage{At: "conntrack", Verdict: Unsure, Text: "it is known, and nobody has answered yet", Evidence: []string{line}})
	}
	return nil
}
