package top

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// Which end is the inside one, and where a flow leads to.
func TestEnds(t *testing.T) {
	const both = conntrack.StatusSNAT | conntrack.StatusDNAT
	for _, c := range []struct {
		why                    string
		from, to, becomes, led string // the tuples: source, destination, and both after translation
		status                 conntrack.Status
		entry                  string
		host                   string
		opened                 bool
		destination            string
	}{
		{"masquerade", "192.168.1.10", "198.51.100.9", "203.0.113.2", "198.51.100.9", conntrack.StatusSNAT, "masquerade a", "192.168.1.10", true, "198.51.100.9"},
		{"snat of public addresses", "198.18.0.5", "198.51.100.9", "203.0.113.2", "198.51.100.9", conntrack.StatusSNAT, "snat a", "198.18.0.5", true, "198.51.100.9"},
		{"port forward", "198.51.100.9", "203.0.113.2", "198.51.100.9", "192.168.1.10", conntrack.StatusDNAT, "port_forward a", "192.168.1.10", false, "192.168.1.10"},
		{"port forward to a public address", "198.51.100.9", "203.0.113.2", "198.51.100.9", "198.18.0.5", conntrack.StatusDNAT, "port_forward a", "198.18.0.5", false, "198.18.0.5"},
		{"hairpin", "192.168.1.11", "203.0.113.2", "192.168.1.1", "192.168.1.10", both, "port_forward a", "192.168.1.11", true, "192.168.1.10"},
		{"forwarded and masqueraded", "198.51.100.9", "203.0.113.2", "192.168.1.1", "192.168.1.10", both, "port_forward a", "192.168.1.10", false, "192.168.1.10"},
		{"one_to_one, in", "198.51.100.9", "203.0.113.7", "198.51.100.9", "192.168.1.10", conntrack.StatusDNAT, "one_to_one a", "192.168.1.10", false, "192.168.1.10"},
		{"one_to_one, out", "192.168.1.10", "198.51.100.9", "203.0.113.7", "198.51.100.9", conntrack.StatusSNAT, "one_to_one a", "192.168.1.10", true, "198.51.100.9"},
		{"redirect", "192.168.1.10", "198.51.100.9", "192.168.1.10", "192.168.1.1", conntrack.StatusDNAT, "redirect a", "192.168.1.10", true, "198.51.100.9"},
		{"somebody else's port forward", "198.51.100.9", "203.0.113.2", "198.51.100.9", "172.17.0.2", conntrack.StatusDNAT, "", "172.17.0.2", false, "172.17.0.2"},
		{"plain, out", "192.168.1.10", "198.51.100.9", "192.168.1.10", "198.51.100.9", 0, "forward a", "192.168.1.10", true, "198.51.100.9"},
		{"plain, in", "2001:db8::9", "fd00:1::10", "2001:db8::9", "fd00:1::10", 0, "forward a", "fd00:1::10", false, "fd00:1::10"},
		{"plain, inside", "192.168.1.10", "192.168.2.10", "192.168.1.10", "192.168.2.10", 0, "forward a", "192.168.1.10", true, "192.168.2.10"},
		{"carrier's space", "198.51.100.9", "100.64.0.7", "198.51.100.9", "100.64.0.7", 0, "", "100.64.0.7", false, "100.64.0.7"},
	} {
		f := conntrack.Flow{Status: c.status,
			Original: conntrack.Tuple{Source: netip.MustParseAddr(c.from), Destination: netip.MustParseAddr(c.to)},
			Reply:    conntrack.Tuple{Source: netip.MustParseAddr(c.led), Destination: netip.MustParseAddr(c.becomes)}}
		k := kindOf(c.entry)
		host, opened := hostOf(&f, k)
		if to := destinationOf(&f, k); host.String() != c.host || opened != c.opened || to.String() != c.destination {
			t.Errorf("%s: host %v (opened it: %v), to %v; want %s (%v), to %s", c.why, host, opened, to, c.host, c.opened, c.destination)
		}
	}
}

func TestSort(t *testing.T) {
	row := func(name string, flows int, sent, received, sentPackets, receivedPackets, bytes uint64) Row {
		return Row{Key: Key{View: ByHost, Addr: netip.MustParseAddr(name)}, Flows: flows, Counted: true, Bytes: bytes,
			Recent: Traffic{sent, received, sentPackets, receivedPackets}}
	}
	s := &Sample{Since: 1, rows: [views][]Row{ByHost: {
		row("10.0.0.1", 1, 10, 10, 9, 1, 900),
		row("10.0.0.2", 9, 30, 0, 1, 2, 800),
		row("10.0.0.3", 2, 5, 100, 4, 9, 700),
		row("10.0.0.10", 2, 5, 100, 4, 9, 700),
	}}}
	for column, want := range map[Column]string{
		Rate:            "3 10 2 1",
		Sent:            "2 1 3 10",
		Received:        "3 10 1 2",
		PacketsSent:     "1 3 10 2",
		PacketsReceived: "3 10 2 1",
		Bytes:           "1 2 3 10",
		Flows:           "2 3 10 1",
		Name:            "1 2 3 10",
	} {
		for _, reversed := range []bool{false, true} {
			rows, _ := s.Rows(ByHost, Question{Sort: column, Reversed: reversed})
			got := ""
			for i := range rows {
				got += fmt.Sprint(rows[i].Addr.As4()[3], " ")
			}
			if reversed {
				// What is equal stands as before.
				o := order{column, false}
				if !slices.IsSortedFunc(rows, func(a, b Row) int {
					if a.number(column) == b.number(column) && column != Name {
						return 0
					}
					return -o.compare(&a, &b)
				}) {
					t.Errorf("by %s, reversed: %s", column, got)
				}
			} else if got != want+" " {
				t.Errorf("by %s: %s, want %s", column, got, want)
			}
		}
	}
}

