package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// The warning about the table names what can be changed where it is read, with
// a number.
func TestConntrackWarning(t *testing.T) {
	p := &policy.Policy{}
	for _, c := range []struct {
		count, max uint64
		p          *policy.Policy
		fixed      bool
		setting    string
		suggested  uint64
		message    string
	}{
		{0, 0, p, false, "", 0, ""}, // a kernel without conntrack, yet
		{79, 100, p, false, "", 0, ""},
		{80, 100, p, false, "gateway.conntrack.max", 200, "80 of 100 flows are in the kernel's table; when it is full, new connections are dropped; set `gateway: {conntrack: {max: 200}}` in the policy (a full table of that size takes about 0 MB)"},
		{262144, 262144, nil, false, "net.netfilter.nf_conntrack_max", 524288, "; set net.netfilter.nf_conntrack_max to 524288 (a full table of that size takes about 200 MB)"},
		{250000, 262144, p, true, "net.netfilter.nf_conntrack_max", 524288, "; set net.netfilter.nf_conntrack_max to 524288 in the machine's first network namespace: it holds for each namespace, and cannot be set in this one ("},
		{1 << 31, 1<<31 - 1, p, false, "gateway.conntrack.max", 1<<31 - 1, "{max: 2147483647}"},
	} {
		w := (&Conntrack{Count: c.count, Max: c.max}).warning(c.p, c.fixed)
		if c.message == "" {
			if w != nil {
				t.Errorf("%d of %d: %+v", c.count, c.max, w)
			}
			continue
		}
		if w == nil || w.About != "conntrack" || w.Setting != c.setting || w.Suggested != c.suggested || w.Used != c.count || w.Of != c.max || !strings.Contains(w.Message, c.message) {
			t.Errorf("%d of %d: %+v", c.count, c.max, w)
		}
	}
}

// counting is a status of a policy, and a table of flows that are all of one
// entry.
func counting(t *testing.T, text, entry string) (*Status, *uses) {
	t.Helper()
	p, err := policy.Reparse([]policy.Source{{Name: "policy.yaml", Text: []byte("version: 1\nzones:\n  lan: {interfaces: eth1}\n  wan: {interfaces: eth0}\n" + text)}})
	if err != nil {
		t.Fatal(err)
	}
	s := &Status{FlowsCounted: true}
	s.entries(&plan.Snapshot{}, p)
	s.bounds(p)
	return s, newUses(s, p, func(*conntrack.Flow) flows.Judgement {
		return flows.Judgement{Origin: ruleset.Origin{Entry: entry}}
	})
}

func translated(source string, port int, became, to string) *conntrack.Flow {
	target := netip.MustParseAddrPort(to)
	return &conntrack.Flow{Protocol: conntrack.ProtocolUDP, Status: conntrack.StatusSNAT,
		Original: conntrack.Tuple{Source: netip.MustParseAddr(source), SourcePort: uint16(port), Destination: target.Addr(), DestinationPort: target.Port()},
		Reply:    conntrack.Tuple{Source: target.Addr(), SourcePort: target.Port(), Destination: netip.MustParseAddr(became), DestinationPort: uint16(port)}}
}

// reads reads a table as countFlows does.
func (u *uses) reads(table []*conntrack.Flow) []Warning {
	for _, f := range table {
		u.add(f)
	}
	u.finish()
	if !u.ports.suspicious {
		return nil
	}
	for _, f := range table {
		u.addAgain(f)
	}
	return u.crowded()
}

// Ports run out for one destination at a time: as many flows to as many
// destinations are no reason to warn.
func TestCrowds(t *testing.T) {
	const text = "snat:\n  - {name: lan, from: lan, to: wan, addresses: 203.0.113.8/30, outside_ports: 2000-2099}\n"
	table := func(n int, to func(int) string) (table []*conntrack.Flow) {
		for i := range n {
			table = append(table, translated("192.168.1.10", 2000+i, "203.0.113.8", to(i)))
		}
		return table
	}
	one := func(int) string { return "198.51.100.53:53" }
	for _, c := range []struct {
		name  string
		table []*conntrack.Flow
		want  string
	}{
		{"room", table(79, one), ""},
		{"nearly", table(80, one), "80 of the 100 outside ports of 203.0.113.8 are taken towards udp 198.51.100.53:53; when all are, no further connection gets there; give the entry more `addresses` or wider `outside_ports`"},
		{"many destinations", table(5000, func(i int) string { return fmt.Sprintf("198.51.%d.%d:53", i/250, i%250) }), ""},
		{"two", append(table(90, one), table(95, func(int) string { return "[2001:db8::53]:53" })...),
			"95 of the 100 outside ports of 203.0.113.8 are taken towards udp [2001:db8::53]:53; when all are, no further connection gets there (and as much towards 1 more); give"},
	} {
		_, u := counting(t, text, "snat lan")
		warnings := u.reads(c.table)
		switch {
		case c.want == "" && len(warnings) == 0:
		case c.want == "" || len(warnings) != 1 || warnings[0].About != "snat lan" || !strings.HasPrefix(warnings[0].Message, c.want):
			t.Errorf("%s: %+v", c.name, warnings)
		}
	}
}

