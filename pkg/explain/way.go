package explain

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Where the kernel's own steps stand between the chains of a hook
// (netfilter_ipv4.h). Conntrack sees a packet behind raw; what other tables
// translate is translated by the time that these priorities are past.
const (
	priorityConntrack = -200
	priorityDstNAT    = -100
	priorityFilter    = 0
	prioritySrcNAT    = 100
)

// Walk takes a packet through all hooks that it would come by. The result is
// valid until the next walk.
func (w *Walker) Walk(p *Packet) *Result {
	w.frame.load(p)
	w.result = Result{Verdict: ruleset.Accept}
	w.walk(p)
	now := &w.frame.p
	w.result.Mark, w.result.CtMark = now.Mark, now.CtMark
	w.result.Untracked = w.frame.noTrack
	w.result.Ends = Became{now.Source, now.Destination, now.SourcePort, now.DestinationPort}
	return &w.result
}

func (w *Walker) walk(p *Packet) {
	f := &w.frame
	entry := ruleset.Prerouting
	if p.In == "" {
		entry = ruleset.Output
		out := w.towardsOut()
		if w.isLocal() {
			out = loopbackLink
		}
		f.out(out)
		if !w.Guess && !w.isLocal() && len(w.host.Way(p.Destination)) == 0 {
			w.result.Unrouted = true // the sender is told so, and no rule sees it
			return
		}
	} else if unheard(p) {
		w.result.Unrouted = true
		return
	}
	if !w.through(entry) {
		return
	}
	if w.isLocal() {
		w.result.Local = true
		if p.In == "" {
			w.leave(loopbackLink)
			w.through(ruleset.Postrouting)
			return
		}
		if w.result.Unrouted = w.martian(); w.result.Unrouted {
			return
		}
		f.out("")
		w.through(ruleset.Input)
		return
	}
	out := w.towardsOut()
	if out == "" || p.In != "" && (w.martian() || w.staysBehind(out)) {
		w.result.Unrouted = true
		return
	}
	w.leave(out)
	if p.In != "" {
		if f.has&(1<<ruleset.IP6HopLimit) != 0 { // counted down before the hook
			f.put8(ruleset.IP6HopLimit, f.at(ruleset.IP6HopLimit)[0]-1)
		}
		if !w.through(ruleset.Forward) {
			return
		}
	}
	w.through(ruleset.Postrouting)
}

// loopbackLink is how the host's own packets to itself go.
const loopbackLink = "lo"

// towardsOut names the interface that the packet leaves by: the one that it was
// said to leave by, or the best.
func (w *Walker) towardsOut() string {
	if out := w.frame.first.Out; out != "" {
		return out
	}
	if p := &w.frame.p; p.In != "" && p.Destination.Is6() && p.Destination.IsLinkLocalUnicast() {
		return p.In
	}
	if list := w.ways(w.frame.p.Destination); len(list) > 0 {
		return list[0]
	}
	return ""
}

// ways gives the interfaces that lead to an address.
func (w *Walker) ways(to netip.Addr) []string {
	if w.Guess {
		return w.host.Leaves(to)
	}
	return w.host.Way(to)
}

func (w *Walker) leave(name string) {
	w.result.Out = name
	w.frame.out(name)
}

// through takes the packet through the chains of a hook, and says whether it
// goes on behind it. What a chain does not decide passes: its policy is accept.
func (w *Walker) through(hook ruleset.HookPoint) bool {
	w.hook, w.result.At = hook, hook
	entry := hook == ruleset.Prerouting || hook == ruleset.Output
	turn := priorityDstNAT
	if !entry {
		turn = prioritySrcNAT
	}
	translated := false
	for _, c := range w.hooks[hook] {
		if !translated && c.priority > turn {
			translated = true
			w.track(true)
			w.behindNAT(hook)
		}
		w.track(!entry || c.priority > priorityConntrack)
		if c.nat && (w.frame.noTrack || w.frame.p.State != ruleset.CtNew || w.frame.p.Flow != nil) {
			continue // such chains see the first packet of a flow alone
		}
		if !w.base(c) {
			return false
		}
	}
	if !translated {
		w.frame.track(true)
		w.behindNAT(hook)
	}
	return true
}

// behindNAT is the point behind the chains that translate.
func (w *Walker) behindNAT(hook ruleset.HookPoint) {
	if w.frame.p.Flow != nil {
		if hook != ruleset.Forward { // where nothing translates
			w.again(hook == ruleset.Prerouting || hook == ruleset.Output)
		}
		return
	}
	switch hook {
	case ruleset.Prerouting, ruleset.Output:
		w.foreign(true)
	case ruleset.Postrouting:
		w.foreign(false)
	case ruleset.Input:
		if b := &w.frame.p.Became; b.Destination.IsValid() && b.Source == w.frame.p.Source {
			w.rebound()
		}
	}
}

// base takes the packet through a base chain. Who let it pass is remembered of
// the filter alone.
func (w *Walker) base(c *chain) bool {
	by := w.result.By
	w.depth, w.result.By, w.result.Verdict = 0, nil, ruleset.Accept
	w.pass(c)
	if w.result.Verdict != ruleset.Accept {
		return false
	}
	if !c.filter {
		w.result.By = by
	}
	return true
}
