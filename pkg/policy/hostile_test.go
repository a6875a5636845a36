package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHostile is texts that were made to be slow to read, or that once were.
// What takes time by the square of its length misses the limit by far.
func TestHostile(t *testing.T) {
	const n = 100_000
	numbered := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	zones := "version: 1\nzones: {" + numbered("z%d: {interfaces: a}, ", 2000) + "}\n"
	for what, text := range map[string]string{
		"comments":            strings.Repeat("# c\n", n) + "version: 1\n" + strings.Repeat("# c\n", n),
		"comments in a list":  "version: 1\nsets: {a: [\n" + strings.Repeat("10.0.0.1, # c\n", n) + "]}\n",
		"one long line":       "version: 1\nsets: {a: [" + strings.Repeat("10.0.0.1, ", n) + "]}\n",
		"that is not ASCII":   "version: 1\nsets: {a: [" + strings.Repeat("ü, ", n/4) + "]}\n",
		"many keys":           "version: 1\nsets:\n" + numbered("  a%d: 10.0.0.1\n", n),
		"one key many times":  "version: 1\nsets:\n" + strings.Repeat("  a: 10.0.0.1\n", n),
		"unknown keys":        "version: 1\n" + numbered("a%d: 10.0.0.1\n", n),
		"nested lists":        strings.Repeat("- ", n),
		"nested keys":         strings.Repeat("? ", n),
		"nested brackets":     strings.Repeat("[", n),
		"nested braces":       strings.Repeat("{a: ", n),
		"an open quote":       "\"" + strings.Repeat("a\n", n),
		"anchors":             "version: 1\nsets:\n" + numbered("  a%[1]d: &a%[1]d 10.0.0.1\n", n),
		"aliases":             "version: 1\nsets: {a: [&a 10.0.0.1" + strings.Repeat(", *a", n-10) + "]}",
		"a list of zones":     "version: 1\nmasquerade: {to: a, from: [" + numbered("a%d, ", n/4) + "]}",
		"unknown zones":       zones + "masquerade:\n" + strings.Repeat("  - {from: nirvana, to: z1}\n", n/10),
		"overlapping ports":   zones + "port_forward: {from: z1, to: 10.0.0.1, protocol: tcp, ports: [" + strings.Repeat("1-65535, ", n/4) + "]}",
		"overlapping except":  zones + "port_forward: {from: z1, to: 10.0.0.1, protocol: tcp, ports: [" + strings.Repeat("1-65534, ", n/4) + "], except_ports: [" + strings.Repeat("1-65534, ", n/4) + "]}",
		"tabs":                strings.Repeat("\ta\n", n),
		"many documents":      "version: 1\n" + strings.Repeat("---\na\n", n),
		"a long file name":    "version: 1\nsets: {a: {file: " + strings.Repeat("a/", n) + "}}",
		"a very long name":    "version: 1\nzones: {" + strings.Repeat("a", n) + ": {interfaces: a}}",
		"deep aliases":        "version: 1\nsets:\n  a0: &a0 [10.0.0.1]\n" + numbered("  a: &a%[1]d [*a0]\n", n/10),
		"exceptions":          zones + "port_forward: {from: z1, to: 10.0.0.1, protocol: tcp, ports: [" + numbered("%d, ", 20_000) + "], except_ports: [" + numbered("%d, ", 10_000) + "]}",
		"many services":       zones + "one_to_one: {name: a, zone: z1, outside: 192.0.2.1, inside: 10.0.0.1, expose: [" + numbered("tcp/%d, ", n/2) + "]}",
		"many targets":        zones + "port_forward: {from: z1, protocol: tcp, ports: 1, to: [" + numbered("10.0.0.1:%d, ", n/2) + "]}",
		"a pool of many":      zones + "snat: {from: z0, to: z1, addresses: [" + strings.Repeat("10.0.0.1, ", n/4) + "]}",
		"offload of many":     zones + "gateway: {offload: {zones: [" + numbered("z%d, ", n/4) + "]}}",
		"entries of one name": zones + "masquerade:\n" + strings.Repeat("  - {from: z0, to: z1}\n", n/4),
	} {
		start := time.Now()
		_, err := parse("policy.yaml", []byte(text), always(nil))
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%s: %v for %d bytes", what, took, len(text))
		} else if testing.Verbose() && took > 300*time.Millisecond {
			errs, _ := err.(Errors)
			t.Logf("%s: %v for %d bytes, %d errors", what, took, len(text), len(errs))
		}
	}
}
