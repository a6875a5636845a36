package flows_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// many makes flows as a home gateway has them: most masqueraded, some forwarded
// by a port, some within, some of the gateway itself.
func many(n int) []conntrack.Flow {
	r := rand.New(rand.NewPCG(1, 2))
	outside := func() netip.Addr {
		return netip.AddrFrom4([4]byte{byte(1 + r.IntN(100)), byte(r.Uint32()), byte(r.Uint32()), byte(1 + r.IntN(250))})
	}
	lan := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, byte(2 + r.IntN(100))}) }
	uplink := netip.MustParseAddr("203.0.113.1")
	list := make([]conntrack.Flow, n)
	for i := range list {
		port, from := uint16(443), uint16(1024+r.IntN(60000))
		src, dst := lan(), outside()
		newSrc, newDst := uplink, dst
		switch r.IntN(10) {
		case 0:
			src, dst, port = outside(), uplink, 80
			newSrc, newDst = src, netip.MustParseAddr("192.168.2.10")
		case 1:
			dst, port = netip.MustParseAddr("192.168.2.77"), 22
			newSrc, newDst = src, dst
		case 2:
			src, newSrc = uplink, uplink
		}
		list[i] = conntrack.Flow{
			Family: conntrack.IPv4, Protocol: 6,
			Original: conntrack.Tuple{Source: src, SourcePort: from, Destination: dst, DestinationPort: port},
			Reply:    conntrack.Tuple{Source: newDst, SourcePort: port, Destination: newSrc, DestinationPort: from},
		}
	}
	return list
}

// TestAllocations has nothing allocated for a flow once its way is known.
func TestAllocations(t *testing.T) {
	j, list := judgeOn(t, gateway(), home), many(500)
	for name, judge := range map[string]func(*conntrack.Flow) flows.Judgement{"each by itself": j.Unclassified, "by class": j.Judge} {
		all := func() {
			for i := range list {
				judge(&list[i])
			}
		}
		if name == "by class" && !j.Classify() {
			t.Error("there are no classes")
		}
		all()
		if n := testing.AllocsPerRun(3, all); n != 0 {
			t.Errorf("%s: %v allocations for %d flows", name, n, len(list))
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	j, list := judgeOn(b, gateway(), home), many(1<<16)
	for i := range list {
		if got := j.Judge(&list[i]); !got.Fits || got.Foreign {
			b.Fatalf("%s: %s", list[i], judged(got))
		}
	}
	b.Run("by-class", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			j.Judge(&list[i%len(list)])
		}
	})
	b.Run("by-itself", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			j.Unclassified(&list[i%len(list)])
		}
	})
	b.Run("classify", func(b *testing.B) {
		for b.Loop() {
			j.Classify()
		}
	})
}

// forwards writes n port forwards, with ranges, each from an address of its own.
func forwards(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nzones:\n  lan: {interfaces: [eth1, eth2], networks: [10.0.0.0/8, 192.168.0.0/16]}\n  wan: {interfaces: [eth0]}\nport_forward:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: f%d, from: wan, protocol: tcp, ports: %d-%d, address: 198.18.%d.%d, to: 192.168.%d.%d}\n",
			i, 1000+i%50*3, 1001+i%50*3, i/50>>8, i/50&0xff, i>>8&0xff, i&0xff)
	}
	return b.String()
}

func BenchmarkForwards(b *testing.B) {
	const n = 100_000
	p, err := policy.Parse("policy.yaml", []byte(forwards(n)))
	if err != nil {
		b.Fatal(err)
	}
	f := gateway()
	r, err := compile.Compile(p, compileFacts(f))
	if err != nil {
		b.Fatal(err)
	}
	routes := routesOf(f)
	uplink := netip.MustParsePrefix("198.18.0.0/16")
	routes.local = append(routes.local, uplink)
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			flows.NewJudge(r.Ruleset, p, f, routes)
		}
	})
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			j := flows.NewJudge(r.Ruleset, p, f, routes)
			j.Judge(flow(b, "tcp 8.8.8.8:4000 > 198.18.0.0:1000 -> 8.8.8.8:4000 > 192.168.0.0:1000"))
		}
	})
	b.Run("judge", func(b *testing.B) {
		j := flows.NewJudge(r.Ruleset, p, f, routes)
		x := flow(b, "tcp 8.8.8.8:4000 > 198.18.0.0:1000 -> 8.8.8.8:4000 > 192.168.0.0:1000")
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i*7919 + 1) % n
			port := uint16(1000 + i%50*3)
			x.Original.Destination, x.Original.DestinationPort = netip.AddrFrom4([4]byte{198, 18, byte(i / 50 >> 8), byte(i / 50)}), port
			x.Reply.Source, x.Reply.SourcePort = netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), port
			if got := j.Judge(x); !got.Ours {
				b.Fatal(x.String(), judged(got))
			}
		}
	})
}
