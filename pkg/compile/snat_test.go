package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// translation compiles a policy and gives what nat makes of new packets.
func translation(t *testing.T, text string) func(p packet) outcome {
	t.Helper()
	r, err := compile.Compile(parse(t, "policy.yaml", text), compile.Facts{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	w := newWalker(t, r.Ruleset)
	return func(p packet) outcome { return w.through("nat_postrouting", p) }
}

// shuffled gives n different numbers below most in any order.
func shuffled(r *rand.Rand, n, most int) []int { return r.Perm(most)[:n] }

// TestBlocks holds the ports of every host against the definition: host number
// i of ascending addresses has block i, through the pool as it is written.
func TestBlocks(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 42))
	for range 60 {
		v6 := r.IntN(2) == 1
		inside, public := "10.0.%d.%d", "203.0.113.%d"
		if v6 {
			inside, public = "fd00::%x:%x", "2001:db8::%x"
		}
		address := func(n int) string { return fmt.Sprintf(inside, n/256, n%256) }
		var hosts, written, pool []string
		numbers := shuffled(r, 1+r.IntN(40), 600)
		for _, n := range numbers {
			written = append(written, `"`+address(n)+`"`)
		}
		slices.Sort(numbers)
		for _, n := range numbers {
			hosts = append(hosts, address(n))
		}
		n, first := 1+r.IntN(500), 1+r.IntN(3000)
		perAddress := 1 + r.IntN(9)
		last := first + perAddress*n - 1 + r.IntN(n)
		for _, x := range shuffled(r, (len(hosts)+perAddress-1)/perAddress+r.IntN(3), 90) {
			pool = append(pool, fmt.Sprintf(public, x+1))
		}
		through := translation(t, fmt.Sprintf(`version: 1
zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
snat: {from: lan, to: wan, sources: [%s], addresses: ["%s"], outside_ports: %d-%d, ports_per_host: %d}
`, strings.Join(written, ", "), strings.Join(pool, `", "`), first, last, n))
		for i, host := range hosts {
			p := packet{iif: "eth1", oif: "ppp0", src: netip.MustParseAddr(host), dst: netip.MustParseAddr("198.51.100.1"), sport: uint16(r.Uint32()), dport: 80}
			if v6 {
				p.dst = netip.MustParseAddr("2001:db8:100::1")
			}
			want := netip.MustParseAddr(pool[i/perAddress])
			low := uint16(first + i%perAddress*n)
			for _, p.proto = range []uint8{6, 17, 132, 136} {
				if o := through(p); o.kind != ruleset.SNAT || o.target != want || o.highest != want || o.port != low || o.maxPort != low+uint16(n)-1 {
					t.Fatalf("host %d (%s): %+v, want %s:%d and %d more ports", i, host, o, want, low, n-1)
				}
			}
			for _, p.proto = range []uint8{1, 47, 58} {
				if o := through(p); o.kind != ruleset.SNAT || o.target != want || o.highest != want || o.port != p.dport {
					t.Fatalf("host %d (%s), protocol %d: %+v, want %s without ports", i, host, p.proto, o, want)
				}
			}
		}
	}
}

// TestReservedPorts holds what a source port may become: nothing reserved and
// nothing beyond outside_ports, and itself wherever its run is not short.
func TestReservedPorts(t *testing.T) {
	t.Parallel()
	const short = 32
	r := rand.New(rand.NewPCG(3, 9))
	for range 150 {
		first, last := 1, 65535
		more := ""
		if r.IntN(2) == 0 {
			first = 1 + r.IntN(60000)
			last = first + 200 + r.IntN(5000)
			more = fmt.Sprintf(", outside_ports: %d-%d", first, last)
		}
		reserved := map[int]bool{}
		var list []string
		at := first
		for range 1 + r.IntN(6) {
			at += 1 + r.IntN(90)
			end := at + r.IntN(3)
			list = append(list, fmt.Sprintf("%d-%d", at, end))
			for ; at <= end; at++ {
				reserved[at] = true
			}
		}
		through := translation(t, fmt.Sprintf(`version: 1
zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
snat: {from: lan, to: wan, addresses: 203.0.113.9%s}
gateway: {reserved_ports: [%s]}
`, more, strings.Join(list, ", ")))
		free := func(port int) bool {
			return port >= first && port <= last && !reserved[port]
		}
		// A run ends at what is not free, and where ports stop to be privileged.
		run := func(port int) int {
			n := 1
			for p := port; n < short && free(p-1) && (first > 1 || p != 1024); p-- {
				n++
			}
			for p := port; n < short && free(p+1) && (first > 1 || p != 1023); p++ {
				n++
			}
			return n
		}
		for range 200 {
			port := first - 20 + r.IntN(700)
			if port < 1 || port > 65535 {
				continue
			}
			p := packet{iif: "eth1", oif: "ppp0", src: netip.MustParseAddr("10.0.0.1"), dst: netip.MustParseAddr("198.51.100.1"), proto: 17, sport: uint16(port), dport: 53}
			o := through(p)
			if o.kind != ruleset.SNAT {
				t.Fatalf("%+v", o)
			}
			for x := range reserved {
				if int(o.port) <= x && x <= int(o.maxPort) || int(o.port) < first || int(o.maxPort) > last {
					t.Fatalf("reserved %v%s: port %d may become %d to %d", list, more, port, o.port, o.maxPort)
				}
			}
			kept := port >= int(o.port) && port <= int(o.maxPort)
			if free(port) && run(port) >= short && !kept {
				t.Fatalf("reserved %v%s: port %d becomes %d to %d", list, more, port, o.port, o.maxPort)
			}
		}
	}
}
