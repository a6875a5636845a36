package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Every part of a filter gives the same, however it is asked for: what Match
// says of the whole table, each connection once.
func TestFilter(t *testing.T) {
	c := open(t)
	for _, p := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, 50} {
		create(t, c, flow(p, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
		create(t, c, flow(p, "192.168.1.11", "198.51.100.1"), "", "")
		create(t, c, flow(p, "198.51.100.2", "203.0.113.7"), "", "192.168.1.20")
		create(t, c, flow(p, "192.168.1.11", "203.0.113.7"), "192.168.1.1", "192.168.1.20")
		create(t, c, flow(p, "203.0.113.7", "198.51.100.1"), "203.0.113.8", "")
		create(t, c, flow(p, "198.51.100.9", "198.51.100.2"), "198.51.100.2", "198.51.100.9")
	}
	for _, p := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6} {
		create(t, c, flow(p, "fd00::10", "2001:db8::1"), "2001:db8::7", "")
		create(t, c, flow(p, "fd00::11", "2001:db8::1"), "", "")
		create(t, c, flow(p, "2001:db8::1", "2001:db8::7"), "", "fd00::20")
	}
	marked := flow(unix.IPPROTO_UDP, "192.168.1.30", "198.51.100.1")
	marked.Mark, marked.Status, marked.Original.SourcePort = 0x1234, StatusAssured|StatusSeenReply, 4001
	marked.Reply = reverse(marked.Original)
	create(t, c, marked, "", "")
	syn := flow(unix.IPPROTO_TCP, "192.168.1.30", "198.51.100.1")
	syn.State = TCPSynSent
	create(t, c, syn, "", "")

	var all []Flow
	if err := c.List(&Filter{}, func(f *Flow) bool { all = append(all, *f); return true }); err != nil || len(all) != 35 {
		t.Fatalf("%d flows, %v", len(all), err)
	}
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	ports := func(low, high uint16) []PortRange { return []PortRange{{low, high}} }
	for _, x := range []struct {
		name   string
		filter Filter
		want   int
	}{
		{"IPv4", Filter{Families: []Family{IPv4}}, 26},
		{"IPv6", Filter{Families: []Family{IPv6}}, 9},
		{"both", Filter{Families: []Family{IPv6, IPv4}}, 35},
		{"a protocol", Filter{Protocols: []uint8{unix.IPPROTO_UDP}}, 10},
		{"a protocol of IPv4", Filter{Families: []Family{IPv4}, Protocols: []uint8{unix.IPPROTO_UDP}}, 7},
		{"two protocols", Filter{Protocols: []uint8{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}}, 9},
		{"a protocol without ports", Filter{Protocols: []uint8{50}}, 6},
		{"a source before", Filter{Sources: prefixes("192.168.1.10/32")}, 4},
		{"a source after", Filter{Sources: prefixes("192.168.1.1/32")}, 4},
		{"a source before and after", Filter{Sources: prefixes("203.0.113.7/32")}, 8},
		{"a source of IPv6", Filter{Sources: prefixes("fd00::10/128")}, 3},
		{"a source of IPv6 after", Filter{Sources: prefixes("2001:db8::7/128")}, 3},
		{"a source that is not there", Filter{Sources: prefixes("192.0.2.1/32")}, 0},
		{"a source of IPv6 that is not there", Filter{Sources: prefixes("2001:db8::99/128")}, 0},
		{"sources", Filter{Sources: prefixes("192.168.1.10/32", "fd00::10/128")}, 7},
		{"a prefix", Filter{Sources: prefixes("192.168.1.0/24")}, 14},
		{"a destination before", Filter{Destinations: prefixes("203.0.113.7/32")}, 8},
		{"a destination after", Filter{Destinations: prefixes("192.168.1.20/32")}, 8},
		{"a destination of IPv6 after", Filter{Destinations: prefixes("fd00::20/128")}, 3},
		{"source and destination", Filter{Sources: prefixes("192.168.1.1/32"), Destinations: prefixes("192.168.1.20/32")}, 4},
		{"source and destination of two families", Filter{Sources: prefixes("192.168.1.1/32"), Destinations: prefixes("fd00::20/128")}, 0},
		{"a source of the other family", Filter{Families: []Family{IPv6}, Sources: prefixes("192.168.1.10/32")}, 0},
		{"a source port", Filter{SourcePorts: ports(4001, 4001)}, 1},
		{"a source port of a protocol", Filter{Families: []Family{IPv4}, Protocols: []uint8{unix.IPPROTO_UDP}, SourcePorts: ports(4000, 4000)}, 6},
		{"a destination port of a protocol", Filter{Families: []Family{IPv6}, Protocols: []uint8{unix.IPPROTO_TCP}, DestinationPorts: ports(443, 443)}, 3},
		{"a destination port of none", Filter{Families: []Family{IPv4}, Protocols: []uint8{unix.IPPROTO_TCP}, DestinationPorts: ports(444, 444)}, 0},
		{"ports", Filter{SourcePorts: ports(4001, 5000), DestinationPorts: ports(1, 443)}, 1},
		{"a state", Filter{States: []State{TCPSynSent}}, 1},
		{"translated", Filter{Translated: true}, 26},
		{"translated, a source", Filter{Translated: true, Sources: prefixes("192.168.1.11/32")}, 4},
		{"source translated", Filter{Status: StatusSNAT, StatusMask: StatusSNAT}, 19},
		{"source not translated", Filter{StatusMask: StatusSNAT}, 16},
		{"source not translated, destination is", Filter{Translated: true, StatusMask: StatusSNAT}, 7},
		{"an untranslated source", Filter{StatusMask: StatusSNAT, Sources: prefixes("203.0.113.7/32")}, 0},
		{"assured", Filter{Status: StatusAssured, StatusMask: StatusAssured}, 1},
		{"mark", Filter{Mark: 0x1200, MarkMask: 0xff00}, 1},
		{"no mark", Filter{MarkMask: ^uint32(0)}, 34},
		{"what cannot be", Filter{Status: StatusAssured}, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			var want []string
			for i := range all {
				if x.filter.Match(&all[i]) {
					want = append(want, all[i].String())
				}
			}
			slices.Sort(want)
			if len(want) != x.want {
				t.Errorf("%d match, want %d: %q", len(want), x.want, want)
			}
			for _, way := range waysOf(&x.filter) {
				var got []Flow
				if err := way.list(c, func(f *Flow) bool { got = append(got, *f); return true }); err != nil {
					t.Errorf("%s: %v", way.name, err)
				} else if got := texts(got); !slices.Equal(got, want) {
					t.Errorf("%s: got\n%q, want\n%q", way.name, got, want)
				}
			}
		})
	}
}
