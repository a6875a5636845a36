package iptables_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// BenchmarkWant translates 10,000 port forwards.
func BenchmarkWant(b *testing.B) {
	dir := b.TempDir()
	var lines strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&lines, "tcp/%d 192.168.1.%d:%d\n", 1+i, 2+i%250, 1000+i)
	}
	for name, text := range map[string]string{"map.txt": lines.String(), "policy.yaml": `version: 1
zones:
  lan: {interfaces: eth1, networks: 192.168.1.0/24}
  wan: {interfaces: eth0}
port_forward:
  - {name: vms, from: wan, map: {file: map.txt}}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	p, err := policy.Load([]string{filepath.Join(dir, "policy.yaml")}, policy.LoadOptions{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := iptables.Want(r.Ruleset); err != nil {
			b.Fatal(err)
		}
	}
}
