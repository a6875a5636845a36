package conntrack

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/lab"
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
	r := &nfnetlink.Requests{}
	r.Message(unix.NFNL_SUBSYS_CTNETLINK<<8, unix.NLM_F_CREATE|unix.NLM_F_EXCL, protocolFamily(f.Family)) // IPCTNL_MSG_CT_NEW
	encodeTuple(&r.Encoder, ctaTupleOriginal, f.Protocol, &f.Original)
	encodeTuple(&r.Encoder, ctaTupleReply, f.Protocol, &f.Reply)
	r.Uint32(ctaTimeout, uint32(f.Timeout/time.Second))
	r.Uint32(ctaMark, f.Mark)
	r.Uint32(ctaStatus, uint32(f.Status|StatusConfirmed))
	if f.Zone != 0 {
		r.Uint16(ctaZone, f.Zone)
	}
	if f.Protocol == ProtocolTCP || f.Protocol == ProtocolSCTP {
		info := r.Open(ctaProtocolInfo)
		kind := r.Open(map[uint8]uint16{ProtocolTCP: ctaProtocolInfoTCP, ProtocolSCTP: ctaProtocolInfoSCTP}[f.Protocol])
		r.Uint8(ctaInfoState, uint8(f.State))
		if f.Protocol == ProtocolSCTP { // and both verification tags
			r.Uint32(2, 1)
			r.Uint32(3, 1)
		}
		r.Close(kind)
		r.Close(info)
	}
	if f.Helper != "" {
		help := r.Open(ctaHelp)
		r.String(ctaHelpName, f.Helper)
		r.Close(help)
	}
	if f.Master.Source.IsValid() {
		encodeTuple(&r.Encoder, ctaTupleMaster, f.MasterProtocol, &f.Master)
	}
	encodeTranslation(r, 6, source)       // CTA_NAT_SRC
	encodeTranslation(r, 13, destination) // CTA_NAT_DST
	var refused error
	err := c.conn.Do(r, func(e *nfnetlink.Error) { refused = e })
	if err = errors.Join(err, refused); err != nil {
		t.Fatalf("create %v: %v", f, err)
	}
}

func encodeTranslation(r *nfnetlink.Requests, kind uint16, to string) {
	if to == "" {
		return
	}
	nat := r.Open(kind)
	encodeAddress(&r.Encoder, 1, 4, addr(to)) // CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP
	encodeAddress(&r.Encoder, 2, 5, addr(to))
	r.Close(nat)
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

// way is how a list can be made.
type way struct {
	name string
	list func(*Conn, func(*Flow) bool) error
}

// waysOf are all the ways to list what a filter allows: with the kernel's help
// and without, in one walk, in two, and in halves.
func waysOf(f *Filter) []way {
	var ways []way
	for _, two := range []bool{false, true} {
		for _, tuples := range []bool{false, true} {
			if tuples && !filtersTuples() {
				continue
			}
			for name, encode := range map[string]func(*question, *nfnetlink.Encoder){
				"of a kernel that filters": (*question).encode,
				"of one that does not":     func(*question, *nfnetlink.Encoder) {},
			} {
				ways = append(ways, way{
					name: fmt.Sprintf("two %v, tuples %v, %s", two, tuples, name),
					list: func(c *Conn, yield func(*Flow) bool) error {
						return c.list(questions(f, tuples, two), encode, f, yield)
					},
				})
				if two || !tuples {
					continue
				}
				ways = append(ways, way{"in halves, " + name, func(c *Conn, yield func(*Flow) bool) error {
					return c.list(halves(questions(f, tuples, two)), encode, f, yield)
				}})
			}
		}
	}
	return append(ways, way{"List", func(c *Conn, yield func(*Flow) bool) error { return c.List(f, yield) }})
}

func TestTranslated(t *testing.T) {
	ways := waysOf(&Filter{Translated: true})
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			c := open(t)
			translated := func(t testing.TB, c *Conn) (flows []Flow) {
				t.Helper()
				if err := way.list(c, func(f *Flow) bool { flows = append(flows, *f); return true }); err != nil {
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
				"esp 192.168.1.10 > 198.51.100.1 -> 203.0.113.7 > 198.51.100.1",
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
			if err := way.list(c, func(*Flow) bool { calls++; return false }); err != nil || calls != 1 {
				t.Errorf("after false yield was called %d times, %v", calls, err)
			}
			// Deleting while listing, as a caller does.
			if err := way.list(c, func(f *Flow) bool {
				if err := c.Delete(*f); err != nil {
					t.Error(err)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if flows := translated(t, c); len(flows) != 0 {
				t.Errorf("left: %v", texts(flows))
			}
			if rest, _, err := c.Count(); err != nil || rest != 1 {
				t.Errorf("with the untranslated one there are %d, %v", rest, err)
			}
		})
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
		{listing, "list connections: needs CAP_NET_ADMIN: "},
		{c.Delete(f), "delete connections: needs CAP_NET_ADMIN: "},
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

// A gateway without connections, as on a first apply.
func BenchmarkTranslatedOfAnEmptyTable(b *testing.B) {
	c := open(b)
	for b.Loop() {
		if err := c.Translated(func(Flow) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}
