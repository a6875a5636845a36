package engine

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// CountedAtOnce is how many flows Status reads without CountFlows: that takes
// some 30 ms, a few times the rest of it. The kernel also walks over the flows of other
// namespaces, which nobody here can count.
const CountedAtOnce = 5000

// uses is the count of the flows of all entries while the table is read.
type uses struct {
	status *Status
	judge  func(*conntrack.Flow) flows.Judgement
	rows   map[ruleset.Origin]int // of Status.Entries, as found so far
	hosts  []map[netip.Addr]int   // open by source, of rows with such a limit
	to     map[int][]policy.Target
	pools  map[int]*sharing // of rows that give flows a source
	used   map[int]map[netip.Addr]bool
	ports  *crowds
}

// countFlows reads the table of flows, and judges each by the rules of a policy.
func (e *Engine) countFlows(s *Status, rules *ruleset.Ruleset, p *policy.Policy) error {
	var routes *link.Routes
	err := e.NetNS.Do(func() (err error) {
		routes, err = link.ReadRoutes()
		return err
	})
	if err != nil {
		return err
	}
	judge := flows.NewJudge(rules, p, routes.Facts, routes)
	u := newUses(s, p, judge.Judge)
	if err := e.eachFlow(u.add); err != nil {
		return fmt.Errorf("count the flows of each entry: %w", err)
	}
	u.finish()
	s.FlowsCounted = true
	if u.ports.suspicious {
		if err := e.eachFlow(u.addAgain); err != nil {
			return fmt.Errorf("count the outside ports in use: %w", err)
		}
		s.Warnings = append(s.Warnings, u.crowded()...)
	}
	return nil
}

// eachFlow hands over every flow of the namespace.
func (e *Engine) eachFlow(do func(*conntrack.Flow)) error {
	return e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.List(&conntrack.Filter{}, func(f *conntrack.Flow) bool { do(f); return true })
	})
}

func newUses(s *Status, p *policy.Policy, judge func(*conntrack.Flow) flows.Judgement) *uses {
	u := &uses{status: s, judge: judge, rows: map[ruleset.Origin]int{}, hosts: make([]map[netip.Addr]int, len(s.Entries)),
		to: map[int][]policy.Target{}, pools: s.sharing(p), used: map[int]map[netip.Addr]bool{}, ports: newCrowds()}
	for i := range s.Entries {
		if l := s.Entries[i].Limit; l != nil && l.PerHost > 0 {
			u.hosts[i] = map[netip.Addr]int{}
		}
		if s.Entries[i].Pool != nil {
			u.used[i] = map[netip.Addr]bool{}
		}
	}
	for i := range p.PortForward {
		f := &p.PortForward[i]
		row := s.find("port_forward "+f.Name, f.Place)
		if row < 0 || len(f.Targets) < 2 {
			continue
		}
		u.to[row] = f.Targets
		for _, t := range f.Targets {
			s.Entries[row].Targets = append(s.Entries[row].Targets, Target{Target: t.String()})
		}
	}
	return u
}

// row gives the row of an entry, or -1.
func (u *uses) row(o ruleset.Origin) int {
	if o.Entry == "" {
		return -1
	}
	i, known := u.rows[o]
	if !known {
		i = u.status.find(o.Entry, policy.Place(o.Place))
		u.rows[o] = i
	}
	return i
}

func (u *uses) add(f *conntrack.Flow) {
	j := u.judge(f)
	i := u.row(j.Origin)
	if i < 0 {
		return
	}
	e := &u.status.Entries[i]
	e.Open.Flows++
	e.Open.Packets += f.Sent.Packets + f.Received.Packets
	e.Open.Bytes += f.Sent.Bytes + f.Received.Bytes
	for n, t := range u.to[i] {
		if t.Addr == f.Reply.Source && (t.First == 0 || t.First <= f.Reply.SourcePort && f.Reply.SourcePort <= t.Last) {
			e.Targets[n].Flows++
			break
		}
	}
	// A limit counts whatever passes its entry.
	u.limit(i, f)
	for _, o := range j.Also {
		u.limit(u.row(o), f)
	}
	from, shared := u.source(f, &j)
	if shared == nil {
		return
	}
	if p := u.status.Entries[from].Pool; p != nil {
		p.Flows++
		u.used[from][f.Reply.Destination] = true
	}
	if policy.HasPorts(f.Protocol) {
		u.ports.add(shared.crowd(from, f), shared.ports)
	}
}

// limit counts a flow for the limit of a row, if it has one.
func (u *uses) limit(row int, f *conntrack.Flow) {
	// What a helper has announced passes without the rules of its entry.
	if row < 0 || u.status.Entries[row].Limit == nil || ended(f) || f.Status&conntrack.StatusExpected != 0 {
		return
	}
	u.status.Entries[row].Limit.Used++
	if u.hosts[row] != nil {
		u.hosts[row][f.Original.Source]++
	}
}

// source gives the entry that gave a flow its source; nil where none did.
func (u *uses) source(f *conntrack.Flow, j *flows.Judgement) (int, *sharing) {
	if !f.SNAT() {
		return -1, nil
	}
	for _, o := range []ruleset.Origin{j.Also[0], j.Origin} {
		if i := u.row(o); i >= 0 && u.pools[i] != nil {
			return i, u.pools[i]
		}
	}
	return -1, nil
}

// addAgain counts what may be crowded, one by one.
func (u *uses) addAgain(f *conntrack.Flow) {
	if !f.SNAT() || !policy.HasPorts(f.Protocol) {
		return
	}
	j := u.judge(f)
	if i, shared := u.source(f, &j); shared != nil {
		u.ports.count(shared.crowd(i, f))
	}
}

// ended says whether a limit does not count a connection any more (already_closed
// in net/netfilter/nf_conncount.c).
func ended(f *conntrack.Flow) bool {
	return f.Protocol == conntrack.ProtocolTCP && (f.State == conntrack.TCPTimeWait || f.State == conntrack.TCPClose)
}

// finish notes what is known when all flows were seen.
func (u *uses) finish() {
	for i, hosts := range u.hosts {
		for host, n := range hosts {
			l := u.status.Entries[i].Limit
			if n > l.BusiestUsed || n == l.BusiestUsed && host.Less(l.Busiest) { // the same answer each time
				l.Busiest, l.BusiestUsed = host, n
			}
		}
	}
	for i, used := range u.used {
		u.status.Entries[i].Pool.use(used)
	}
}
