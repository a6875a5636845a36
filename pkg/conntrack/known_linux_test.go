package conntrack

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the table keeps of a connection is enough to name it.
func TestKnownNames(t *testing.T) {
	a4, b4, c4 := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.7")
	a6, b6 := netip.MustParseAddr("fd00::10"), netip.MustParseAddr("2001:db8::1")
	flows := []Flow{
		{Family: IPv4, Protocol: ProtocolTCP, ID: 1, Status: StatusConfirmed | StatusSNAT,
			Original: Tuple{Source: a4, Destination: b4, SourcePort: 4000, DestinationPort: 443},
			Reply:    Tuple{Source: b4, Destination: c4, SourcePort: 443, DestinationPort: 4000}},
		{Family: IPv4, Protocol: ProtocolTCP, ID: 2, Status: StatusConfirmed | StatusSNAT, // of the port alone
			Original: Tuple{Source: a4, Destination: b4, SourcePort: 4000, DestinationPort: 443},
			Reply:    Tuple{Source: b4, Destination: a4, SourcePort: 443, DestinationPort: 4001}},
		{Family: IPv4, Protocol: ProtocolUDP, ID: 1, Status: StatusConfirmed | StatusDNAT, Zone: 7,
			Original: Tuple{Source: a4, Destination: b4, SourcePort: 4000, DestinationPort: 443},
			Reply:    Tuple{Source: c4, Destination: a4, SourcePort: 8443, DestinationPort: 4000}},
		{Family: IPv4, Protocol: ProtocolICMP, ID: 3, Status: StatusConfirmed | StatusSNAT,
			Original: Tuple{Source: a4, Destination: b4, ICMPID: 77, ICMPType: 8, Zone: 9},
			Reply:    Tuple{Source: b4, Destination: a4, ICMPID: 78}},
		{Family: IPv6, Protocol: ProtocolICMPv6, ID: 3, Status: StatusConfirmed,
			Original: Tuple{Source: a6, Destination: b6, ICMPID: 77, ICMPType: 128, ICMPCode: 1},
			Reply:    Tuple{Source: b6, Destination: a6, ICMPID: 77, ICMPType: 129, Zone: 8}},
		{Family: IPv6, Protocol: 50, ID: 0xffffffff, Status: StatusConfirmed,
			Original: Tuple{Source: a6, Destination: b6}, Reply: Tuple{Source: b6, Destination: a6}},
	}
	k := newKnown()
	for i := range flows {
		if r, ok := k.get(&flows[i]); ok {
			t.Errorf("%v is there already: %x", flows[i], r)
		}
		k.set(&flows[i], record(0).labelled(uint16(i)))
	}
	got := make([]Flow, len(flows))
	if err := k.each(func(f *Flow, r record) error { got[r.label()] = *f; return nil }); err != nil {
		t.Fatal(err)
	}
	address := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := cmp.Diff(flows, got, address); d != "" {
		t.Error(d)
	}
	mine := errors.New("mine")
	if err := k.each(func(*Flow, record) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	for i := range flows {
		k.remove(&flows[i])
	}
	if k.len() != 0 {
		t.Errorf("%d are left", k.len())
	}
}

// The parts of a record do not touch each other.
func TestRecord(t *testing.T) {
	when := time.Date(2247, 12, 31, 23, 59, 59, 999e6, time.UTC)
	for _, r := range []record{0, recordTold | recordDead | recordSeen | recordListed | recordFresh} {
		x := (r | beginning(when)).labelled(0xffff).labelled(0xabcd)
		if x.label() != 0xabcd || x.began() != when || x&(1<<recordLabel-1) != r {
			t.Errorf("%x: label %x, began %v", x, x.label(), x.began())
		}
		if y := x &^ (recordDead | recordFresh); y.label() != 0xabcd || y.began() != when || y.has(recordFresh) {
			t.Errorf("%x", y)
		}
	}
	if !record(0).began().IsZero() || beginning(time.Time{}) != 0 {
		t.Error("no time is one")
	}
}

// A million connections fit the memory that is promised, at the sizes where the
// map is least full too.
func TestKnownMemory(t *testing.T) {
	for _, c := range []struct {
		name string
		most float64
		of   func(i uint32) Flow
	}{
		{"IPv4", 105, func(i uint32) Flow { return numbered(IPv4, i) }},
		{"IPv6", 210, func(i uint32) Flow { return numbered(IPv6, i) }},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		k := newKnown()
		worst := 0.0
		for i := range uint32(200_000) {
			f := c.of(i)
			k.set(&f, recordTold)
			if n := k.len(); n%20_000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&after)
				worst = max(worst, float64(after.HeapAlloc-before.HeapAlloc)/float64(n))
			}
		}
		t.Logf("%s: at most %.0f bytes", c.name, worst)
		if worst > c.most {
			t.Errorf("%s: %.0f bytes for a connection", c.name, worst)
		}
		runtime.KeepAlive(k)
	}
}

func numbered(family Family, i uint32) Flow {
	a, b := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{198, 51, 100, 1})
	if family == IPv6 {
		a, b = netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), netip.MustParseAddr("2001:db8::1")
	}
	return Flow{Family: family, Protocol: ProtocolUDP, ID: i * 2654435761,
		Original: Tuple{Source: a, Destination: b, SourcePort: 4000, DestinationPort: 443},
		Reply:    Tuple{Source: b, Destination: a, SourcePort: 443, DestinationPort: 4000}}
}
