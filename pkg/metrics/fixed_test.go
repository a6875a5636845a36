package metrics

import (
	"net/netip"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

var built = Build{Version: "v1.2.3", Revision: "0123abc", GoVersion: "go1.26"}

// busy is a gateway that has all that metrics tell of.
func busy() *engine.Status {
	counter := func(entry string) plan.Counter {
		return plan.Counter{Name: entry, Origin: ruleset.Origin{Entry: entry}}
	}
	return &engine.Status{
		Backend: "nftables", InForce: true, Digest: "0123456789abcdef", Files: []string{"/etc/ipmasq/policy.yaml"},
		Applied:    time.Date(2025, 6, 1, 12, 0, 0, 250e6, time.UTC),
		Forwarding: engine.Forwarding{IPv4: true},
		Uplinks: []engine.Uplink{
			{Zone: "wan", Interface: "eth0", Up: true, Addresses: []string{"203.0.113.2/24", "203.0.113.9/24", "2001:db8::2/64"}},
			{Zone: "wan", Interface: "ppp*"},
			{Zone: "wan", Interface: "eth0", Up: true}, // another pattern matches it too
		},
		Entries: []engine.Entry{
			{Section: "snat", Name: "pool", Flows: 70, Open: engine.Open{Flows: 12, Packets: 340, Bytes: 56789},
				Pool: &engine.Pool{Addresses: []string{"203.0.113.8-203.0.113.11", "2001:db8:5::/64"}, InUse: 3, Flows: 12,
					IPv4: engine.PoolUse{Addresses: 4, InUse: 2}, IPv6: engine.PoolUse{Addresses: 1 << 64, InUse: 1}}},
			{Section: "masquerade", Name: "lan-wan", Flows: 98765, LeaksStopped: 4, Limited: true, LimitStopped: 5, Open: engine.Open{Flows: 812, Packets: 1234567, Bytes: 8912345678},
				Limit: &engine.Limit{Total: 50000, PerHost: 500, Used: 800, Busiest: netip.MustParseAddr("192.168.1.77"), BusiestUsed: 31}},
			{Section: "masquerade", Name: "guests", Limited: true, Limit: &engine.Limit{PerHost: 10}},
			{Section: "one_to_one", Name: "mail", Flows: 6, LeaksStopped: 1},
			{Section: "one_to_one", Refuses: true, Packets: 2, Bytes: 90},
			{Section: "port_forward", Name: "vms", Flows: 44, Forwards: 100000, Open: engine.Open{Flows: 3, Packets: 30, Bytes: 4000}},
			{Section: "forward", Name: "default", Flows: 8, Open: engine.Open{Flows: 4, Packets: 9, Bytes: 999}},
			{Section: "forward", Name: "default", Packets: 66, Bytes: 7777, Refuses: true},
			{Section: "invalid", Name: "forward", Packets: 1, Bytes: 40, Refuses: true},
		},
		FlowsCounted: true, TrafficCounted: true,
		Conntrack: engine.Conntrack{Count: 12345, Max: 262144, InsertFailed: 1, Dropped: 2, EarlyDropped: 3},
		Warnings:  []engine.Warning{{About: "conntrack"}},
		Drift: plan.Diff(&plan.Snapshot{}, &plan.Snapshot{Counters: []plan.Counter{
			counter("antispoof"), counter("masquerade guests"), counter("port_forward vms"), counter("zone lan"), counter("zone wan"),
		}}),
		SysctlDrift:  []sysctl.Change{{Name: "net/ipv4/ip_forward", Before: "0", After: "1"}, {Name: "net/ipv6/conf/all/forwarding", Before: "1", After: "1"}},
		RoutingDrift: engine.Routing{Add: link.Routing{Rules: []link.Rule{{Priority: 7, Mark: 1, Mask: 1, Table: 9}}}},
	}
}

// notCounted is the same where there are too many flows to count, as the engine
// leaves it.
func notCounted() *engine.Status {
	s := busy()
	s.FlowsCounted, s.Conntrack.Count = false, 250000
	for i := range s.Entries {
		e := &s.Entries[i]
		e.Open = engine.Open{}
		if e.Limit != nil {
			e.Limit = &engine.Limit{Total: e.Limit.Total, PerHost: e.Limit.PerHost}
		}
		if p := e.Pool; p != nil {
			e.Pool = &engine.Pool{Addresses: p.Addresses, IPv4: engine.PoolUse{Addresses: p.IPv4.Addresses}, IPv6: engine.PoolUse{Addresses: p.IPv6.Addresses}}
		}
	}
	return s
}

// facts are of a daemon that has seen everything.
func facts() Daemon {
	d := Daemon{
		Applies:   Applies{Changed: 5, Unchanged: 7, Failed: 1},
		LastApply: time.Date(2025, 6, 2, 12, 0, 0, 0, time.UTC), LastApplyFailed: true,
		Corrections:    Corrections{Rules: 2, Sysctls: 1, Routing: 3},
		ReloadFailures: 4, ReloadFailed: true,
		Digest: "fedcba9876543210", Applied: time.Date(2025, 6, 2, 11, 0, 0, 0, time.UTC),
	}
	for _, took := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 300 * time.Millisecond, time.Minute} {
		d.ApplyDurations.Observe(took)
	}
	return d
}
