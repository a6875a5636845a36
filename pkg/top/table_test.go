package top

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// tcp is a flow from an inside host, masqueraded, that has carried so much.
func tcp(id uint32, source, destination string, sent, received uint64) conntrack.Flow {
	s, d := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	return conntrack.Flow{
		Family: conntrack.IPv4, Protocol: conntrack.ProtocolTCP, ID: id, State: conntrack.TCPEstablished,
		Status:   conntrack.StatusConfirmed | conntrack.StatusSNAT,
		Original: conntrack.Tuple{Source: s.Addr(), SourcePort: s.Port(), Destination: d.Addr(), DestinationPort: d.Port()},
		Reply:    conntrack.Tuple{Source: d.Addr(), SourcePort: d.Port(), Destination: netip.MustParseAddr("203.0.113.2"), DestinationPort: s.Port()},
		Sent:     conntrack.Counter{Packets: sent / 100, Bytes: sent},
		Received: conntrack.Counter{Packets: received / 100, Bytes: received},
		Counted:  true,
	}
}

// forwarded is a flow from outside that a port forward leads to an inside host.
func forwarded(id uint32, source, target string, sent, received uint64) conntrack.Flow {
	f := tcp(id, source, target, sent, received)
	f.Status = conntrack.StatusConfirmed | conntrack.StatusDNAT
	f.Reply.Source, f.Reply.Destination = f.Original.Destination, f.Original.Source
	f.Original.Destination = netip.MustParseAddr("203.0.113.2")
	return f
}

// judge gives every flow the entry that its kind of translation has.
type judge struct{ asked int }

func (j *judge) Judge(f *conntrack.Flow) (out flows.Judgement) {
	j.asked++
	switch {
	case f.DNAT():
		out.Origin.Entry = "port_forward web"
	case f.SNAT():
		out.Origin.Entry = "masquerade office"
	}
	return out
}

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// listed is the sample of one listing, so many seconds after the epoch.
func listed(t *Table, second int, list ...conntrack.Flow) *Sample {
	t.Begin(epoch.Add(time.Duration(second)*time.Second), Question{})
	for i := range list {
		t.Add(&list[i])
	}
	return t.End()
}

// lines are the rows of a view as text: name, flows, bits and packets a second
// in both directions, bytes.
func lines(s *Sample, v View, q Question) (out []string) {
	rows, _ := s.Rows(v, q)
	for i := range rows {
		r := &rows[i]
		text := fmt.Sprintf("%s %d", r.Text(), r.Flows)
		if s.Known(r) {
			text += fmt.Sprintf(" %v/%v %v/%v", s.Number(r, Sent), s.Number(r, Received), s.Number(r, PacketsSent), s.Number(r, PacketsReceived))
		}
		out = append(out, fmt.Sprintf("%s %d", text, r.Bytes))
	}
	return out
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// The rows of each view, with the rates of their flows together.
func TestViews(t *testing.T) {
	table := NewTable(&Options{Judge: &judge{}})
	listed(table, 0,
		tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1000, 10000),
		tcp(2, "192.168.1.10:4001", "198.51.100.8:443", 500, 500),
		forwarded(3, "198.51.100.7:5000", "192.168.2.10:80", 100, 100))
	s := listed(table, 2,
		tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 3000, 110000),
		tcp(2, "192.168.1.10:4001", "198.51.100.8:443", 500, 500),
		forwarded(3, "198.51.100.7:5000", "192.168.2.10:80", 1100, 40100))
	same(t, "by host", lines(s, ByHost, Question{}), []string{
		"192.168.1.10 2 8000/400000 10/500 114000",
		"192.168.2.10 1 160000/4000 200/5 41200", // it sends what its client receives
	})
	same(t, "by entry", lines(s, ByEntry, Question{}), []string{
		"masquerade office 2 8000/400000 10/500 114000",
		"port_forward web 1 4000/160000 5/200 41200",
	})
	same(t, "by destination", lines(s, ByDestination, Question{}), []string{
		"198.51.100.9 1 8000/400000 10/500 113000",
		"192.168.2.10 1 4000/160000 5/200 41200",
		"198.51.100.8 1 0/0 0/0 1000",
	})
	same(t, "by flow", lines(s, ByFlow, Question{}), []string{
		"tcp 192.168.1.10:4000 > 198.51.100.9:443 -> 203.0.113.2:4000 > 198.51.100.9:443 1 8000/400000 10/500 113000",
		"tcp 198.51.100.7:5000 > 203.0.113.2:80 -> 198.51.100.7:5000 > 192.168.2.10:80 1 4000/160000 5/200 41200",
		"tcp 192.168.1.10:4001 > 198.51.100.8:443 -> 203.0.113.2:4001 > 198.51.100.8:443 1 0/0 0/0 1000",
	})
	same(t, "all", s.Number(&s.Sum, Rate), 572000.0)
}

