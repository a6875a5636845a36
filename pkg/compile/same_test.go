package compile_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
)

// TestSame holds that the same policy gives the same bytes.
func TestSame(t *testing.T) {
	t.Chdir("testdata")
	for _, name := range policies(t, ".", 25) {
		var first []byte
		for range 50 {
			p, facts := load(t, name+".yaml")
			r, err := compile.Compile(p, facts)
			if err != nil {
				t.Fatal(err)
			}
			got := text(t, r)
			if first == nil {
				first = got
			}
			if !bytes.Equal(got, first) {
				t.Fatalf("%s: not the same the second time", name)
			}
		}
	}
}

// TestOrder holds that the order in which a policy says things means nothing
// but for the entries that compete.
func TestOrder(t *testing.T) {
	const a = `version: 1
zones:
  lan: {interfaces: [eth1, eth2, "br-*"], networks: [10.0.0.0/16, "fd00::/64", 10.9.0.0/16]}
  inner: {interfaces: [eth2], networks: [10.0.7.0/24, 10.0.9.0/24]}
  wan: {interfaces: [ppp0, wwan0]}
sets:
  a: [198.51.100.1, 198.51.100.9]
  b: [203.0.113.0/24]
masquerade:
  - {name: m, from: [lan, inner], to: wan, sources: ["@a", "@b", 10.0.0.0/8], protocol: [tcp, udp], ports: [1, 2]}
port_forward:
  - {name: x, from: wan, protocol: [tcp, udp], ports: [80, 443], to: 10.0.0.1, sources: ["@a", 192.0.2.1, "@b"]}
  - {name: y, from: wan, protocol: tcp, ports: [81, 8000-8010], to: 10.0.0.2, sources: [192.0.2.1, 192.0.2.9]}
  - {name: z, from: [wan, inner], map: {tcp/1: 10.0.0.1, udp/2-3: 10.0.0.2, tcp/4: 10.0.0.3}}
  - {name: t, from: [wan, inner], protocol: [tcp, udp], ports: [90, 91, 9000-9009], except_ports: [91, 9005], to: [10.0.0.1, "10.0.0.2:7", "fd00::1"], log: true}
forward:
  rules:
    - {name: r, from: [lan, wan], to: [inner, lan], action: accept}
`
	const b = `forward:
  rules:
    - {action: accept, to: [lan, inner], name: r, from: [wan, lan]}
port_forward:
  - {name: t, log: true, to: [10.0.0.1, "10.0.0.2:7", "fd00::1"], except_ports: [9005, 91], ports: [9000-9009, 90-91], protocol: [udp, tcp], from: [inner, wan]}
  - {name: z, from: [inner, wan], map: {tcp/4: 10.0.0.3, udp/2-3: 10.0.0.2, tcp/1: 10.0.0.1}}
  - {name: y, from: wan, protocol: tcp, ports: [8000-8010, 81], to: 10.0.0.2, sources: [192.0.2.9, 192.0.2.1]}
  - {name: x, from: wan, protocol: [udp, tcp], ports: [443, 80], to: 10.0.0.1, sources: [192.0.2.1, "@b", "@a"]}
sets:
  b: [203.0.113.0/24]
  a: [198.51.100.9, 198.51.100.1]
masquerade:
  - {ports: [2, 1], protocol: [udp, tcp], name: m, from: [inner, lan], to: wan, sources: [10.0.0.0/8, "@b", "@a"]}
zones:
  wan: {interfaces: [wwan0, ppp0]}
  lan: {networks: [10.9.0.0/16, 10.0.0.0/16, "fd00::/64"], interfaces: ["br-*", eth2, eth1]}
  inner: {interfaces: [eth2], networks: [10.0.9.0/24, 10.0.7.0/24]}
version: 1
`
	var out [2]string
	for i, s := range []string{a, b} {
		r, err := compile.Compile(parse(t, "policy.yaml", s), compile.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		out[i] = string(text(t, r))
	}
	if out[0] == out[1] {
		return
	}
	first, second := strings.Split(out[0], "\n"), strings.Split(out[1], "\n")
	for i := range min(len(first), len(second)) {
		if first[i] != second[i] {
			t.Errorf("line %d: %s\nand: %s", i+1, first[i], second[i])
		}
	}
}

// TestConstantWork holds that a packet meets as many rules with 10,000 port
// forwards as with 10, however they are told apart.
func TestConstantWork(t *testing.T) {
	for name, entry := range map[string]func(i int) string{
		"plain":   func(i int) string { return fmt.Sprintf("ports: %d, to: 10.0.0.1", i+1) },
		"targets": func(i int) string { return fmt.Sprintf("ports: %d, to: '10.0.%d.%d:80'", i+1, i>>8, i&255) },
		"addresses": func(i int) string {
			return fmt.Sprintf("ports: 80, to: 10.0.0.1, address: %s", addr(1<<24+uint32(i)*2))
		},
		"sources": func(i int) string {
			return fmt.Sprintf("ports: 80, to: 10.0.0.1, sources: %s", addr(1<<24+uint32(i)*2))
		},
		"ranges": func(i int) string { return fmt.Sprintf("ports: %d-%d, to: 10.0.0.1", i*5+1, i*5+3) },
	} {
		t.Run(name, func(t *testing.T) {
			var sizes []string
			for _, n := range []int{10, 10_000} {
				var b strings.Builder
				b.WriteString("version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}\nport_forward:\n")
				for i := range n {
					fmt.Fprintf(&b, "  - {name: e%d, from: wan, protocol: tcp, %s}\n", i, entry(i))
				}
				r, err := compile.Compile(parse(t, "policy.yaml", b.String()), compile.Facts{})
				if err != nil {
					t.Fatal(err)
				}
				rules := 0
				for _, c := range r.Ruleset.Chains {
					rules += len(c.Rules)
				}
				sizes = append(sizes, fmt.Sprintf("%d chains, %d rules, %d sets, %d counters", len(r.Ruleset.Chains), rules, len(r.Ruleset.Sets), len(r.Ruleset.Counters)))
			}
			if sizes[0] != sizes[1] {
				t.Errorf("10 forwards: %s; 10,000: %s", sizes[0], sizes[1])
			}
		})
	}
}