// Where crowds share a hash, they are counted again, one by one.
func TestCrowdsOfOneHash(t *testing.T) {
	_, u := counting(t, "snat:\n  - {name: lan, from: lan, to: wan, addresses: 203.0.113.8, outside_ports: 2000-2004}\n", "snat lan")
	var table []*conntrack.Flow
	for i := range 4 * crowdHashes {
		table = append(table, translated("192.168.1.10", 2000, "203.0.113.8", fmt.Sprintf("[2001:db8::%x:%x]:53", i>>16, i&0xffff)))
	}
	for i := range 3 {
		table = append(table, translated("192.168.1.10", 2001+i, "203.0.113.8", "[2001:db8::1]:53"))
	}
	warnings := u.reads(table)
	if len(warnings) != 1 || warnings[0].Used != 4 || warnings[0].Of != 5 || !strings.Contains(warnings[0].Message, "towards udp [2001:db8::1]:53;") {
		t.Errorf("%d hashes look crowded: %+v", len(u.ports.exact), warnings)
	}
	if len(u.ports.exact) < 2 {
		t.Error("no two crowds shared a hash: the test sees nothing")
	}
}

// With ports_per_host a host's block fills up, and nobody else's.
func TestCrowdsOfHosts(t *testing.T) {
	_, u := counting(t, "snat:\n  - {name: lan, from: lan, to: wan, sources: 192.168.1.0/28, addresses: 203.0.113.8, ports_per_host: 10}\n", "snat lan")
	var table []*conntrack.Flow
	for host := range 8 {
		for i := range host + 1 {
			table = append(table, translated(fmt.Sprintf("192.168.1.%d", host), 3000+10*host+i, "203.0.113.8", "198.51.100.53:53"))
		}
	}
	warnings := u.reads(table)
	if len(warnings) != 1 || warnings[0].Used != 8 || warnings[0].Of != 10 || warnings[0].Setting != "ports_per_host" || warnings[0].Suggested != 20 ||
		!strings.HasPrefix(warnings[0].Message, "8 of the 10 outside ports of 203.0.113.8 for 192.168.1.7 are taken towards udp 198.51.100.53:53;") {
		t.Errorf("%+v", warnings)
	}
}

// Without bounds a masquerade has what the kernel gives it, less what is
// reserved.
func TestOutsideRoom(t *testing.T) {
	ports := func(first, last uint16) policy.Ports { return policy.Ports{First: first, Last: last} }
	for _, c := range []struct {
		bounds   *policy.Ports
		reserved []policy.Ports
		want     int
	}{
		{nil, nil, 64512},
		{nil, []policy.Ports{ports(500, 500), ports(1000, 1033), ports(4500, 4500)}, 64512 - 10 - 1},
		{&policy.Ports{First: 2000, Last: 2099}, []policy.Ports{ports(2090, 3000)}, 90},
		{&policy.Ports{First: 7, Last: 7}, []policy.Ports{ports(7, 7)}, 1},
	} {
		if got := outsideRoom(&policy.Policy{Gateway: policy.Gateway{ReservedPorts: c.reserved}}, c.bounds); got != c.want {
			t.Errorf("%v without %v: %d, want %d", c.bounds, c.reserved, got, c.want)
		}
	}
}

// A limit counts what has not ended, and names the host that has most.
func TestLimitInUse(t *testing.T) {
	s, u := counting(t, "masquerade:\n  - {name: lan, from: lan, to: wan, max_connections: {total: 5, per_host: 9}}\n", "masquerade lan")
	tcp := func(source string, state conntrack.State) *conntrack.Flow {
		f := translated(source, 4000, "203.0.113.8", "198.51.100.80:80")
		f.Protocol, f.State = conntrack.ProtocolTCP, state
		f.Sent, f.Received = conntrack.Counter{Packets: 2, Bytes: 100}, conntrack.Counter{Packets: 1, Bytes: 1000}
		return f
	}
	table := []*conntrack.Flow{
		tcp("192.168.1.10", conntrack.TCPEstablished), tcp("192.168.1.10", conntrack.TCPTimeWait), tcp("192.168.1.10", conntrack.TCPClose),
		tcp("192.168.1.11", conntrack.TCPSynSent), tcp("192.168.1.11", conntrack.TCPLastAck), translated("192.168.1.12", 1, "203.0.113.8", "198.51.100.53:53"),
	}
	// FTP's data connections are let in before the limit is asked.
	announced := tcp("192.168.1.11", conntrack.TCPEstablished)
	announced.Status |= conntrack.StatusExpected
	announced.Sent, announced.Received = conntrack.Counter{}, conntrack.Counter{}
	if w := u.reads(append(table, announced)); len(w) > 0 {
		t.Errorf("%+v", w)
	}
	e := &s.Entries[s.find("masquerade lan", policy.Place{})]
	if l := e.Limit; e.Open.Flows != 7 || l.Used != 4 || l.Busiest.String() != "192.168.1.11" || l.BusiestUsed != 2 {
		t.Errorf("%+v, %+v", e.Open, l)
	}
	if e.Open.Packets != 15 || e.Open.Bytes != 5500 {
		t.Errorf("%+v", e.Open)
	}
	s.warnings(nil, false)
	if len(s.Warnings) != 1 || s.Warnings[0].About != "masquerade lan" || s.Warnings[0].Setting != "max_connections.total" || s.Warnings[0].Suggested != 10 {
		t.Errorf("%+v", s.Warnings)
	}
	e.Limit.Used = 30
	s.Warnings = nil
	if s.warnings(nil, false); len(s.Warnings) != 1 || s.Warnings[0].Suggested != 60 {
		t.Errorf("a limit that is far exceeded: %+v", s.Warnings)
	}
	e.Limit.Used = 3
	s.Warnings = nil
	if s.warnings(nil, false); len(s.Warnings) != 0 {
		t.Errorf("%+v", s.Warnings)
	}
}
