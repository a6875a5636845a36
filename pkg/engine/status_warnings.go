package engine

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Warning is something that is nearly full, and what to do about it.
type Warning struct {
	About    string // an entry, or "conntrack"
	Used, Of uint64
	// Setting is what to change, "" where that is not one number, and Suggested
	// a number that leaves room.
	Setting   string
	Suggested uint64
	Message   string // of all this, for people
}

// nearlyFull is from 80 % on.
func nearlyFull(used, of uint64) bool { return of > 0 && used*5 >= of*4 }

// fixedMax says whether the size of the table cannot be set here.
func (e *Engine) fixedMax() (fixed bool) {
	_ = e.NetNS.Do(func() error { fixed = sysctl.Fixed(conntrackMax); return nil })
	return fixed
}

// warnings are about the table of flows and the limits of entries.
func (s *Status) warnings(p *policy.Policy, fixedMax bool) {
	if w := s.Conntrack.warning(p, fixedMax); w != nil {
		s.Warnings = append(s.Warnings, *w)
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		if l := e.Limit; l != nil && s.FlowsCounted && nearlyFull(uint64(l.Used), uint64(l.Total)) {
			to := doubled(max(uint64(l.Used), uint64(l.Total))) // a limit that was lowered is far exceeded
			s.Warnings = append(s.Warnings, Warning{About: e.Section + " " + e.Name, Used: uint64(l.Used), Of: uint64(l.Total),
				Setting: "max_connections.total", Suggested: to,
				Message: fmt.Sprintf("%d of %d connections are open, and what is more than that is dropped; raise `max_connections: {total: %d}`, say, if they are meant to be", l.Used, l.Total, to)})
		}
	}
}

// warning is about a table that is nearly full: a new flow is dropped when it
// is.
func (c *Conntrack) warning(p *policy.Policy, fixedMax bool) *Warning {
	if !nearlyFull(c.Count, c.Max) {
		return nil
	}
	w := &Warning{About: "conntrack", Used: c.Count, Of: c.Max, Setting: "net.netfilter.nf_conntrack_max", Suggested: doubled(c.Max)}
	w.Message = fmt.Sprintf("%d of %d flows are in the kernel's table; when it is full, new connections are dropped; ", c.Count, c.Max)
	switch {
	case fixedMax:
		w.Message += fmt.Sprintf("set net.netfilter.nf_conntrack_max to %d in the machine's first network namespace: it holds for each namespace, and cannot be set in this one", w.Suggested)
	case p != nil:
		w.Setting = "gateway.conntrack.max"
		w.Message += fmt.Sprintf("set `gateway: {conntrack: {max: %d}}` in the policy", w.Suggested)
	default:
		w.Message += fmt.Sprintf("set net.netfilter.nf_conntrack_max to %d", w.Suggested)
	}
	w.Message += fmt.Sprintf(" (a full table of that size takes about %d MB)", w.Suggested*bytesPerFlow>>20)
	return w
}

// bytesPerFlow is what the kernel needs for a flow with its extensions and its
// places in the hash table.
const bytesPerFlow = 400

// doubled is twice as much, up to what the kernel takes.
func doubled(n uint64) uint64 { return min(2*n, 1<<31-1) }