// What comes, goes, comes back and takes another's place.
func TestNewAndEnded(t *testing.T) {
	a := func(sent uint64) conntrack.Flow { return tcp(1, "192.168.1.10:4000", "198.51.100.9:443", sent, 0) }
	b := func(id uint32, sent uint64) conntrack.Flow {
		return tcp(id, "192.168.1.11:4000", "198.51.100.9:443", sent, 0)
	}
	table := NewTable(&Options{Judge: &judge{}})
	for i, c := range []struct {
		why                string
		list               []conntrack.Flow
		flows, news, ended int
		sent               float64 // bits a second
	}{
		{"the first listing knows of no before", []conntrack.Flow{a(1000)}, 1, 0, 0, 0},
		{"another one comes: all that it carried is of late", []conntrack.Flow{a(1000), b(2, 100)}, 2, 1, 0, 800},
		{"it is in the listing twice", []conntrack.Flow{a(1000), b(2, 200), b(2, 200)}, 2, 0, 0, 800},
		{"it ends", []conntrack.Flow{a(1000)}, 1, 0, 1, 0},
		{"the same tuple, and another flow", []conntrack.Flow{a(1000), b(3, 50)}, 2, 1, 0, 400},
		{"the same tuple and the same ID, but the counters begin anew", []conntrack.Flow{a(1000), b(3, 20)}, 2, 1, 1, 160},
		{"the same tuple at the next listing, with another ID", []conntrack.Flow{a(1000), b(4, 10)}, 2, 1, 1, 80},
		{"one is passed over", []conntrack.Flow{b(4, 10)}, 1, 0, 1, 0},
		{"and is back: what it carried was in two intervals", []conntrack.Flow{a(3000), b(4, 10)}, 2, 1, 0, 8000},
		{"everything ends", nil, 0, 0, 2, 0},
	} {
		s := listed(table, i, c.list...)
		sent := 0.0
		if s.Since > 0 {
			sent = s.Number(&s.Sum, Sent)
		}
		if s.Flows != c.flows || s.New != c.news || s.Ended != c.ended || sent != c.sent {
			t.Errorf("%s: %d flows, %d new, %d ended, %v bit/s; want %d, %d, %d, %v", c.why, s.Flows, s.New, s.Ended, sent, c.flows, c.news, c.ended, c.sent)
		}
	}
	listed(table, 20)
	listed(table, 21)
	if table.known.n != 0 {
		t.Errorf("%d flows are remembered that are gone for long", table.known.n)
	}
}

// Counters that wrap did not go back.
func TestCountersWrap(t *testing.T) {
	for _, c := range []struct {
		before, now, want Traffic
		anew              bool
	}{
		{Traffic{100, 100, 1, 1}, Traffic{300, 100, 3, 1}, Traffic{200, 0, 2, 0}, false},
		{Traffic{math.MaxUint64 - 9, 0, 1, 0}, Traffic{90, 0, 2, 0}, Traffic{100, 0, 1, 0}, false},
		{Traffic{1, 1, math.MaxUint32 - 1, 1 << 40}, Traffic{2, 2, math.MaxUint32 + 9, 1<<40 + 5}, Traffic{1, 1, 10, 5}, false},
		{Traffic{100, 100, 1, 1}, Traffic{99, 200, 1, 2}, Traffic{99, 200, 1, 2}, true},
		{Traffic{1 << 40, 0, 1 << 30, 0}, Traffic{0, 0, 0, 0}, Traffic{0, 0, 0, 0}, true},
	} {
		var s seen
		s.note(c.before, 1)
		got, anew := s.since(c.now)
		if got != c.want || anew != c.anew {
			t.Errorf("from %v to %v: %v (anew %v), want %v (%v)", c.before, c.now, got, anew, c.want, c.anew)
		}
	}
}

// A flow that is first seen late in its life has not carried all of it now.
func TestSeenLate(t *testing.T) {
	old := tcp(2, "192.168.1.11:4000", "198.51.100.9:443", 1e9, 0)
	for name, c := range map[string]struct {
		o     Options
		start time.Time
		want  float64
	}{
		"new":                             {want: 8e9},
		"the kernel says when it began":   {start: epoch.Add(-time.Hour), want: 0},
		"the kernel says it is new":       {start: epoch.Add(time.Second / 2), want: 8e9},
		"the filter lets it in by state":  {o: Options{Filter: conntrack.Filter{States: []conntrack.State{conntrack.TCPEstablished}}}},
		"the filter lets it in by status": {o: Options{Filter: conntrack.Filter{StatusMask: conntrack.StatusAssured}}},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable(&c.o)
			listed(table, 0)
			old.Start = c.start
			s := listed(table, 1, old)
			if got := s.Number(&s.Sum, Sent); got != c.want || s.New != 1 {
				t.Errorf("%v bit/s and %d new, want %v and 1", got, s.New, c.want)
			}
		})
	}
}

// The judge is asked once for each flow.
func TestJudgedOnce(t *testing.T) {
	j := &judge{}
	table := NewTable(&Options{Judge: j, MatchPolicy: func(j *flows.Judgement) bool { return j.Origin.Entry != "port_forward web" }})
	for i := range 5 {
		s := listed(table, i,
			tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1000, 10000),
			forwarded(3, "198.51.100.7:5000", "192.168.2.10:80", 100, 100))
		if s.Flows != 1 {
			t.Errorf("%d flows; the filter allows one", s.Flows)
		}
	}
	if j.asked != 2 {
		t.Errorf("the judge was asked %d times about 2 flows", j.asked)
	}
}

// Where the kernel does not count, flows still count.
func TestUncounted(t *testing.T) {
	f := tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 0, 0)
	f.Counted = false
	table := NewTable(&Options{})
	listed(table, 0, f)
	s := listed(table, 1, f)
	same(t, "rows", lines(s, ByEntry, Question{}), []string{"- 1 0"})
	if !strings.Contains(s.hint(), "nf_conntrack_acct") || !strings.Contains(s.traffic(), "1 flow") {
		t.Errorf("hint %q, head %q", s.hint(), s.traffic())
	}
}

// A listing that broke off is no sample, and the next one is the first.
func TestAbandon(t *testing.T) {
	table := NewTable(&Options{})
	f := tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 100, 0)
	listed(table, 0, f)
	table.Begin(epoch.Add(time.Second), Question{})
	table.Add(&f)
	table.Abandon()
	if s := listed(table, 2, f); s.Since != 0 || s.New != 0 || s.Ended != 0 || s.Flows != 1 {
		t.Errorf("after a listing that broke off: %+v", s)
	}
}
