package policy

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"
)

func mapText(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "tcp/%d 10.%d.%d.%d:%d\n", i%65535+1, i>>16, i>>8&255, i&255, 8000+i%1000)
	}
	return b.Bytes()
}

func setText(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		// Odd multiples scatter the addresses, so that they have to be sorted.
		a := uint32(i) * 2654435761
		fmt.Fprintf(&b, "%d.%d.%d.%d\n", 1+a>>24%200, a>>16&255, a>>8&255, a&255)
	}
	return b.Bytes()
}

func yamlText(n int) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\nzones: {wan: {interfaces: ppp0}}\nport_forward:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: f%d, from: wan, protocol: tcp, ports: %d, to: 10.%d.%d.%d:80}\n", i, i%65535+1, i>>16, i>>8&255, i&255)
	}
	return b.Bytes()
}

const mapPolicy = "version: 1\nzones: {wan: {interfaces: ppp0}}\nport_forward: {from: wan, map: {file: vms.txt}}\n"
const setPolicy = "version: 1\nsets: {bad: {file: bad.txt}}\n"

func always(text []byte) opener {
	return func(string) ([]byte, error) { return text, nil }
}

// retained is what the heap holds more than before. The texts are not counted,
// because the caller has them already.
func retained(parse func() *Policy) (p *Policy, bytes uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p = parse()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return p, after.HeapAlloc - before.HeapAlloc
}

func benchmark(b *testing.B, policy, referred []byte) {
	run := func() *Policy {
		p, err := parse("policy.yaml", policy, always(referred))
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	p, bytes := retained(run)
	runtime.KeepAlive(p)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
	b.ReportMetric(float64(bytes)/1e6, "MB-retained")
}

func BenchmarkMapFile100k(b *testing.B) { benchmark(b, []byte(mapPolicy), mapText(100_000)) }
func BenchmarkMapFile1M(b *testing.B)   { benchmark(b, []byte(mapPolicy), mapText(1_000_000)) }
func BenchmarkSetFile1M(b *testing.B)   { benchmark(b, []byte(setPolicy), setText(1_000_000)) }
func BenchmarkYAML100k(b *testing.B)    { benchmark(b, yamlText(100_000), nil) }

// TestBigFiles guards against a reader that is slow by an order of magnitude;
// the limits are far above what is measured, for the sake of busy machines.
func TestBigFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("big files")
	}
	for _, c := range []struct {
		name   string
		policy string
		file   []byte
		limit  time.Duration
		count  func(*Policy) int
		want   int
	}{
		{"map 100k", mapPolicy, mapText(100_000), time.Second, func(p *Policy) int { return len(p.PortForward[0].Map.Lines) }, 100_000},
		{"map 1M", mapPolicy, mapText(1_000_000), 5 * time.Second, func(p *Policy) int { return len(p.PortForward[0].Map.Lines) }, 1_000_000},
		{"set 1M", setPolicy, setText(1_000_000), 5 * time.Second, func(p *Policy) int { return len(p.Sets[0].Addresses) }, 1_000_000},
	} {
		start := time.Now()
		p, err := parse("policy.yaml", []byte(c.policy), always(c.file))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		took := time.Since(start)
		if n := c.count(p); n < c.want*3/4 || n > c.want {
			t.Errorf("%s: %d items", c.name, n)
		}
		if took > c.limit {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}
