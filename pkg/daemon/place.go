package daemon

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// place is where the rules are: by the name of the backend. The loop looks at it
// while a job may change it.
type place struct{ name atomic.Pointer[string] }

func (p *place) is(name string) { p.name.Store(&name) }

func (p *place) backend() string {
	if n := p.name.Load(); n != nil {
		return *n
	}
	return "nftables"
}

// heard says whether who listens to nf_tables is told of our rules by name.
func (p *place) heard() bool { return p.backend() == "nftables" }

// among says whether our rules are somewhere in nf_tables: whoever listens hears
// of a commit, and not whether it was to them.
func (p *place) among() bool { return p.backend() == "iptables-nft" }

// String says what others may have changed.
func (p *place) String() string {
	if p.heard() {
		return "the table inet ipmasq"
	}
	return "the chains of ipmasq in " + p.backend()
}

// blind says that nobody tells of commits to our rules.
func (w *worker) blind() bool { return w.Rules == nil || !w.place.heard() }

// every is how often the daemon looks for itself.
func (w *worker) every() time.Duration {
	if w.blind() {
		return blindTick
	}
	return tick
}

// noted remembers who has committed something to nf_tables, if our rules are
// among what is there.
func (w *worker) noted(who string) bool {
	if who == "" || !w.place.among() {
		return false
	}
	if len(w.by) < whoMost && !slices.Contains(w.by, who) {
		w.by = append(w.by, who)
	}
	return true
}

// look finds out whether rules of iptables are what they should be, where the
// kernel does not say which of them was changed. What others do to theirs keeps the
// daemon busy for no more than its share, as long as that keeps it waiting for no
// longer than lookMost: ours may be gone meanwhile. Rules that are other than they
// should be may let through what they should not, so they are as urgent as rules
// that are gone.
func (w *worker) look() []event {
	start := time.Now()
	if w.held == nil || start.Before(w.lookNot) {
		return nil
	}
	generation, err := w.Engine.Backend.Probe(context.Background())
	if err != nil || generation == w.generation {
		return nil
	}
	same, err := w.Engine.Holds(context.Background(), w.held)
	if same || err != nil { // else who does it again is fought with, and soon
		w.lookNot = time.Now().Add(min(share*time.Since(start), lookMost))
	}
	if err != nil {
		return nil // it is looked again
	}
	w.generation = generation
	who := strings.Join(w.by, ", ")
	w.by = nil
	if same {
		return nil
	}
	return []event{{cause: causeRules | causeGone, who: who}}
}
