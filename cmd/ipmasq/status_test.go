package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

var update = flag.Bool("update", false, "write what status prints to testdata/status")

// busy is a gateway of which everything can be said.
func busy() *engine.Status {
	at := func(line int) ruleset.Place {
		return ruleset.Place{File: "/etc/ipmasq/policy.yaml", Line: line, Column: 5}
	}
	open := func(flows int, packets, bytes uint64) engine.Open {
		return engine.Open{Flows: flows, Packets: packets, Bytes: bytes}
	}
	return &engine.Status{
		Backend: "nftables", InForce: true, Digest: "0123456789abcdef0123", Files: []string{"/etc/ipmasq/policy.yaml"},
		Applied:    time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		Forwarding: engine.Forwarding{IPv4: true},
		Uplinks:    []engine.Uplink{{Zone: "wan", Interface: "eth0", Up: true, Addresses: []string{"203.0.113.2/24"}}},
		Conntrack:  engine.Conntrack{Count: 12345, Max: 262144, InsertFailed: 1, Dropped: 2, EarlyDropped: 3},
		Entries: []engine.Entry{
			{Section: "snat", Name: "pool", Place: at(9), Flows: 70, Open: open(12, 340, 56789),
				Pool: &engine.Pool{Addresses: []string{"203.0.113.8-203.0.113.11", "2001:db8:5::/64"}, InUse: 3, Flows: 12}},
			{Section: "masquerade", Name: "lan-wan", Place: at(12), Flows: 98765, LeaksStopped: 4, Limited: true, LimitStopped: 5, Open: open(812, 1234567, 8912345678),
				Limit: &engine.Limit{Total: 50000, PerHost: 500, Used: 800, Busiest: netip.MustParseAddr("192.168.1.77"), BusiestUsed: 31}},
			{Section: "masquerade", Name: "guests", Place: at(13), Limit: &engine.Limit{PerHost: 10}},
			{Section: "port_forward", Name: "web", Place: at(16), Flows: 44, Open: open(3, 30, 4000), Targets: []engine.Target{{Target: "192.168.2.10:80", Flows: 2}, {Target: "192.168.2.11:80", Flows: 1}}},
			{Section: "forward", Name: "few", Place: at(20), Flows: 8, Open: open(4, 9, 999), Limited: true, Limit: &engine.Limit{Total: 5, Used: 4}},
			{Section: "forward", Name: "default", Place: at(18), Packets: 66, Bytes: 7777, Refuses: true},
			{Section: "invalid", Name: "forward", Packets: 1, Bytes: 40, Refuses: true},
		},
		FlowsCounted: true, TrafficCounted: true,
	}
}

// What status prints, as people and programs see it.
func TestStatusGolden(t *testing.T) {
	notCounted := busy()
	notCounted.FlowsCounted, notCounted.Conntrack.Count = false, 250000
	notCounted.Warnings = []engine.Warning{{About: "conntrack", Used: 250000, Of: 262144, Setting: "gateway.conntrack.max", Suggested: 524288, Message: "250000 of 262144 flows"}}
	for i := range notCounted.Entries { // as the engine leaves it
		e := &notCounted.Entries[i]
		e.Open, e.Targets = engine.Open{}, nil
		if e.Pool != nil {
			e.Pool = &engine.Pool{Addresses: e.Pool.Addresses}
		}
		if e.Limit != nil {
			e.Limit = &engine.Limit{Total: e.Limit.Total, PerHost: e.Limit.PerHost}
		}
	}
	noAccounting := busy()
	noAccounting.TrafficCounted = false
	dropped := uint64(12)
	noAccounting.Foreign = []engine.ForeignChain{
		{Kind: "iptables-nft", Family: "ip", Table: "nat", Name: "PREROUTING", Hook: "prerouting", Type: "nat", Priority: -100, Translates: true},
		{Kind: "iptables-legacy", Family: "ip", Table: "filter", Name: "FORWARD", Hook: "forward", Type: "filter", PolicyDrop: true, Packets: &dropped, Stops: true},
		{Kind: "nft", Family: "inet", Table: "firewalld", Name: "filter_FORWARD", Hook: "forward", Type: "filter", Priority: 10, Stops: true},
	}
	for name, s := range map[string]*engine.Status{"counted": busy(), "not-counted": notCounted, "no-accounting": noAccounting} {
		var out, errs bytes.Buffer
		p := &program{stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
		p.printStatus(nil, &out, s) // no terminal, no flags about colours
		golden(t, name+".out", append(out.Bytes(), errs.Bytes()...))
		text, err := json.MarshalIndent(statusJSON(s), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", append(text, '\n'))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "status", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
