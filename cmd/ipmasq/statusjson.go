package main

import (
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

type statusDocument struct {
	FormatVersion int                `json:"format_version"`
	Daemon        *daemonDocument    `json:"daemon,omitempty"`
	Backend       string             `json:"backend"`
	InForce       bool               `json:"in_force"`
	Left          []string           `json:"left_in"` // other backends
	Policy        *appliedDocument   `json:"policy"`
	Forwarding    forwardingDocument `json:"forwarding"`
	Uplinks       []uplinkDocument   `json:"uplinks"`
	Entries       []counterDocument  `json:"entries"`
	FlowsCounted  bool               `json:"flows_counted"`
	Conntrack     conntrackDocument  `json:"conntrack"`
	Warnings      []fillDocument     `json:"warnings"`
	Drift         []entryDocument    `json:"drift"`
	SysctlDrift   []sysctlDocument   `json:"sysctl_drift"`
	RoutingDrift  []routingDocument  `json:"routing_drift"`
	Problem       string             `json:"routing_problem,omitempty"`
	Docker        []string           `json:"docker"`
	DockerDrift   []dockerDocument   `json:"docker_drift"`
	DockerError   string             `json:"docker_problem,omitempty"`
	Drifted       bool               `json:"drifted"`
	Foreign       []foreignDocument  `json:"foreign_chains"`
	ForeignError  string             `json:"foreign_problem,omitempty"`
	// Unconfirmed waits to be confirmed; Lapsed is the digest of what was not when
	// the machine stopped.
	Unconfirmed *unconfirmedDocument `json:"unconfirmed,omitempty"`
	Lapsed      string               `json:"lapsed,omitempty"`
}

type appliedDocument struct {
	Files   []string  `json:"files"`
	Digest  string    `json:"digest"`
	Applied time.Time `json:"applied"`
}

type uplinkDocument struct {
	Zone      string   `json:"zone"`
	Interface string   `json:"interface"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
}

type counterDocument struct {
	Section        string           `json:"section"`
	Name           string           `json:"name"`
	Place          string           `json:"place,omitempty"`
	NewFlows       uint64           `json:"new_flows"`
	RefusedPackets uint64           `json:"refused_packets"`
	RefusedBytes   uint64           `json:"refused_bytes"`
	LeaksStopped   uint64           `json:"leaks_stopped"`
	LimitStopped   uint64           `json:"limit_stopped"`
	OpenFlows      *int             `json:"open_flows"`
	OpenPackets    *uint64          `json:"open_packets"`
	OpenBytes      *uint64          `json:"open_bytes"`
	Limit          *limitDocument   `json:"limit,omitempty"`
	Forwards       int              `json:"forwards,omitempty"`
	Targets        []targetDocument `json:"targets,omitempty"`
	Pool           *poolDocument    `json:"pool,omitempty"`
}

type limitDocument struct {
	Total       *uint32 `json:"total"`
	PerHost     *uint32 `json:"per_host"`
	Used        *int    `json:"used"`
	Busiest     *string `json:"busiest_host"`
	BusiestUsed *int    `json:"busiest_host_used"`
}

type targetDocument struct {
	Target string `json:"target"`
	Flows  int    `json:"flows"`
}

type poolDocument struct {
	Addresses []string `json:"addresses"`
	InUse     *int     `json:"in_use"`
	Flows     *int     `json:"flows"`
}

type conntrackDocument struct {
	Count        uint64 `json:"count"`
	Max          uint64 `json:"max"`
	InsertFailed uint64 `json:"insert_failed"`
	Dropped      uint64 `json:"dropped"`
	EarlyDropped uint64 `json:"early_dropped"`
	Exhausted    string `json:"exhausted,omitempty"`
}

type fillDocument struct {
	About     string `json:"about"`
	Used      uint64 `json:"used"`
	Of        uint64 `json:"of"`
	Setting   string `json:"setting,omitempty"`
	Suggested uint64 `json:"suggested,omitempty"`
	Message   string `json:"message"`
}

func statusJSON(s *engine.Status) statusDocument {
	d := statusDocument{
		FormatVersion: formatVersion, Backend: s.Backend, InForce: s.InForce, Left: append([]string{}, s.Left...),
		Forwarding: forwardingDocument(s.Forwarding), Conntrack: conntrackDocument(s.Conntrack),
		Uplinks: []uplinkDocument{}, Entries: []counterDocument{}, Drift: []entryDocument{},
		FlowsCounted: s.FlowsCounted, Warnings: []fillDocument{},
		SysctlDrift: sysctlsJSON(s.SysctlDrift), Drifted: s.Drifted(),
		Unconfirmed: unconfirmedJSON(s.Unconfirmed), Lapsed: s.Lapsed,
		RoutingDrift: routingJSON(s.RoutingDrift), Problem: messageOf(s.RoutingProblem),
		Docker: []string{}, DockerDrift: dockerJSON(s.DockerDrift), DockerError: messageOf(s.DockerProblem),
		Foreign: foreignJSON(s.Foreign), ForeignError: messageOf(s.ForeignProblem),
	}
	if s.Digest != "" {
		d.Policy = &appliedDocument{s.Files, s.Digest, s.Applied}
	}
	for _, c := range s.Docker {
		d.Docker = append(d.Docker, engine.UserChainName(c))
	}
	for _, u := range s.Uplinks {
		d.Uplinks = append(d.Uplinks, uplinkDocument{u.Zone, u.Interface, u.Up, append([]string{}, u.Addresses...)})
	}
	for i := range s.Entries {
		d.Entries = append(d.Entries, counterJSON(s, &s.Entries[i]))
	}
	for _, w := range s.Warnings {
		d.Warnings = append(d.Warnings, fillDocument(w))
	}
	if s.Drift != nil {
		d.Drift = entriesJSON(s.Drift)
	}
	return d
}

// counterJSON has null for what was not counted: 0 would say that there is none.
func counterJSON(s *engine.Status, e *engine.Entry) counterDocument {
	d := counterDocument{
		Section: e.Section, Name: e.Name, Place: e.Place.String(), NewFlows: e.Flows, RefusedPackets: e.Packets, RefusedBytes: e.Bytes,
		LeaksStopped: e.LeaksStopped, LimitStopped: e.LimitStopped, Forwards: e.Forwards,
	}
	if s.FlowsCounted {
		d.OpenFlows = &e.Open.Flows
		if s.TrafficCounted {
			d.OpenPackets, d.OpenBytes = &e.Open.Packets, &e.Open.Bytes
		}
	}
	if l := e.Limit; l != nil {
		d.Limit = limitJSON(l, s.FlowsCounted)
	}
	for _, t := range e.Targets {
		d.Targets = append(d.Targets, targetDocument(t))
	}
	if e.Pool != nil {
		d.Pool = &poolDocument{Addresses: e.Pool.Addresses}
		if s.FlowsCounted {
			d.Pool.InUse, d.Pool.Flows = &e.Pool.InUse, &e.Pool.Flows
		}
	}
	return d
}

func limitJSON(l *engine.Limit, known bool) *limitDocument {
	d := &limitDocument{}
	if l.Total > 0 {
		d.Total = &l.Total
	}
	if l.PerHost > 0 {
		d.PerHost = &l.PerHost
	}
	if !known {
		return d
	}
	d.Used = &l.Used
	if l.PerHost > 0 {
		d.BusiestUsed = &l.BusiestUsed
		if l.BusiestUsed > 0 {
			host := l.Busiest.String()
			d.Busiest = &host
		}
	}
	return d
}
