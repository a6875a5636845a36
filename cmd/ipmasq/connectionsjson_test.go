package main

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"go.yaml.in/yaml/v4"
)

// flowDocument is what docs/commands.md says of a connection.
type flowDocument struct {
	Protocol      string           `json:"protocol"`
	Family        string           `json:"family"`
	State         string           `json:"state,omitempty"`
	Status        []string         `json:"status"`
	Before        flowEnds         `json:"before"`
	After         flowEnds         `json:"after"`
	ICMPType      *uint8           `json:"icmp_type,omitempty"`
	ICMPCode      *uint8           `json:"icmp_code,omitempty"`
	Entry         string           `json:"entry,omitempty"`
	Place         string           `json:"place,omitempty"`
	From          string           `json:"from,omitempty"`
	To            string           `json:"to,omitempty"`
	Start         *time.Time       `json:"start,omitempty"`
	Age           *int64           `json:"age,omitempty"`
	Timeout       int64            `json:"timeout"`
	Sent          *counterOfFlow   `json:"sent,omitempty"`
	Received      *counterOfFlow   `json:"received,omitempty"`
	Mark          uint32           `json:"mark"`
	ConntrackZone uint16           `json:"conntrack_zone,omitempty"`
	ID            uint32           `json:"id"`
	Helper        string           `json:"helper,omitempty"`
	Master        *flowDocumentEnd `json:"master,omitempty"`
}

type flowDocumentEnd struct {
	Protocol string   `json:"protocol"`
	Before   flowEnds `json:"before"`
}

type flowEnds struct {
	Source          string  `json:"source"`
	SourcePort      uint16  `json:"source_port,omitempty"`
	Destination     string  `json:"destination"`
	DestinationPort uint16  `json:"destination_port,omitempty"`
	ICMPID          *uint16 `json:"icmp_id,omitempty"`
}

type counterOfFlow struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func endsOf(protocol uint8, source netip.Addr, sourcePort uint16, destination netip.Addr, destinationPort, id uint16) flowEnds {
	e := flowEnds{SourcePort: sourcePort, DestinationPort: destinationPort}
	if source.IsValid() {
		e.Source = source.String()
	}
	if destination.IsValid() {
		e.Destination = destination.String()
	}
	if protocol == 1 || protocol == 58 {
		e.ICMPID = &id
	}
	return e
}

func documentOf(f *conntrack.Flow, j *flows.Judgement, now time.Time, protocol, state string) flowDocument {
	d := flowDocument{
		Protocol: protocol, State: state, Family: "ipv4", Status: []string{}, Entry: j.Origin.Entry, Place: j.Origin.Place.String(),
		From: j.From, To: j.To, Timeout: int64(f.Timeout.Seconds()), Mark: f.Mark, ConntrackZone: f.Zone, ID: f.ID, Helper: f.Helper,
		Before: endsOf(f.Protocol, f.Original.Source, f.Original.SourcePort, f.Original.Destination, f.Original.DestinationPort, f.Original.ICMPID),
		After:  endsOf(f.Protocol, f.Reply.Destination, f.Reply.DestinationPort, f.Reply.Source, f.Reply.SourcePort, f.Reply.ICMPID),
	}
	if f.Family == conntrack.IPv6 {
		d.Family = "ipv6"
	}
	for i, word := range []string{"expected", "replied", "assured", "", "snat", "dnat"} {
		if word != "" && f.Status&(1<<i) != 0 {
			d.Status = append(d.Status, word)
		}
	}
	if f.Protocol == 1 || f.Protocol == 58 {
		d.ICMPType, d.ICMPCode = &f.Original.ICMPType, &f.Original.ICMPCode
	}
	if d.Entry == "" {
		d.Place = ""
	}
	if !f.Start.IsZero() {
		start, age := f.Start.UTC(), max(0, int64(now.Sub(f.Start)/time.Second))
		d.Start, d.Age = &start, &age
	}
	if f.Counted {
		sent, received := counterOfFlow(f.Sent), counterOfFlow(f.Received)
		d.Sent, d.Received = &sent, &received
	}
	if f.Master.Source.IsValid() {
		m := &f.Master
		d.Master = &flowDocumentEnd{"tcp", endsOf(6, m.Source, m.SourcePort, m.Destination, m.DestinationPort, 0)}
	}
	return d
}

