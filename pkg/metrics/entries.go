package metrics

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

// entriesShown bounds the rows of a section that are metrics of their own. A
// policy may have a hundred thousand entries, and every one would be some series
// in the memory of each Prometheus that scrapes it.
const entriesShown = 500

// others is the entry that the rows beyond that add up to, section by section.
// No entry of a policy can be called that.
const others = "*"

func (s *samples) entries(st *engine.Status) {
	rows := bounded(st.Entries)
	s.add(flowsCounted, truth(st.FlowsCounted))
	sections, count := []string{}, map[string]int{}
	for i := range st.Entries {
		name := st.Entries[i].Section
		if count[name]++; count[name] == 1 {
			sections = append(sections, name)
		}
	}
	for _, name := range sections {
		s.add(entries, float64(count[name]), name)
	}
	for i := range rows {
		s.entry(st, &rows[i])
	}
}

// bounded gives rows with names that differ, as many as may be. What stands
// behind all rules has the name of a rule that is called default too: the later
// one gets a number.
func bounded(all []engine.Entry) []engine.Entry {
	var rows []engine.Entry
	taken, shown, rest := map[[2]string]int{}, map[string]int{}, map[string]int{}
	for i := range all {
		e := all[i]
		if shown[e.Section] == entriesShown && e.Name != "default" {
			at, known := rest[e.Section]
			if !known {
				at = len(rows)
				rest[e.Section] = at
				rows = append(rows, engine.Entry{Section: e.Section, Name: others, Refuses: true})
			}
			sum(&rows[at], &e)
			continue
		}
		shown[e.Section] = min(shown[e.Section]+1, entriesShown)
		name := [2]string{e.Section, e.Name}
		if taken[name]++; taken[name] > 1 {
			e.Name = fmt.Sprintf("%s (%d)", e.Name, taken[name])
		}
		rows = append(rows, e)
	}
	return rows
}

// sum adds what can be added: limits and pools are of single entries.
func sum(to, e *engine.Entry) {
	to.Refuses = to.Refuses && e.Refuses
	to.Limited = to.Limited || e.Limited
	to.Flows += e.Flows
	to.Packets += e.Packets
	to.Bytes += e.Bytes
	to.LeaksStopped += e.LeaksStopped
	to.LimitStopped += e.LimitStopped
	to.Forwards += e.Forwards
	to.Open.Flows += e.Open.Flows
	to.Open.Packets += e.Open.Packets
	to.Open.Bytes += e.Open.Bytes
}

// entry tells of one row. What its kind never has is absent.
func (s *samples) entry(st *engine.Status, e *engine.Entry) {
	add := func(m metric, value float64) { s.add(m, value, e.Section, e.Name) }
	if !e.Refuses {
		add(newFlows, float64(e.Flows))
	}
	if e.Refuses || e.Packets > 0 { // the sum of others may have both
		add(refusedPackets, float64(e.Packets))
		add(refusedBytes, float64(e.Bytes))
	}
	if translatesSources(e) {
		add(leaksStopped, float64(e.LeaksStopped))
	}
	if e.Limited {
		add(limitStopped, float64(e.LimitStopped))
	}
	if st.FlowsCounted && !e.Refuses {
		add(openFlows, float64(e.Open.Flows))
		if st.TrafficCounted {
			add(openPackets, float64(e.Open.Packets))
			add(openBytes, float64(e.Open.Bytes))
		}
	}
	if l := e.Limit; l != nil {
		s.limit(l, st.FlowsCounted, add)
	}
	if e.Forwards > 0 {
		add(mapForwards, float64(e.Forwards))
	}
	if e.Pool != nil {
		s.pool(e, st.FlowsCounted)
	}
}

// translatesSources says whether leaks are of an entry; the row of one_to_one
// without a name is of what is not exposed.
func translatesSources(e *engine.Entry) bool {
	return e.Name != "" && slices.Contains([]string{"masquerade", "snat", "one_to_one"}, e.Section)
}

func (s *samples) limit(l *engine.Limit, counted bool, add func(metric, float64)) {
	if l.Total > 0 {
		add(maxConnections, float64(l.Total))
	}
	if counted {
		add(connections, float64(l.Used))
	}
	if l.PerHost > 0 {
		add(maxPerHost, float64(l.PerHost))
		if counted {
			add(busiestHost, float64(l.BusiestUsed))
		}
	}
}

func (s *samples) pool(e *engine.Entry, counted bool) {
	for _, f := range []struct {
		family string
		use    *engine.PoolUse
	}{{"ipv4", &e.Pool.IPv4}, {"ipv6", &e.Pool.IPv6}} {
		if f.use.Addresses == 0 {
			continue
		}
		s.add(poolAddresses, f.use.Addresses, e.Section, e.Name, f.family)
		if counted {
			s.add(poolInUse, float64(f.use.InUse), e.Section, e.Name, f.family)
		}
	}
	if counted {
		s.add(poolFlows, float64(e.Pool.Flows), e.Section, e.Name)
	}
}
