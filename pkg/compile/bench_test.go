package compile_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// perMap is how many single ports the entries of these benchmarks have at
// most: TCP and UDP of one family.
const perMap = 2 * 65000

// manyForwards is a policy of n forwards in as many maps as are needed, each
// for an address of its own. Shuffled lines are in no order.
func manyForwards(tb testing.TB, n int, shuffled bool) *policy.Policy {
	tb.Helper()
	dir := tb.TempDir()
	var text bytes.Buffer
	text.WriteString("version: 1\nzones: {lan: {interfaces: eth1, networks: 10.0.0.0/8}, wan: {interfaces: ppp0}}\nport_forward:\n")
	for m := 0; m*perMap < n; m++ {
		lines := make([]string, min(perMap, n-m*perMap))
		for i := range lines {
			lines[i] = fmt.Sprintf("%s/%d 10.%d.%d.%d:%d\n", [2]string{"tcp", "udp"}[i/65000], i%65000+1, m, i>>8&255, i&255, 8000+i%1000)
		}
		if shuffled {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		}
		var file bytes.Buffer
		for _, l := range lines {
			file.WriteString(l)
		}
		name := fmt.Sprintf("m%d.txt", m)
		if err := os.WriteFile(filepath.Join(dir, name), file.Bytes(), 0o644); err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(&text, "  - {from: wan, map: {file: %s}", name)
		if m > 0 {
			fmt.Fprintf(&text, ", address: 192.0.2.%d", m)
		}
		text.WriteString("}\n")
	}
	return parse(tb, filepath.Join(dir, "policy.yaml"), text.String())
}

func parse(tb testing.TB, name, text string) *policy.Policy {
	tb.Helper()
	p, err := policy.Parse(name, []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func benchmark(b *testing.B, p *policy.Policy) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compile.Compile(p, compile.Facts{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMap(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmark(b, manyForwards(b, n, false)) })
	}
	b.Run("shuffled", func(b *testing.B) { benchmark(b, manyForwards(b, 100_000, true)) })
}

// BenchmarkEntries is for entries that meet in one port or one address: each
// must not be compared with every other.
func BenchmarkEntries(b *testing.B) {
	const head = "version: 1\nzones: {wan: {interfaces: ppp0}}\nport_forward:\n"
	entries := func(n int, rest func(i int) string) *policy.Policy {
		var text bytes.Buffer
		text.WriteString(head)
		for i := range n {
			fmt.Fprintf(&text, "  - {name: e%d, from: wan, protocol: tcp, to: 10.%d.%d.1, %s}\n", i, i>>8, i&255, rest(i))
		}
		return parse(b, "policy.yaml", text.String())
	}
	for name, rest := range map[string]func(i int) string{
		"ports":   func(i int) string { return fmt.Sprintf("ports: %d", i+1) },
		"address": func(i int) string { return fmt.Sprintf("ports: [80, 443], address: %s", addr(1<<24+uint32(i)*2)) },
		"sources": func(i int) string { return fmt.Sprintf("ports: [80, 443], sources: %s", addr(1<<24+uint32(i)*2)) },
	} {
		b.Run(name, func(b *testing.B) { benchmark(b, entries(10_000, rest)) })
	}
}

func BenchmarkSet(b *testing.B) {
	var file bytes.Buffer
	for i := range uint32(1_000_000) {
		fmt.Fprintln(&file, addr(1<<24+i*3))
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "set.txt"), file.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	benchmark(b, parse(b, filepath.Join(dir, "policy.yaml"),
		"version: 1\nsets: {bad: {file: set.txt}}\nzones: {wan: {interfaces: ppp0}}\nforward: {rules: [{from: wan, sources: '@bad', action: drop}]}\n"))
}

func BenchmarkRules(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}\nforward:\n  rules:\n")
	for i := range 5000 {
		fmt.Fprintf(&text, "    - {name: r%d, from: lan, to: wan, sources: 10.0.%d.%d, protocol: tcp, ports: [%d, 443], action: accept}\n", i, i>>8, i&255, i+1000)
	}
	benchmark(b, parse(b, "policy.yaml", text.String()))
}

func addr(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// TestMemory holds what 100,000 forwards cost to compile.
func TestMemory(t *testing.T) {
	p := manyForwards(t, 100_000, true)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	const limit = 25 << 20
	if n := after.TotalAlloc - before.TotalAlloc; n > limit {
		t.Errorf("%d MiB were allocated, more than %d", n>>20, limit>>20)
	}
	runtime.KeepAlive(r)
}
