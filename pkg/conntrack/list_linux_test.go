package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/flood"
	"golang.org/x/sys/unix"
)

// many fills the table with UDP from 192.168.x.y; every other source is
// translated.
func many(t testing.TB, c *Conn, n int) {
	t.Helper()
	if _, limit, err := c.Count(); err != nil || limit > 0 && limit < uint32(n) {
		t.Skipf("the table of this machine has room for %d entries, and the test needs %d (%v)", limit, n, err)
	}
	err := flood.Fill(n, func(i int, e *flood.Entry) {
		e.Protocol = unix.IPPROTO_UDP
		e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(i / 1000), 1}), uint16(1024+i%1000))
		e.Destination = netip.MustParseAddrPort("198.51.100.1:53")
		if i%2 == 0 {
			e.SNAT = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 1000)}), 0)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A table that is larger than what is in memory comes whole and once, and the
// kernel filters it.
func TestListOfMany(t *testing.T) {
	c := open(t)
	const n = worthHalving
	many(t, c, n)
	if entries, limit, err := c.Count(); err != nil || entries != n || limit < n {
		t.Errorf("%d entries of %d, %v", entries, limit, err)
	}
	for _, x := range []struct {
		filter Filter
		want   int
	}{
		{Filter{}, n},
		{Filter{Translated: true}, n / 2},
		{Filter{Families: []Family{IPv6}}, 0},
		{Filter{Sources: []netip.Prefix{netip.MustParsePrefix("192.168.7.1/32")}}, 1000},
		{Filter{Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}, 500},
		{Filter{Sources: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/21")}}, 8000},
	} {
		seen := map[string]bool{}
		for _, f := range listed(t, c, x.filter) {
			seen[f.String()] = true
		}
		if len(seen) != x.want {
			t.Errorf("%+v: %d flows, want %d", x.filter, len(seen), x.want)
		}
	}
	// What is left unread does not get into the next list, or in its way.
	for range 3 {
		calls := 0
		if err := c.List(&Filter{}, func(*Flow) bool { calls++; return false }); err != nil || calls != 1 {
			t.Errorf("after false yield was called %d times, %v", calls, err)
		}
	}
	if got := len(listed(t, c, Filter{Translated: true})); got != n/2 {
		t.Errorf("%d flows after lists that were not read to the end, want %d", got, n/2)
	}
	// What is being listed can be deleted, however far the list is ahead.
	var batch []Flow
	deleted := 0
	err := c.List(&Filter{Translated: true}, func(f *Flow) bool {
		if batch = append(batch, *f); len(batch) == 300 {
			k, err := c.DeleteAll(batch)
			if err != nil {
				t.Fatal(err)
			}
			deleted, batch = deleted+k, batch[:0]
		}
		return true
	})
	k, err2 := c.DeleteAll(batch)
	if err := errors.Join(err, err2); err != nil || deleted+k != n/2 {
		t.Errorf("%d deleted, want %d, %v", deleted+k, n/2, err)
	}
	if entries, _, err := c.Count(); err != nil || entries != n/2 {
		t.Errorf("%d are left, want %d, %v", entries, n/2, err)
	}
}

func TestListWithinList(t *testing.T) {
	c := open(t)
	many(t, c, 10)
	calls := 0
	err := c.List(&Filter{}, func(*Flow) bool {
		calls++
		if err := c.List(&Filter{}, func(*Flow) bool { return true }); !errors.Is(err, errListing) {
			t.Errorf("got %v", err)
		}
		return true
	})
	if err != nil || calls != 10 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestDeleteAll(t *testing.T) {
	c := open(t)
	const n = 10_000
	many(t, c, n)
	flows := listed(t, c, Filter{})
	// A third is gone, and another third by now others with the same tuples.
	gone := flows[:n/3]
	if k, err := c.DeleteAll(gone); err != nil || k != len(gone) {
		t.Fatalf("%d deleted, %v", k, err)
	}
	successors := slices.Clone(flows[n/3 : n/3*2])
	for i := range successors {
		successors[i].ID++
	}
	if k, err := c.DeleteAll(successors); err != nil || k != 0 {
		t.Errorf("%d were deleted that were not meant, %v", k, err)
	}
	if k, err := c.DeleteAll(flows); err != nil || k != n-len(gone) {
		t.Errorf("%d deleted, want %d, %v", k, n-len(gone), err)
	}
	if k, err := c.DeleteAll(nil); err != nil || k != 0 {
		t.Errorf("%d of none, %v", k, err)
	}
	if entries, _, err := c.Count(); err != nil || entries != 0 {
		t.Errorf("%d are left, %v", entries, err)
	}
	// One that the kernel cannot understand does not keep the others.
	many(t, c, 3)
	flows = listed(t, c, Filter{})
	flows[1].Family = IPv6
	if k, err := c.DeleteAll(flows); err == nil || k != 2 {
		t.Errorf("%d deleted, %v", k, err)
	}
}

// What the kernel is asked of each filter; nothing that it gets wrong.
func TestQuestions(t *testing.T) {
	in := []netip.Prefix{netip.MustParsePrefix("192.168.1.10/32")}
	in6 := []netip.Prefix{netip.MustParsePrefix("fd00::10/128")}
	a := in[0].Addr()
	tcp, https := []uint8{ProtocolTCP}, []PortRange{{443, 443}}
	for _, x := range []struct {
		name string
		f    Filter
		want []question
	}{
		{"all", Filter{}, []question{{}}},
		{"a source", Filter{Sources: in, Protocols: tcp, Mark: 1, MarkMask: 3}, []question{
			{family: IPv4, protocol: ProtocolTCP, mark: 1, markMask: 3, original: ends{source: a}},
			{family: IPv4, protocol: ProtocolTCP, mark: 1, markMask: 3, status: StatusSNAT, statusMask: StatusSNAT, reply: ends{destination: a}},
		}},
		{"a source that is not translated", Filter{Sources: in, StatusMask: StatusSNAT}, []question{
			{family: IPv4, statusMask: StatusSNAT, original: ends{source: a}},
		}},
		{"a destination", Filter{Destinations: in}, []question{
			{family: IPv4, original: ends{destination: a}},
			{family: IPv4, status: StatusDNAT, statusMask: StatusDNAT, reply: ends{source: a}},
		}},
		{"a source of IPv6", Filter{Sources: in6}, []question{{family: IPv6}}},
		{"of both families", Filter{Sources: in, Destinations: in6}, nil},
		{"translated", Filter{Translated: true}, []question{
			{status: StatusSNAT, statusMask: StatusSNAT},
			{status: StatusDNAT, statusMask: StatusSNAT | StatusDNAT},
		}},
		{"a port", Filter{Families: []Family{IPv6}, Protocols: tcp, DestinationPorts: https}, []question{
			{family: IPv6, protocol: ProtocolTCP, original: ends{destinationPort: 443}},
			{family: IPv6, protocol: ProtocolTCP, status: StatusDNAT, statusMask: StatusDNAT, reply: ends{sourcePort: 443}},
		}},
		{"a port of any protocol", Filter{DestinationPorts: https}, []question{{}}},
		{"a protocol", Filter{Protocols: tcp}, []question{{family: IPv4, protocol: ProtocolTCP}, {family: IPv6, protocol: ProtocolTCP}}},
		{"a prefix", Filter{Sources: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}}, []question{{}}},
	} {
		if got := questions(&x.f, true, true); !slices.Equal(got, x.want) {
			t.Errorf("%s: asked %+v\nwant %+v", x.name, got, x.want)
		}
	}
	for release, want := range map[string]bool{"6.18.44-x": true, "5.16.0": true, "5.15.200": false, "4.19": false, "10.0": true, "": false} {
		if got := atLeast(release, 5, 16); got != want {
			t.Errorf("release %q: %v", release, got)
		}
	}
}

// Without the capability the answer is one, and at once, however much is asked.
func TestDeleteManyWithoutCapability(t *testing.T) {
	c := open(t)
	flows := make([]Flow, 1000)
	for i := range flows {
		flows[i] = flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends without its capabilities
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&h, &none[0]); err != nil {
			done <- err
			return
		}
		n, err := c.DeleteAll(flows)
		done <- fmt.Errorf("%d: %w", n, err)
	}()
	select {
	case err := <-done:
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
}

func BenchmarkList(b *testing.B) {
	c := open(b)
	const n = 100_000
	many(b, c, n)
	for _, x := range []struct {
		name   string
		filter Filter
		want   int
	}{
		{"all", Filter{}, n},
		{"translated", Filter{Translated: true}, n / 2},
		{"a source", Filter{Sources: []netip.Prefix{netip.MustParsePrefix("192.168.7.1/32")}}, 1000},
	} {
		b.Run(x.name, func(b *testing.B) {
			for b.Loop() {
				count := 0
				if err := c.List(&x.filter, func(*Flow) bool { count++; return true }); err != nil || count != x.want {
					b.Fatal(count, err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	var d decoder
	var f Flow
	m, _, err := nfnetlink.First(fromKernel(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !d.flow(m, &f) {
			b.Fatal("no flow")
		}
	}
}
