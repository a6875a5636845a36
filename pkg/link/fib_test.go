package link

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

type fibChance struct{ *rand.Rand }

func (r fibChance) pick(of ...string) string { return of[r.IntN(len(of))] }

// address is one of a small space, so that prefixes nest.
func (r fibChance) address(family Family) netip.Addr {
	if family == IPv4 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(4) * 85), byte(r.IntN(256))})
	}
	b := netip.MustParseAddr("2001:db8::").As16()
	b[5], b[7], b[15] = byte(r.IntN(3)), byte(r.IntN(4)*85), byte(r.IntN(4)*85)
	return netip.AddrFrom16(b)
}

func (r fibChance) prefix(family Family) netip.Prefix {
	a := r.address(family)
	bits := []int{1, 8, 9, 12, 16, 17, 20, 24, 25, 28, 31, 32}
	if family == IPv6 {
		bits = []int{3, 32, 40, 41, 48, 56, 63, 64, 65, 96, 120, 127, 128}
	}
	p := netip.PrefixFrom(a, bits[r.IntN(len(bits))]).Masked()
	if r.IntN(12) == 0 {
		p = netip.PrefixFrom(a, 0).Masked()
	}
	return p
}

// plainRules are those of a host that nobody has told otherwise.
func plainRules() []fibRule {
	look := func(priority, table int) fibRule {
		return fibRule{priority: priority, action: actLookup, tables: []int{table}, suppress: -1}
	}
	return []fibRule{look(0, localTable), look(32766, MainTable), look(32767, 253)}
}

// between puts a rule behind the one for the local table.
func between(r fibRule) []fibRule {
	r.action, r.suppress = actLookup, -1
	return slices.Insert(plainRules(), 1, r)
}

type fibRoute struct {
	table  int
	to     string
	kind   uint32
	metric uint32
	tos    bool
	by     string
}

func routesOf(rules []fibRule, list ...fibRoute) *Routes {
	f := newFIB(IPv4, rules)
	for _, r := range list {
		f.add(r.table, netip.MustParsePrefix(r.to), uint8(r.kind), r.metric, r.tos, strings.Fields(r.by))
	}
	return &Routes{ipv4: f.ranges4()}
}

// The best comes first, then the other metrics and hops of the prefix, then
// what rules lead to that may or may not apply.
func TestLeavesOrder(t *testing.T) {
	list := []fibRoute{
		{MainTable, "0.0.0.0/0", KindUnicast, 200, false, "wan1"},
		{MainTable, "0.0.0.0/0", KindUnicast, 100, false, "wan0"},
		{MainTable, "0.0.0.0/0", KindUnicast, 300, false, "wan2 wan0"},
		{MainTable, "0.0.0.0/0", KindUnicast, 50, true, "voice"},
		{MainTable, "0.0.0.0/0", KindUnreachable, 400, false, ""},
		{MainTable, "0.0.0.0/0", KindUnicast, 500, false, "never"},
		{MainTable, "10.0.0.0/8", KindUnicast, 0, false, "lan"},
		{MainTable, "10.9.0.0/16", KindBlackhole, 0, false, ""},
		{localTable, "10.0.0.1/32", KindLocal, 0, false, "lan"},
		{localTable, "10.255.255.255/32", KindBroadcast, 0, false, "lan"},
		{100, "0.0.0.0/0", KindUnicast, 0, false, "marked"},
		{100, "10.0.0.0/8", KindThrow, 0, false, ""},
		{101, "0.0.0.0/0", KindUnicast, 0, false, "forgotten"},
	}
	mark := fibRule{priority: 900, tables: []int{100}, asks: true}
	for _, c := range []struct {
		rules    []fibRule
		to, want string
	}{
		{plainRules(), "198.51.100.1", "wan0 wan1 wan2 voice"},
		{plainRules(), "10.1.1.1", "lan"},
		{plainRules(), "10.9.1.1", ""},
		{plainRules(), "10.0.0.1", ""},
		{plainRules(), "10.255.255.255", "lan"},
		{between(mark), "198.51.100.1", "wan0 wan1 wan2 marked voice"},
		{between(mark), "::ffff:10.1.1.1", "lan"},
		{between(mark), "10.0.0.1", ""},
		{between(fibRule{priority: 900, tables: []int{100}}), "198.51.100.1", "marked"},
		{between(fibRule{priority: 900, tables: []int{100}}), "10.1.1.1", "lan"},
		{between(fibRule{priority: 900, tables: []int{100}, to: netip.MustParsePrefix("198.51.100.0/24"), asks: true}), "198.51.100.1", "wan0 wan1 wan2 marked voice"},
		{between(fibRule{priority: 900, tables: []int{100}, to: netip.MustParsePrefix("198.51.100.0/24"), asks: true}), "198.51.101.1", "wan0 wan1 wan2 voice"},
		{between(fibRule{priority: 900, tables: []int{100}, to: netip.MustParsePrefix("198.51.100.0/24"), asks: true, invert: true}), "198.51.101.1", "marked"},
		{between(fibRule{priority: 900, tables: []int{100}, invert: true}), "198.51.101.1", "wan0 wan1 wan2 voice"},
	} {
		got := strings.Join(routesOf(c.rules, list...).Leaves(netip.MustParseAddr(c.to)), " ")
		if got != c.want {
			t.Errorf("%+v: %s leaves by %q, want %q", c.rules[1], c.to, got, c.want)
		}
	}
}

