package explain

import "github.com/ipmasq/ipmasq/pkg/ruleset"

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
	w.result.Mark, w.result.CtMark = w.frame.p.Mark, w.frame.p.CtMark
	return &w.result
}

func (w *Walker) walk(p *Packet) {
	f := &w.frame
	entry := ruleset.Prerouting
	if p.In == "" {
		entry = ruleset.Output
		f.out(w.towardsOut())
	}
	if !w.through(entry) {
		return
	}
	if w.isLocal() {
		w.result.Local = true
		if p.In == "" {
			w.leave("lo")
			w.through(ruleset.Postrouting)
			return
		}
		f.out("")
		w.through(ruleset.Input)
		return
	}
	out := w.towardsOut()
	if out == "" {
		w.result.Unrouted = true
		return
	}
	w.leave(out)
	if p.In != "" && !w.through(ruleset.Forward) {
		return
	}
	w.through(ruleset.Postrouting)
}

// isLocal says whether the packet is for the host. What many hosts share is for
// it too.
func (w *Walker) isLocal() bool {
	d := w.frame.p.Destination
	if k := w.host.Kind(d); k == ruleset.RTNLocal {
		return true
	} else if w.frame.first.In == "" {
		return false // it sends to groups by an interface
	} else if k == ruleset.RTNBroadcast || k == ruleset.RTNMulticast {
		return true
	}
	return d.IsMulticast()
}

// towardsOut names the interface that the packet leaves by: the one that it was
// said to leave by, or the best.
func (w *Walker) towardsOut() string {
	if out := w.frame.first.Out; out != "" {
		return out
	}
	list := w.host.Leaves(w.frame.p.Destination)
	if len(list) == 0 {
		return ""
	}
	return list[0]
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
			w.foreignAt(hook)
		}
		w.track(!entry || c.priority > priorityConntrack)
		if c.nat && (w.frame.noTrack || w.frame.p.State != ruleset.CtNew) {
			continue // such chains see the first packet of a flow alone
		}
		if !w.base(c) {
			return false
		}
	}
	if !translated {
		w.frame.track(true)
		w.foreignAt(hook)
	}
	return true
}

func (w *Walker) foreignAt(hook ruleset.HookPoint) {
	switch hook {
	case ruleset.Prerouting, ruleset.Output:
		w.foreign(true)
	case ruleset.Postrouting:
		w.foreign(false)
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
