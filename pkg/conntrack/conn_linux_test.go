package conntrack

import (
	"errors"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// open locks the test to a thread in an empty network namespace and opens its
// connection tracking.
func open(t testing.TB) *Conn {
	t.Helper()
	lab.New(t) // or there is nowhere to test
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// flow is an untranslated connection, from port 4000 to port 443.
func flow(protocol uint8, source, destination string) Flow {
	f := Flow{Family: IPv4, Protocol: protocol, Timeout: time.Hour,
		Original: Tuple{Source: addr(source), Destination: addr(destination)}}
	if f.Original.Source.Is6() {
		f.Family = IPv6
	}
	switch protocol {
	case unix.IPPROTO_ICMP:
		f.Original.ICMPType, f.Original.ICMPID = 8, 77
	case unix.IPPROTO_ICMPV6:
		f.Original.ICMPType, f.Original.ICMPID = 128, 77
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		f.Original.SourcePort, f.Original.DestinationPort = 4000, 443
	}
	f.Reply = reverse(f.Original)
	return f
}

func reverse(t Tuple) Tuple {
	t.Source, t.Destination, t.SourcePort, t.DestinationPort = t.Destination, t.Source, t.DestinationPort, t.SourcePort
	switch t.ICMPType {
	case 8:
		t.ICMPType = 0
	case 128:
		t.ICMPType = 129
	}
	return t
}

// create puts an entry into the kernel's table which the kernel itself
// translates: source and destination are what it makes of them, or "".
func create(t testing.TB, c *Conn, f Flow, source, destination string) {
	t.Helper()
	attributes := []netfilter.Attribute{
		tupleAttribute(1, f, f.Original), // CTA_TUPLE_ORIG
		tupleAttribute(ctaTupleReply, f, f.Reply),
		number(7, netfilter.Uint32Bytes(uint32(f.Timeout/time.Second))), // CTA_TIMEOUT
		number(8, netfilter.Uint32Bytes(f.Mark)),                        // CTA_MARK
		number(ctaStatus, netfilter.Uint32Bytes(uint32(f.Status|StatusConfirmed)))}
	if f.Zone != 0 {
		attributes = append(attributes, number(ctaZone, netfilter.Uint16Bytes(f.Zone)))
	}
	if source != "" {
		attributes = append(attributes, translation(6, source)) // CTA_NAT_SRC
	}
	if destination != "" {
		attributes = append(attributes, translation(13, destination)) // CTA_NAT_DST
	}
	h := header(0, protocolFamily(f.Family)) // IPCTNL_MSG_CT_NEW
	h.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	request, err := netfilter.MarshalNetlink(h, attributes)
	if err == nil {
		_, err = c.conn.Query(request)
	}
	if err != nil {
		t.Fatalf("create %v: %v", f, err)
	}
}

func translation(kind uint16, to string) netfilter.Attribute {
	address := addr(to)
	lowest, highest := uint16(1), uint16(2) // CTA_NAT_V4_MINIP, MAXIP
	if address.Is6() {
		lowest, highest = 4, 5
	}
	return nested(kind, number(lowest, address.AsSlice()), number(highest, address.AsSlice()))
}

func translated(t testing.TB, c *Conn) []Flow {
	t.Helper()
	var flows []Flow
	if err := c.Translated(func(f Flow) bool { flows = append(flows, f); return true }); err != nil {
		t.Fatal(err)
	}
	return flows
}

func texts(flows []Flow) []string {
	var lines []string
	for _, f := range flows {
		lines = append(lines, f.String())
	}
	slices.Sort(lines)
	return lines
}

func TestTranslated(t *testing.T) {
	for _, way := range []struct {
		name string
		list func(*Conn, func(Flow) bool) error
	}{
		{"by size", (*Conn).Translated},
		{"the whole table", (*Conn).wholeTable},
		{"by status", func(c *Conn, yield func(Flow) bool) error { return c.byStatus(yield, statusFilter) }},
		{"by status, of a kernel that ignores filters", func(c *Conn, yield func(Flow) bool) error {
			return c.byStatus(yield, func(_, _ Status) []netfilter.Attribute { return nil })
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			c := open(t)
			translated := func(t testing.TB, c *Conn) (flows []Flow) {
				t.Helper()
				if err := way.list(c, func(f Flow) bool { flows = append(flows, f); return true }); err != nil {
					t.Fatal(err)
				}
				return flows
			}
			if flows := translated(t, c); len(flows) != 0 {
				t.Fatalf("an empty table holds %v", flows)
			}
			create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.9", "198.51.100.1"), "", "")
			create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
			create(t, c, flow(unix.IPPROTO_UDP, "198.51.100.2", "203.0.113.7"), "", "192.168.1.20")
			create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.11", "203.0.113.7"), "192.168.1.1", "192.168.1.20")
			create(t, c, flow(unix.IPPROTO_ICMP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
			create(t, c, flow(50, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
			create(t, c, flow(unix.IPPROTO_TCP, "fd00::10", "2001:db8::1"), "2001:db8::7", "")
			create(t, c, flow(unix.IPPROTO_ICMPV6, "fd00::10", "2001:db8::1"), "2001:db8::7", "")
			want := []string{
				"50 192.168.1.10 > 198.51.100.1 -> 203.0.113.7 > 198.51.100.1",
				"icmp 192.168.1.10 > 198.51.100.1 -> 203.0.113.7 > 198.51.100.1",
				"icmpv6 fd00::10 > 2001:db8::1 -> 2001:db8::7 > 2001:db8::1",
				"tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 > 198.51.100.1:443",
				"tcp [fd00::10]:4000 > [2001:db8::1]:443 -> [2001:db8::7]:4000 > [2001:db8::1]:443",
				"udp 192.168.1.11:4000 > 203.0.113.7:443 -> 192.168.1.1:4000 > 192.168.1.20:443",
				"udp 198.51.100.2:4000 > 203.0.113.7:443 -> 198.51.100.2:4000 > 192.168.1.20:443",
			}
			if got := texts(translated(t, c)); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			calls := 0
			if err := way.list(c, func(Flow) bool { calls++; return false }); err != nil || calls != 1 {
				t.Errorf("after false yield was called %d times, %v", calls, err)
			}
			// Deleting while listing, as a caller does.
			if err := way.list(c, func(f Flow) bool {
				if err := c.Delete(f); err != nil {
					t.Error(err)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if flows := translated(t, c); len(flows) != 0 {
				t.Errorf("left: %v", texts(flows))
			}
			if rest, err := c.entries(); err != nil || rest != 1 {
				t.Errorf("with the untranslated one there are %d, %v", rest, err)
			}
		})
	}
}

// The kernel must really leave out what the filter says; otherwise every apply
// on a busy gateway reads the whole table.
func TestKernelFiltersByStatus(t *testing.T) {
	c := open(t)
	create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.9", "198.51.100.1"), "", "")
	create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	entries := 0
	all := func(Status) bool { return true }
	if _, err := c.list(statusFilter(StatusSNAT, StatusSNAT), all, func(Flow) bool { entries++; return true }); err != nil {
		t.Fatal(err)
	}
	switch entries {
	case 2:
		t.Skip("this kernel (before 5.14) has no status filter")
	case 1:
	default:
		t.Errorf("%d entries", entries)
	}
}

func TestFlowFields(t *testing.T) {
	c := open(t)
	f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
	f.Mark, f.Zone, f.Status = 0x1234, 5, StatusSeenReply|StatusAssured
	create(t, c, f, "203.0.113.7", "")
	ping := flow(unix.IPPROTO_ICMP, "192.168.1.10", "198.51.100.1")
	create(t, c, ping, "203.0.113.7", "")
	flows := translated(t, c)
	slices.SortFunc(flows, func(a, b Flow) int { return int(b.Protocol) - int(a.Protocol) })
	if len(flows) != 2 {
		t.Fatalf("got %v", flows)
	}
	got := flows[0]
	if got.Family != IPv4 || got.Mark != 0x1234 || got.Zone != 5 || got.ID == 0 || !got.SNAT() || got.DNAT() ||
		got.Status&(StatusSeenReply|StatusAssured|StatusConfirmed) != StatusSeenReply|StatusAssured|StatusConfirmed ||
		got.Timeout <= 59*time.Minute || got.Timeout > time.Hour {
		t.Errorf("got %+v", got)
	}
	reply := Tuple{Source: addr("198.51.100.1"), SourcePort: 443, Destination: addr("203.0.113.7"), DestinationPort: 4000}
	if got.Original != f.Original || got.Reply != reply {
		t.Errorf("got %+v", got)
	}
	if p := flows[1]; p.Original.ICMPType != 8 || p.Original.ICMPID != 77 || p.Reply.ICMPType != 0 || p.Reply.ICMPID != 77 {
		t.Errorf("got %+v", p)
	}
}

func TestDeleteIsExact(t *testing.T) {
	c := open(t)
	f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
	otherZone := f
	otherZone.Zone = 5
	create(t, c, f, "203.0.113.7", "")
	create(t, c, otherZone, "203.0.113.8", "")
	flows := translated(t, c)
	i := slices.IndexFunc(flows, func(f Flow) bool { return f.Zone == 5 })
	if len(flows) != 2 || i < 0 {
		t.Fatalf("got %v", flows)
	}
	old := flows[i]
	for range 2 { // the second time it is absent
		if err := c.Delete(old); err != nil {
			t.Fatal(err)
		}
		if flows := translated(t, c); len(flows) != 1 || flows[0].Zone != 0 {
			t.Fatalf("left %v", flows)
		}
	}
	// The same addresses and ports under another policy, likely in the same
	// memory and so with the same ID: not what was listed.
	create(t, c, otherZone, "203.0.113.9", "")
	if err := c.Delete(old); err != nil {
		t.Fatal(err)
	}
	if flows := translated(t, c); len(flows) != 2 {
		t.Fatalf("the new connection was deleted in place of the old: %v", flows)
	}
}

func TestOneDirectionalZone(t *testing.T) {
	c := open(t)
	f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
	f.Original.Zone = 7
	create(t, c, f, "203.0.113.7", "")
	flows := translated(t, c)
	if len(flows) != 1 || flows[0].Original.Zone != 7 || flows[0].Reply.Zone != 0 || flows[0].Zone != 0 {
		t.Fatalf("got %+v", flows)
	}
	if err := c.Delete(flows[0]); err != nil {
		t.Fatal(err)
	}
	if flows := translated(t, c); len(flows) != 0 {
		t.Fatalf("left %v", flows)
	}
}

func TestWithoutCapability(t *testing.T) {
	c := open(t)
	f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&h, &none[0]); err != nil {
		t.Fatal(err)
	}
	listing := c.Translated(func(Flow) bool { return true })
	for _, c := range []struct {
		err  error
		want string
	}{
		{listing, "list translated connections: needs CAP_NET_ADMIN: "},
		{c.Delete(f), "delete connection udp 192.168.1.10:4000 > 198.51.100.1:443: needs CAP_NET_ADMIN: "},
	} {
		if !errors.Is(c.err, fs.ErrPermission) || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("got %v", c.err)
		}
	}
}

// The socket belongs to the namespace it was opened in, not to the thread.
func TestStaysInItsNamespace(t *testing.T) {
	c := open(t)
	create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if flows := translated(t, c); len(flows) != 1 {
		t.Errorf("got %v", flows)
	}
	elsewhere, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	if flows := translated(t, elsewhere); len(flows) != 0 {
		t.Errorf("another namespace holds %v", flows)
	}
}

// 5,000 connections, one in fifty of them translated.
func BenchmarkTranslated(b *testing.B) {
	c := open(b)
	for i := range 5000 {
		f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
		f.Original.SourcePort = uint16(10000 + i)
		f.Reply = reverse(f.Original)
		source := ""
		if i%50 == 0 {
			source = "203.0.113.7"
		}
		create(b, c, f, source, "")
	}
	for _, way := range []struct {
		name string
		list func(func(Flow) bool) error
	}{
		{"by size", c.Translated},
		{"by status", func(yield func(Flow) bool) error { return c.byStatus(yield, statusFilter) }},
		{"the whole table", c.wholeTable},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				count := 0
				if err := way.list(func(Flow) bool { count++; return true }); err != nil || count != 100 {
					b.Fatal(count, err)
				}
			}
		})
	}
}

// A gateway without connections, as on a first apply.
func BenchmarkTranslatedOfAnEmptyTable(b *testing.B) {
	c := open(b)
	for b.Loop() {
		if err := c.Translated(func(Flow) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}