// An address of nothing, and routes that were never read.
func TestLeavesOfNothing(t *testing.T) {
	var never Routes
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")} {
		if never.Leaves(a) != nil || never.Local(a) || never.LocalOn(a, "lan") || never.Holds("lan", a) {
			t.Errorf("something is known of %s", a)
		}
	}
}

// Ranges against the plain way to look for the longest prefix.
func TestRanges(t *testing.T) {
	for seed := range uint64(50) {
		r := fibChance{rand.New(rand.NewPCG(seed, 1))}
		for _, family := range []Family{IPv4, IPv6} {
			f := newFIB(family, plainRules())
			longest := map[netip.Prefix]string{}
			for i := range 1 + r.IntN(400) {
				p := r.prefix(family)
				if _, there := longest[p]; !there {
					longest[p] = fmt.Sprint("l", i%7)
					f.add(MainTable, p, uint8(KindUnicast), 0, false, []string{longest[p]})
				}
			}
			var found Routes
			if family == IPv4 {
				found.ipv4 = f.ranges4()
			} else {
				found.ipv6 = f.ranges6()
			}
			for range 300 {
				a := r.address(family)
				var want []string
				for bits := a.BitLen(); bits >= 0 && want == nil; bits-- {
					p, err := a.Prefix(bits)
					if err != nil {
						t.Fatal(err)
					}
					if name, there := longest[p]; there {
						want = []string{name}
					}
				}
				if got := found.Leaves(a); !slices.Equal(got, want) {
					t.Fatalf("%d: %s leaves by %v, want %v", seed, a, got, want)
				}
			}
			for i, at := range f.ids {
				if i > 0 && at == f.ids[i-1] {
					t.Errorf("%d: two ranges for one answer", seed)
				}
			}
		}
	}
}

// A look-up allocates nothing.
func TestLeavesAllocates(t *testing.T) {
	r := routesOf(plainRules(), fibRoute{MainTable, "0.0.0.0/0", KindUnicast, 0, false, "wan0"})
	a := netip.MustParseAddr("198.51.100.1")
	if n := testing.AllocsPerRun(100, func() { r.Leaves(a); r.Kind(a); r.LocalOn(a, "wan0"); r.Holds("wan0", a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func million(family Family) (*fib, []netip.Addr) {
	f := newFIB(family, plainRules())
	r := rand.New(rand.NewPCG(1, 2))
	names := make([][]string, 64)
	for i := range names {
		names[i] = []string{fmt.Sprint("wan", i)}
	}
	ask := make([]netip.Addr, 0, 1<<16)
	for i := range 1_000_000 {
		var a netip.Addr
		bits := 24
		if family == IPv4 {
			a = netip.AddrFrom4([4]byte{byte(1 + r.IntN(220)), byte(r.IntN(256)), byte(r.IntN(256)), 1})
		} else {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), 1})
			bits = 56 + r.IntN(9)
		}
		p, _ := a.Prefix(bits)
		f.add(MainTable, p, uint8(KindUnicast), 0, false, names[r.IntN(len(names))])
		if i < cap(ask) {
			ask = append(ask, a)
		}
	}
	return f, ask
}

func BenchmarkLeaves(b *testing.B) {
	for _, family := range []Family{IPv4, IPv6} {
		f, ask := million(family)
		r := Routes{}
		if family == IPv4 {
			r.ipv4 = f.ranges4()
		} else {
			r.ipv6 = f.ranges6()
		}
		// Of few addresses it is the computing, of many the waiting for memory.
		for _, n := range []int{64, 1024, len(ask)} {
			b.Run(fmt.Sprintf("million/%s/%d", family, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					if len(r.Leaves(ask[i%n])) == 0 {
						b.Fatal("no way")
					}
				}
			})
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for range b.N {
		f, _ := million(IPv4)
		f.ranges4()
	}
}