// The text of a filter is looked for in everything that a row says.
func TestText(t *testing.T) {
	table := NewTable(&Options{Judge: &judge{}})
	s := listed(table, 0,
		tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1, 1),
		tcp(2, "192.168.1.11:4000", "198.51.100.8:443", 2, 2),
		forwarded(3, "198.51.100.7:5000", "192.168.2.10:80", 3, 3))
	for _, c := range []struct {
		view View
		text string
		want int
	}{
		{ByHost, "", 3}, {ByHost, "192.168.1.", 2}, {ByHost, "masq", 0},
		{ByEntry, "OFFICE", 1}, {ByEntry, "-", 0},
		{ByFlow, "masq", 2}, {ByFlow, "ESTAB", 3}, {ByFlow, ":5000", 1}, {ByFlow, "日本", 0},
	} {
		if rows, _ := s.Rows(c.view, Question{Text: c.text}); len(rows) != c.want {
			t.Errorf("%q by %s: %d rows, want %d", c.text, c.view, len(rows), c.want)
		}
	}
}

// However many flows there are, few rows are kept, and the right ones.
func TestFirstRows(t *testing.T) {
	table := NewTable(&Options{})
	table.maxAddress = 50
	list := make([]conntrack.Flow, 3*maxFlowRows)
	for i := range list {
		host := netip.AddrFrom4([4]byte{10, 0, byte(i % 200), 1})
		f := tcp(uint32(i), "10.0.0.1:1", "198.51.100.9:443", uint64(i*7919%len(list)), 0) // 7919 is a prime: each number once
		f.Original.Source, f.Original.SourcePort = host, uint16(i)
		list[i] = f
	}
	table.Begin(epoch, Question{Sort: Bytes})
	for i := range list {
		table.Add(&list[i])
	}
	s := table.End()
	rows, left := s.Rows(ByFlow, Question{Sort: Bytes})
	if len(rows) != maxFlowRows || left != 2*maxFlowRows {
		t.Fatalf("%d rows and %d more", len(rows), left)
	}
	for i := range rows {
		if want := uint64(len(list) - 1 - i); rows[i].Bytes != want || rows[i].Flow.Sent.Bytes != want {
			t.Fatalf("row %d has %d bytes (its flow %d), want %d", i, rows[i].Bytes, rows[i].Flow.Sent.Bytes, want)
		}
	}
	hosts, _ := s.Rows(ByHost, Question{Sort: Flows})
	if len(hosts) != 51 || hosts[0].Text() != "(others)" || hosts[0].Flows != 150*150 {
		t.Errorf("%d hosts, the first %q with %d flows", len(hosts), hosts[0].Text(), hosts[0].Flows)
	}
	// A filter is looked at before the first ones are chosen.
	table.Begin(epoch, Question{Sort: Bytes, Text: "10.0.7.1:"})
	for i := range list {
		table.Add(&list[i])
	}
	if rows, _ := table.End().Rows(ByFlow, Question{Sort: Bytes, Text: "10.0.7.1:"}); len(rows) != 150 {
		t.Errorf("%d rows hold the text, want 150", len(rows))
	}
}

func TestHas(t *testing.T) {
	table := NewTable(&Options{Judge: &judge{}})
	list := []conntrack.Flow{
		tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1, 1),
		tcp(2, "192.168.1.11:4000", "198.51.100.8:443", 2, 2),
		forwarded(3, "198.51.100.7:5000", "192.168.1.10:80", 3, 3),
	}
	s := listed(table, 0, list...)
	for v := range views {
		rows, _ := s.Rows(v, Question{})
		total := 0
		for _, r := range rows {
			for i := range list {
				if table.Has(r.Key, &list[i]) {
					total++
				}
			}
		}
		if total != len(list) {
			t.Errorf("by %s: the rows have %d flows together, want %d", v, total, len(list))
		}
	}
}

// A million flows, of 65,536 hosts, cost what the package says.
func TestMemory(t *testing.T) {
	const n = 1_000_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	table := NewTable(&Options{})
	f := tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1000, 10000)
	table.Begin(epoch, Question{})
	for i := range n {
		f.ID, f.Original.SourcePort = uint32(i), uint16(i)
		f.Original.Source = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		table.Add(&f)
	}
	s := table.End()
	each := float64(heap()-before) / n
	if s.Flows != n || each > 100 {
		t.Errorf("%d flows cost %.1f bytes each", s.Flows, each)
	}
	t.Logf("%.1f bytes each", each)
	runtime.KeepAlive(table)
}

func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	table := NewTable(&Options{})
	f := tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1000, 10000)
	for b.Loop() {
		table.Begin(epoch, Question{})
		f.Sent.Bytes += 1000 * n
		for i := range n {
			f.ID, f.Original.SourcePort = uint32(i), uint16(i)
			f.Original.Source = netip.AddrFrom4([4]byte{10, byte(i >> 14 & 3), byte(i >> 8), byte(i)})
			f.Sent.Bytes += uint64(i * 7919 % 1000) // some send more than others
			table.Add(&f)
		}
		table.End()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/flow")
}
