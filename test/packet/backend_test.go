package packet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// variant is what IPMASQ_TEST_BACKEND names: iptables-legacy or iptables-nft,
// which all gateways then use, or nothing for nftables.
func variant(t *testing.T) string {
	t.Helper()
	root, _, _ := strings.Cut(t.Name(), "/")
	ran.Store(root, true)
	name := os.Getenv("IPMASQ_TEST_BACKEND")
	switch name {
	case "", "nftables":
		return ""
	case "iptables-legacy", "iptables-nft":
		lab.Require(t, lab.Binary(name))
		return name
	}
	t.Fatalf("IPMASQ_TEST_BACKEND: there is no %s; there are nftables, iptables-legacy and iptables-nft", name)
	return ""
}

// nftablesOnly skips a test of what iptables cannot do and does not refuse.
func (g *gateway) nftablesOnly(t *testing.T, why string) {
	t.Helper()
	if g.variant != "" {
		g.skips(t, why)
	}
}

// refused is why the backend cannot have a policy, if that is what ipmasq has
// printed.
func (g *gateway) refused(stderr string) string {
	if g.variant == "" || !strings.Contains(stderr, "the iptables backend refuses") {
		return ""
	}
	return stderr
}

// withBackend has the program be one that finds the variant under the name of
// iptables, and that reads one more file with each policy, which names the
// backend.
func (g *gateway) withBackend(t *testing.T) {
	t.Helper()
	if g.variant == "" {
		return
	}
	bin := filepath.Join(g.dir, "bin")
	links(t, bin, g.variant)
	named := filepath.Join(bin, "backend.yaml")
	if err := os.WriteFile(named, []byte("version: 1\ngateway: {backend: iptables}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
PATH=%s:$PATH
export PATH
for word in "$@"; do
	case $word in *.yaml) exec %s "$@" %s ;; esac
done
exec %[2]s "$@"
`, bin, g.program, named)
	g.program = filepath.Join(bin, "ipmasq")
	if err := os.WriteFile(g.program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// links makes a folder in which a variant is called iptables.
func links(t *testing.T, bin, variant string) {
	t.Helper()
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"ip", "ip6"} {
		for _, end := range []string{"", "-save", "-restore"} {
			program, err := exec.LookPath(family + strings.TrimPrefix(variant, "ip") + end)
			if err == nil {
				err = os.Symlink(program, filepath.Join(bin, family+"tables"+end))
			}
			if err != nil && !os.IsExist(err) { // a second gateway of one topology
				t.Fatal(err)
			}
		}
	}
}

// saved is what iptables-save prints of both families, without counters and
// built-in chains that have nothing: those stay once they were looked at.
func (g *gateway) saved(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, family := range []string{"ip", "ip6"} {
		table := ""
		for line := range strings.Lines(g.GW.Run(t, family+strings.TrimPrefix(g.variant, "ip")+"-save")) {
			switch {
			case strings.HasPrefix(line, "*"):
				table = strings.TrimSpace(line)
			case strings.HasPrefix(line, "-A"), strings.HasPrefix(line, ":") && !strings.Contains(line, " ACCEPT "):
				line, _, _ = strings.Cut(line, " [")
				out.WriteString(family + " " + table + " " + strings.TrimSpace(line) + "\n")
			}
		}
	}
	return out.String()
}