// testFlows are connections of all kinds, with odd values among them.
func testFlows() (now time.Time, list []judgedFlow, words [][2]string) {
	now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	add := func(protocol, state string, f conntrack.Flow, j flows.Judgement) {
		list, words = append(list, judgedFlow{Flow: f, Judgement: j}), append(words, [2]string{protocol, state})
	}
	tuple := func(source, destination string) conntrack.Tuple {
		s, d := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
		return conntrack.Tuple{Source: s.Addr(), Destination: d.Addr(), SourcePort: s.Port(), DestinationPort: d.Port()}
	}
	masquerade := flows.Judgement{
		Origin: ruleset.Origin{Entry: "masquerade lan-wan", Place: ruleset.Place{File: "/etc/ipmasq/policy.yaml", Line: 6, Column: 5}}, From: "lan", To: "wan",
	}
	add("tcp", "established", conntrack.Flow{
		Family: conntrack.IPv4, Protocol: 6, State: conntrack.TCPEstablished, ID: 1, Timeout: 431999 * time.Second, Mark: 0x1f,
		Status:   conntrack.StatusSeenReply | conntrack.StatusAssured | conntrack.StatusConfirmed | conntrack.StatusSNAT,
		Original: tuple("192.168.1.10:4000", "198.51.100.1:443"), Reply: tuple("198.51.100.1:443", "203.0.113.7:4000"),
		Counted: true, Sent: conntrack.Counter{Packets: 10, Bytes: 1234}, Received: conntrack.Counter{Packets: 8, Bytes: 5_600_000},
		Start: now.Add(-(25*time.Hour + 1500*time.Millisecond)),
	}, masquerade)
	web := masquerade
	web.Origin.Entry, web.From, web.To = "port_forward web", "wan", "lan"
	add("tcp", "syn_sent2", conntrack.Flow{
		Family: conntrack.IPv6, Protocol: 6, State: conntrack.TCPSynSent2, ID: math.MaxUint32, Timeout: 59 * time.Second, Zone: 7,
		Status:   conntrack.StatusDNAT | conntrack.StatusSNAT,
		Original: tuple("[2001:db8:9::1]:1", "[2001:db8::1]:80"), Reply: tuple("[fd00::10]:8080", "[fd00::1]:65535"),
		Counted: true, Sent: conntrack.Counter{Packets: math.MaxUint64, Bytes: math.MaxUint64}, Start: now.Add(time.Hour),
	}, web)
	add("udp", "", conntrack.Flow{
		Family: conntrack.IPv4, Protocol: 17, ID: 3, Helper: "tftp",
		Status:   conntrack.StatusExpected | conntrack.StatusSeenReply,
		Original: tuple("192.0.2.1:53", "192.0.2.2:5353"), Reply: tuple("192.0.2.2:5353", "192.0.2.1:53"),
		Master: tuple("192.0.2.9:1000", "192.0.2.2:21"), MasterProtocol: 6,
	}, flows.Judgement{})
	ping := conntrack.Flow{Family: conntrack.IPv4, Protocol: 1, ID: 4, Timeout: 29 * time.Second, Original: tuple("10.0.0.1:0", "10.0.0.2:0"), Reply: tuple("10.0.0.2:0", "10.0.0.1:0")}
	ping.Original.ICMPType, ping.Original.ICMPID, ping.Reply.ICMPID = 8, 77, 78
	add("icmp", "", ping, flows.Judgement{To: "gateway"})
	add("sctp", "heartbeat_sent", conntrack.Flow{
		Family: conntrack.IPv4, Protocol: 132, State: 8, Original: tuple("10.0.0.1:9", "10.0.0.2:9"), Reply: tuple("10.0.0.2:9", "10.0.0.1:9"),
	}, flows.Judgement{Origin: ruleset.Origin{Entry: "forward \"<&>\"\x00\u2028\xff\\", Place: ruleset.Place{File: "a \"b\"<.yaml", Line: 1, Column: 2}}, From: "é"})
	add("253", "", conntrack.Flow{Family: conntrack.IPv4, Protocol: 253}, flows.Judgement{})
	add("tcp", "77", conntrack.Flow{Family: conntrack.IPv4, Protocol: 6, State: 77}, flows.Judgement{})
	return now, list, words
}

// The encoder writes what encoding/json makes of the documented fields.
func TestFlowJSON(t *testing.T) {
	now, list, words := testFlows()
	// One encoder remembers what many have in common, and every kind of flow
	// comes to it after every other.
	one, bare := flowEncoder{now: now}, flowEncoder{now: now, bare: true, ended: true}
	for range 2 {
		for i := range list {
			for k := range list {
				for _, x := range []int{i, k} {
					f, j := &list[x].Flow, &list[x].Judgement
					fresh, freshBare := flowEncoder{now: now}, flowEncoder{now: now, bare: true, ended: true}
					if got, want := string(one.append(nil, f, j)), string(fresh.append(nil, f, j)); got != want {
						t.Errorf("flow %d after others:\n%s\nwant\n%s", x, got, want)
					}
					if got, want := string(bare.append(nil, f, j)), string(freshBare.append(nil, f, j)); got != want {
						t.Errorf("flow %d, bare, after others:\n%s\nwant\n%s", x, got, want)
					}
				}
			}
		}
	}
	for i := range list {
		f, j := &list[i].Flow, &list[i].Judgement
		want, err := json.Marshal(documentOf(f, j, now, words[i][0], words[i][1]))
		if err != nil {
			t.Fatal(err)
		}
		e := flowEncoder{now: now}
		if got := string(e.append(nil, f, j)); got != string(want) {
			t.Errorf("flow %d:\n%s\nwant\n%s", i, got, want)
		}
	}
}

