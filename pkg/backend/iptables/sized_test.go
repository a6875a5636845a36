package iptables_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// sized is a policy with sets of n addresses of each family, in each place that
// a set can stand in; those in but are left out.
func sized(t testing.TB, n int, but ...int) *ruleset.Ruleset {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for i := range n {
		if !slices.Contains(but, i) {
			fmt.Fprintf(&text, "11.%d.%d.%d\n2001:db8:bad:%x::/64\n", i>>15, i>>7&0xff, i<<1&0xff, 2*i)
		}
	}
	policyText := `version: 1
sets:
  blocked: {file: blocked.txt}
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00::/64"]}
  guest: {interfaces: [eth1], networks: "@blocked"}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan, except_destinations: "@blocked"}
port_forward:
  - {name: some, from: wan, protocol: tcp, ports: [80, 81], to: "192.168.1.2:8080", sources: "@blocked"}
  - {name: others, from: wan, protocol: tcp, ports: 90, to: "192.168.1.2:8080", except_sources: "@blocked"}
  - {name: moved, from: wan, protocol: tcp, ports: 8000-8010, to: "192.168.1.2:9000-9010"}
  - {name: far, from: wan, protocol: udp, ports: 5000-5002, sources: "@blocked", to: "192.168.1.3:7000-7002"}
  - {name: six, from: wan, protocol: tcp, ports: 100-103, to: "[fd00::2]:200-203"}
forward:
  rules:
    - {name: drops, from: lan, destinations: "@blocked", action: drop}
`
	for name, text := range map[string]string{"blocked.txt": text.String(), "policy.yaml": policyText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.Load([]string{filepath.Join(dir, "policy.yaml")}, policy.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Ruleset
}
