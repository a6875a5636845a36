package conntrack

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// openOn opens the connection tracking of a host.
func openOn(t testing.TB, h *lab.Host) *Conn {
	t.Helper()
	var c *Conn
	if err := h.Do(func() (err error) { c, err = Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listed(t testing.TB, c *Conn, f Filter) []Flow {
	t.Helper()
	var flows []Flow
	if err := c.List(&f, func(f *Flow) bool { flows = append(flows, *f); return true }); err != nil {
		t.Fatal(err)
	}
	return flows
}

// Real packets, and what conntrack(8) makes of the same table.
func TestFieldsAsConntrackHasThem(t *testing.T) {
	h := lab.New(t).Host("gateway")
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("conntrack"))
	h.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	h.Sysctl("net.netfilter.nf_conntrack_timestamp", "1")
	h.Feed(t, `add table inet x; add chain inet x y { type filter hook output priority -300; }
add rule inet x y tcp dport 81 ct zone set 7
add rule inet x y tcp dport 82 ct original zone set 8
add chain inet x z { type filter hook output priority 0; }
add rule inet x z tcp dport 80 ct mark set 0x1234
`, "nft", "-f", "-")
	c := openOn(t, h)
	began := time.Now()
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
		u, err := h.DialUDP(host + ":53")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if _, err := u.Exchange(lab.Patience, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Ping(strings.Trim(host, "[]"), lab.Patience, lab.PingOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	sctp := flow(ProtocolSCTP, "192.168.1.10", "198.51.100.1")
	sctp.Original.SourcePort, sctp.Original.DestinationPort, sctp.State = 4000, 443, 4
	sctp.Reply = reverse(sctp.Original)
	create(t, c, sctp, "203.0.113.7", "")
	gre := flow(47, "192.168.1.10", "198.51.100.1")
	gre.Original.SourcePort, gre.Original.DestinationPort = 7, 8
	gre.Reply = reverse(gre.Original)
	create(t, c, gre, "", "")
	create(t, c, flow(50, "192.168.1.10", "198.51.100.1"), "", "")

	byID, flows := bothLists(t, h, c)
	if len(flows) != len(byID) || len(flows) != 15 {
		t.Fatalf("%d flows, and conntrack has %d:\n%v", len(flows), len(byID), byID)
	}
	protocols, zones, states := map[uint8]int{}, 0, map[State]int{}
	for i := range flows {
		f := &flows[i]
		line := byID[strconv.FormatUint(uint64(f.ID), 10)]
		left, _ := strconv.Atoi(strings.Fields(line)[2])
		if d := left - int(f.Timeout/time.Second); d < -2 || d > 2 {
			t.Errorf("%v are left, in %s", f.Timeout, line)
		}
		for _, want := range tokens(f) {
			if !strings.Contains(line, " "+want+" ") {
				t.Errorf("conntrack has no %q in %s\n%+v", want, line, f)
			}
		}
		if f.Start.Before(began.Add(-time.Second)) || f.Start.After(time.Now().Add(time.Second)) || !f.Stop.IsZero() || !f.Counted {
			t.Errorf("began %v, stopped %v, counted %v: %v", f.Start, f.Stop, f.Counted, f)
		}
		protocols[f.Protocol]++
		states[f.State]++
		if f.Zone != 0 || f.Original.Zone != 0 {
			zones++
		}
	}
	if zones != 4 || protocols[ProtocolTCP] != 8 || states[TCPEstablished] != 6 || states[TCPSynSent] != 2 || protocols[ProtocolICMP] != 1 || protocols[ProtocolICMPv6] != 1 || states[4] != 1 {
		t.Errorf("%d in zones, protocols %v, states %v", zones, protocols, states)
	}
	// What was seen is what goes away, whatever it is.
	if n, err := c.DeleteAll(flows); err != nil || n != len(flows) {
		t.Errorf("%d of %d deleted, %v", n, len(flows), err)
	}
	if left := listed(t, c, Filter{}); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// bothLists are conntrack's lines, by ID, and our flows, of a moment when
// nothing moved.
func bothLists(t testing.TB, h *lab.Host, c *Conn) (map[string]string, []Flow) {
	t.Helper()
	id, moving := regexp.MustCompile(` id=(\d+) *\n`), regexp.MustCompile(`(?m)^(\S+ +\d+) \d+|delta-time=\d+`)
	list := func() string {
		return h.Run(t, "conntrack", "-L", "-f", "ipv4", "-o", "id") + h.Run(t, "conntrack", "-L", "-f", "ipv6", "-o", "id")
	}
	before := list()
	for until := time.Now().Add(lab.Patience); ; {
		flows := listed(t, c, Filter{})
		after := list()
		if moving.ReplaceAllString(before, "$1") == moving.ReplaceAllString(after, "$1") {
			lines := map[string]string{}
			for l := range strings.Lines(after) {
				lines[id.FindStringSubmatch(l)[1]] = l
			}
			return lines, flows
		}
		if before = after; time.Now().After(until) {
			t.Fatalf("the table does not come to rest:\n%s", after)
		}
	}
}

// tokens are what conntrack(8) prints of a flow, in its words.
func tokens(f *Flow) []string {
	out := []string{
		strconv.Itoa(int(f.Protocol)),
		fmt.Sprintf("mark=%d", f.Mark),
	}
	side := func(t *Tuple, c Counter) {
		text := fmt.Sprintf("src=%s dst=%s ", t.Source, t.Destination)
		switch f.Protocol {
		case ProtocolICMP, ProtocolICMPv6:
			text += fmt.Sprintf("type=%d code=%d id=%d ", t.ICMPType, t.ICMPCode, t.ICMPID)
		case 47:
			text += fmt.Sprintf("srckey=0x%x dstkey=0x%x ", t.SourcePort, t.DestinationPort)
		case 50:
		default:
			text += fmt.Sprintf("sport=%d dport=%d ", t.SourcePort, t.DestinationPort)
		}
		if t.Zone != 0 {
			text += fmt.Sprintf("zone-orig=%d ", t.Zone)
		}
		out = append(out, text+fmt.Sprintf("packets=%d bytes=%d", c.Packets, c.Bytes))
	}
	side(&f.Original, f.Sent)
	side(&f.Reply, f.Received)
	if f.Zone != 0 {
		out = append(out, fmt.Sprintf("zone=%d", f.Zone))
	}
	if f.Status&StatusAssured != 0 {
		out = append(out, "[ASSURED]")
	}
	switch {
	case f.Protocol == ProtocolTCP && f.State == TCPEstablished, f.Protocol == ProtocolSCTP && f.State == 4:
		out = append(out, "ESTABLISHED")
	}
	return out
}

// A helper's connection, the one that it announced, and what it expects.
func TestHelperAndExpectations(t *testing.T) {
	c := open(t)
	for _, family := range []struct{ source, destination string }{{"192.168.1.10", "198.51.100.1"}, {"fd00::10", "2001:db8::1"}} {
		control := flow(ProtocolTCP, family.source, family.destination)
		control.State, control.Helper = TCPEstablished, "ftp"
		create(t, c, control, "", "")
		data := flow(ProtocolTCP, family.destination, family.source)
		data.Master, data.MasterProtocol, data.State, data.Original.SourcePort = control.Original, ProtocolTCP, TCPEstablished, 20
		data.Reply = reverse(data.Original)
		create(t, c, data, "", "")
		expect(t, c, control, data.Original)
		for _, f := range listed(t, c, Filter{Families: []Family{control.Family}}) {
			switch f.Original {
			case control.Original:
				if f.Helper != "ftp" || f.Master.Source.IsValid() {
					t.Errorf("got %+v", f)
				}
			case data.Original:
				if f.Helper != "" || f.Master != control.Original || f.MasterProtocol != ProtocolTCP || f.Status&StatusExpected == 0 {
					t.Errorf("got %+v", f)
				}
			default:
				t.Errorf("got %+v", f)
			}
		}
	}
	var got []Expectation
	if err := c.Expectations(func(x *Expectation) bool { got = append(got, *x); return true }); err != nil || len(got) != 2 {
		t.Fatalf("%d expectations, %v", len(got), err)
	}
	slices.SortFunc(got, func(a, b Expectation) int { return int(a.Family) - int(b.Family) })
	for i, family := range []Family{IPv4, IPv6} {
		x := got[i]
		source, destination, any := "192.168.1.10", "198.51.100.1", "0.0.0.0"
		if family == IPv6 {
			source, destination, any = "fd00::10", "2001:db8::1", "::"
		}
		if x.Family != family || x.Protocol != ProtocolTCP || x.Helper != "ftp" || x.Class != 0 || x.Zone != 0 || x.ID == 0 ||
			x.Flags != ExpectationPermanent || x.Timeout <= 200*time.Second || x.Timeout > 300*time.Second || x.MasterProtocol != ProtocolTCP {
			t.Errorf("got %+v", x)
		}
		if x.Tuple != (Tuple{Source: addr(destination), Destination: addr(source), DestinationPort: 443}) ||
			x.Master != (Tuple{Source: addr(source), Destination: addr(destination), SourcePort: 4000, DestinationPort: 443}) ||
			x.Mask.Source == addr(any) || x.Mask.SourcePort != 0 || x.Mask.DestinationPort != 0xffff {
			t.Errorf("got %+v", x)
		}
		if !x.Translated || !x.Reply || x.NAT.Source != addr(source) || x.NAT.SourcePort != 443 || x.Function != "nat-follow-master" {
			t.Errorf("got %+v", x)
		}
	}
	calls := 0
	if err := c.Expectations(func(*Expectation) bool { calls++; return false }); err != nil || calls != 1 {
		t.Errorf("after false yield was called %d times, %v", calls, err)
	}
}

// expect creates an expectation, from any port.
func expect(t testing.TB, c *Conn, master Flow, tuple Tuple) {
	t.Helper()
	mask := Tuple{Source: addr("255.255.255.255"), Destination: addr("255.255.255.255"), DestinationPort: 0xffff}
	if master.Family == IPv6 {
		mask.Source, mask.Destination = addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	tuple.SourcePort = 0
	r := &nfnetlink.Requests{}
	r.Message(unix.NFNL_SUBSYS_CTNETLINK_EXP<<8, unix.NLM_F_CREATE|unix.NLM_F_EXCL, protocolFamily(master.Family)) // IPCTNL_MSG_EXP_NEW
	encodeTuple(&r.Encoder, ctaExpectMaster, ProtocolTCP, &master.Original)
	encodeTuple(&r.Encoder, ctaExpectTuple, ProtocolTCP, &tuple)
	encodeTuple(&r.Encoder, ctaExpectMask, ProtocolTCP, &mask)
	r.Uint32(ctaExpectTimeout, 300)
	r.Uint32(ctaExpectFlags, uint32(ExpectationPermanent))
	r.String(ctaExpectFunction, "nat-follow-master")
	nat := r.Open(ctaExpectNAT)
	r.Uint32(ctaExpectNATDirection, 1)
	to := tuple
	to.Source, to.SourcePort = tuple.Destination, 443
	encodeTuple(&r.Encoder, ctaExpectNATTuple, ProtocolTCP, &to)
	r.Close(nat)
	var refused error
	if err := c.conn.Do(r, func(e *nfnetlink.Error) { refused = e }); err != nil || refused != nil {
		t.Fatalf("create an expectation: %v, %v", err, refused)
	}
}