// printed is what connections list prints of connections.
func printed(t *testing.T, format string, now time.Time, list []judgedFlow) string {
	t.Helper()
	var b bytes.Buffer
	l := newFlowList(&b, format, now)
	for i := range list {
		l.print(&list[i].Flow, &list[i].Judgement)
	}
	if err := l.end(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// All formats hold the same, for no connection too.
func TestFlowListFormats(t *testing.T) {
	now, all, _ := testFlows()
	for _, list := range [][]judgedFlow{all, all[:1], nil} {
		var fromJSON, fromYAML map[string]any
		if err := json.Unmarshal([]byte(printed(t, "json", now, list)), &fromJSON); err != nil {
			t.Fatal(err)
		}
		if n := len(fromJSON["connections"].([]any)); n != len(list) {
			t.Errorf("%d connections, want %d", n, len(list))
		}
		if err := yaml.Unmarshal([]byte(printed(t, "yaml", now, list)), &fromYAML); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(fromYAML)
		if err != nil {
			t.Fatal(err)
		}
		var yamlAsJSON map[string]any
		if err := json.Unmarshal(again, &yamlAsJSON); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fromJSON, yamlAsJSON); diff != "" {
			t.Errorf("JSON (-) and YAML (+) differ:\n%s", diff)
		}
		var stream []any
		for line := range strings.Lines(printed(t, "stream", now, list)) {
			var one map[string]any
			if err := json.Unmarshal([]byte(line), &one); err != nil {
				t.Fatal(err)
			}
			if one["format_version"] != 1.0 {
				t.Errorf("format_version is %v", one["format_version"])
			}
			delete(one, "format_version")
			stream = append(stream, one)
		}
		if diff := cmp.Diff(fromJSON["connections"], stream, equalEmpty); diff != "" {
			t.Errorf("JSON (-) and the stream (+) differ:\n%s", diff)
		}
	}
}

var equalEmpty = cmp.FilterValues(func(a, b any) bool { return isEmptyList(a) && isEmptyList(b) }, cmp.Ignore())

func isEmptyList(x any) bool {
	l, ok := x.([]any)
	return ok && len(l) == 0
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 61 * time.Second: "1m1s", 2*time.Hour + 59*time.Second: "2h",
		432000 * time.Second: "5d", 25 * time.Hour: "1d1h",
	} {
		if got := string(appendDuration(nil, d)); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// A list that is sorted with a limit is the beginning of one without.
func TestSorted(t *testing.T) {
	_, list, _ := testFlows()
	list = slices.Concat(list, list, list)
	for i := range list {
		list[i].Timeout = time.Duration(i*7%11) * time.Second
	}
	for _, by := range sortWords() {
		for _, reverse := range []bool{false, true} {
			order, err := readOrder(by, reverse)
			if err != nil {
				t.Fatal(err)
			}
			places := func(limit int) (out []int) {
				k := firsts{order: order, limit: limit}
				for i := range list {
					k.add(&list[i].Flow, &list[i].Judgement)
				}
				for _, f := range k.sorted() {
					out = append(out, f.place)
				}
				return out
			}
			all := places(0)
			for _, limit := range []int{1, 5, len(list), 100} {
				if got, want := places(limit), all[:min(limit, len(list))]; !slices.Equal(got, want) {
					t.Errorf("%s, reverse %v, limit %d: %v, want %v", by, reverse, limit, got, want)
				}
			}
		}
	}
}

func TestAppendIPv4(t *testing.T) {
	for i := range 256 {
		a := [4]byte{byte(i), byte(i * 7), byte(255 - i), byte(i * 13)}
		if got, want := string(appendIPv4(nil, a)), netip.AddrFrom4(a).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func BenchmarkFlowJSON(b *testing.B) {
	now, list, _ := testFlows()
	e := flowEncoder{now: now}
	buffer := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buffer = e.append(buffer[:0], &list[0].Flow, &list[0].Judgement)
	}
}

func BenchmarkFlowTable(b *testing.B) {
	now, list, _ := testFlows()
	t := newFlowTable(false, now)
	buffer := t.end(make([]byte, 0, 4096))
	b.ReportAllocs()
	for b.Loop() {
		buffer = t.append(buffer[:0], &list[0].Flow, &list[0].Judgement)
	}
}
