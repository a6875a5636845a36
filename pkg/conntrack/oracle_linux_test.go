package conntrack

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ipmasq/ipmasq/test/lab"
	other "github.com/ti-mo/conntrack"
)

// othersOn opens the connection tracking of a host by another library, which
// shares no line with ours.
func othersOn(t testing.TB, h *lab.Host) *other.Conn {
	t.Helper()
	var c *other.Conn
	if err := h.Do(func() (err error) { c, err = other.Dial(nil); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A table of all kinds of flows, some of packets and some created, is the same
// read by us and by another library.
func TestAnotherLibraryReadsTheSame(t *testing.T) {
	h := lab.New(t).Host("gateway")
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	h.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	h.Sysctl("net.netfilter.nf_conntrack_timestamp", "1")
	h.Feed(t, `add table inet x; add chain inet x y { type filter hook output priority -300; }
add rule inet x y tcp dport 81 ct zone set 7
add rule inet x y tcp dport 82 ct original zone set 8
add chain inet x z { type filter hook output priority 0; }
add rule inet x z ct mark set 0x12345678
add table inet n; add chain inet n o { type nat hook output priority -100; }
add rule inet n o udp dport 54 redirect to :53
`, "nft", "-f", "-")
	c, o := openOn(t, h), othersOn(t, h)
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		for _, port := range []string{":80", ":81", ":82"} {
			h.ServeTCP(host + port)
			if conn, err := h.DialTCP(lab.Patience, host+port); err != nil {
				t.Fatal(err)
			} else if err := conn.Echo(lab.Patience, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		h.ServeUDP(host + ":53")
		for _, port := range []string{":53", ":54"} {
			u, err := h.DialUDP(host + port)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			if _, err := u.Exchange(lab.Patience, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Ping(strings.Trim(host, "[]"), lab.Patience, lab.PingOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	sctp := flow(ProtocolSCTP, "192.168.1.10", "198.51.100.1")
	sctp.Original.SourcePort, sctp.Original.DestinationPort, sctp.State = 4000, 443, 4
	sctp.Reply = reverse(sctp.Original)
	create(t, c, sctp, "203.0.113.7", "")
	create(t, c, flow(50, "192.168.1.10", "198.51.100.1"), "", "")
	create(t, c, flow(ProtocolICMP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	hairpin := flow(ProtocolUDP, "192.168.1.11", "203.0.113.7")
	hairpin.Mark, hairpin.Zone = 0x12345678, 5
	create(t, c, hairpin, "192.168.1.1", "192.168.1.20")
	for _, ends := range [][2]string{{"192.168.1.10", "198.51.100.1"}, {"fd00::10", "2001:db8::1"}} {
		control := flow(ProtocolTCP, ends[0], ends[1])
		control.State, control.Helper = TCPEstablished, "ftp"
		create(t, c, control, "", "")
		data := flow(ProtocolTCP, ends[1], ends[0])
		data.Master, data.MasterProtocol, data.State, data.Original.SourcePort = control.Original, ProtocolTCP, TCPEstablished, 20
		data.Reply = reverse(data.Original)
		create(t, c, data, "", "")
		expect(t, c, control, data.Original)
	}

	theirs := func() []Flow {
		list, err := o.Dump(nil)
		if err != nil {
			t.Fatal(err)
		}
		var flows []Flow
		for i := range list {
			flows = append(flows, flowOf(&list[i]))
		}
		return sortedByID(flows)
	}
	// Flows may end their handshake, and be counted, between two readings.
	var want, got []Flow
	same := cmpopts.IgnoreFields(Flow{}, "Timeout")
	text := gocmp.Options{cmpopts.EquateComparable(Tuple{}), same}
	for until := time.Now().Add(lab.Patience); ; {
		want, got = theirs(), sortedByID(listed(t, c, Filter{}))
		if gocmp.Equal(want, got, text) {
			break
		}
		if again := theirs(); gocmp.Equal(want, again, text) || time.Now().After(until) {
			t.Fatalf("not the same (- theirs, + ours):\n%s", gocmp.Diff(want, got, text))
		}
	}
	seen := map[string]int{}
	for i := range got {
		f := &got[i]
		if d := f.Timeout - want[i].Timeout; d < -2*time.Second || d > 2*time.Second {
			t.Errorf("%v are left of %v, and the other library says %v", f.Timeout, f, want[i].Timeout)
		}
		for kind, is := range map[string]bool{
			"translated": f.SNAT() || f.DNAT(), "in a zone": f.Zone != 0, "in a zone in one direction": f.Original.Zone != 0,
			"marked": f.Mark == 0x12345678, "counted": f.Sent.Packets > 0 && f.Received.Bytes > 0, "announced": f.Master.Source.IsValid(),
			"with a helper": f.Helper == "ftp", "of IPv6": f.Family == IPv6, "of ICMP": f.Original.ICMPID != 0, "with a state": f.State != 0,
			"with a start": !f.Start.IsZero(), "of SCTP": f.Protocol == ProtocolSCTP && f.State == 4,
		} {
			if is {
				seen[kind]++
			}
		}
	}
	for kind, least := range map[string]int{"translated": 4, "in a zone": 3, "in a zone in one direction": 2, "marked": 3, "counted": 10,
		"announced": 2, "with a helper": 2, "of IPv6": 8, "of ICMP": 3, "with a state": 10, "with a start": 20, "of SCTP": 1} {
		if seen[kind] < least {
			t.Errorf("%d flows are %s, of %d", seen[kind], kind, len(got))
		}
	}
	sameExpectations(t, c, o)
	sameStatistics(t, c, o)
}

func sortedByID(flows []Flow) []Flow {
	slices.SortFunc(flows, func(a, b Flow) int { return cmp.Compare(a.ID, b.ID) })
	return flows
}

// flowOf is what the other library read, in our words.
func flowOf(x *other.Flow) Flow {
	f := Flow{
		Family: IPv4, Protocol: x.TupleOrig.Proto.Protocol, Original: tupleOf(&x.TupleOrig), Reply: tupleOf(&x.TupleReply),
		Status: Status(x.Status.Value), Mark: x.Mark, Timeout: time.Duration(x.Timeout) * time.Second, Zone: x.Zone, ID: x.ID,
		Sent:     Counter{x.CountersOrig.Packets, x.CountersOrig.Bytes},
		Received: Counter{x.CountersReply.Packets, x.CountersReply.Bytes},
		Counted:  true, // all are in this table, and the other library does not tell
		Start:    x.Timestamp.Start, Stop: x.Timestamp.Stop,
		Master: tupleOf(&x.TupleMaster), MasterProtocol: x.TupleMaster.Proto.Protocol, Helper: x.Helper.Name,
	}
	if x.TupleOrig.IP.IsIPv6() {
		f.Family = IPv6
	}
	switch {
	case x.ProtoInfo.TCP != nil:
		f.State = State(x.ProtoInfo.TCP.State)
	case x.ProtoInfo.SCTP != nil:
		f.State = State(x.ProtoInfo.SCTP.State)
	}
	return f
}

func tupleOf(x *other.Tuple) Tuple {
	return Tuple{
		Source: x.IP.SourceAddress, Destination: x.IP.DestinationAddress,
		SourcePort: x.Proto.SourcePort, DestinationPort: x.Proto.DestinationPort,
		ICMPType: x.Proto.ICMPType, ICMPCode: x.Proto.ICMPCode, ICMPID: x.Proto.ICMPID, Zone: x.Zone,
	}
}

func sameExpectations(t *testing.T, c *Conn, o *other.Conn) {
	t.Helper()
	list, err := o.DumpExpect()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []Expectation
	for i := range list {
		x := &list[i]
		e := Expectation{
			Family: IPv4, Protocol: x.Tuple.Proto.Protocol, Tuple: tupleOf(&x.Tuple), Mask: tupleOf(&x.Mask),
			Master: tupleOf(&x.TupleMaster), MasterProtocol: x.TupleMaster.Proto.Protocol, Timeout: time.Duration(x.Timeout) * time.Second,
			ID: x.ID, Helper: x.HelpName, Zone: x.Zone, Class: x.Class, Flags: ExpectationFlags(x.Flags),
			NAT: tupleOf(&x.NAT.Tuple), Translated: x.NAT.Tuple.IP.SourceAddress.IsValid(), Reply: x.NAT.Direction, Function: x.Function,
		}
		if x.Tuple.IP.IsIPv6() {
			e.Family = IPv6
		}
		want = append(want, e)
	}
	if err := c.Expectations(func(x *Expectation) bool { got = append(got, *x); return true }); err != nil {
		t.Fatal(err)
	}
	byID := cmpopts.SortSlices(func(a, b Expectation) bool { return a.ID < b.ID })
	options := gocmp.Options{cmpopts.EquateComparable(Tuple{}), cmpopts.IgnoreFields(Expectation{}, "Timeout"), byID}
	if diff := gocmp.Diff(want, got, options); diff != "" || len(got) != 2 {
		t.Errorf("%d expectations (- theirs, + ours):\n%s", len(got), diff)
	}
}

func sameStatistics(t *testing.T, c *Conn, o *other.Conn) {
	t.Helper()
	global, err := o.StatsGlobal()
	if err != nil {
		t.Fatal(err)
	}
	entries, limit, err := c.Count()
	if err != nil || entries != global.Entries || limit != global.MaxEntries || entries == 0 {
		t.Errorf("%d of %d, and the other library says %+v; %v", entries, limit, global, err)
	}
	processors, err := o.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var want Failures
	for _, p := range processors {
		want.Inserts += uint64(p.InsertFailed)
		want.Drops += uint64(p.Drop)
		want.EarlyDrops += uint64(p.EarlyDrop)
		want.Invalid += uint64(p.Invalid)
		want.Errors += uint64(p.Error)
		want.Found += uint64(p.Found)
		want.Restarts += uint64(p.SearchRestart)
	}
	got, err := c.Failures()
	got.Clashes, got.LongChains = 0, 0 // which the other library does not know
	if err != nil || got != want {
		t.Errorf("%+v, and the other library says %+v; %v", got, want, err)
	}
}
