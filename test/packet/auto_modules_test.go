//go:build vm

package packet

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// lacks takes modules out of the kernel, those that use them first, and their files away, so that the kernel does not
// find them again before the test ends. Others may be asked of it all the same.
func lacks(t *testing.T, modules ...string) {
	t.Helper()
	gone := map[string]bool{}
	for _, module := range modules {
		for _, name := range withUsers(t, nil, module) {
			gone[name] = true
		}
	}
	err := filepath.WalkDir("/lib/modules", func(path string, d fs.DirEntry, err error) error {
		name, isModule := strings.CutSuffix(filepath.Base(path), ".ko")
		if err != nil || !isModule || !gone[strings.ReplaceAll(name, "-", "_")] {
			return err
		}
		t.Cleanup(func() {
			if err := os.Rename(path+".away", path); err != nil {
				t.Error(err)
			}
		})
		return os.Rename(path, path+".away")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range modules {
		// Namespaces of tests before this one may still be there, with rules in them.
		var said error
		if !within(func() bool {
			said = nil
			for _, name := range withUsers(t, nil, module) {
				out, err := exec.Command("busybox", "rmmod", name).CombinedOutput()
				if err != nil && !strings.Contains(string(out), "No such file") {
					said = errors.Join(said, errors.New(string(out)))
				}
			}
			return said == nil
		}) {
			t.Fatalf("the module %s stays: %v", module, said)
		}
	}
}

// What a kernel without nf_tables also lacks of iptables is named, by plan and by
// apply, with what to do; and nothing has changed then.
func TestVMAutoLacks(t *testing.T) {
	g := automatic(t)
	file := []string{filepath.Join(g.dir, "policy.yaml")}
	for module, words := range map[string][]string{
		"ip_tables": {"ipmasq: error: gateway.backend: auto: nothing works here: nftables (CONFIG_NF_TABLES): not supported by this kernel",
			"; iptables-legacy (CONFIG_IP_NF_IPTABLES): not supported by this kernel: the module ip_tables is missing; install the module nf_tables of the running kernel"},
		"ip6_tables":           {"the module ip6_tables (CONFIG_IP6_NF_IPTABLES) is missing"},
		"iptable_nat":          {"the module iptable_nat (CONFIG_IP_NF_NAT) is missing"},
		"xt_comment":           {"comment of iptables is missing (a module such as xt_comment or ip"},
		"xt_MASQUERADE":        {"policy.yaml:8:5: masquerade lan-wan: the kernel refuses", "MASQUERADE of iptables is missing (a module such as xt_MASQUERADE or ip"},
		"nf_conntrack_netlink": {"the module nf_conntrack_netlink (CONFIG_NF_CT_NETLINK) is missing"},
	} {
		t.Run(module, func(t *testing.T) {
			lacks(t, module)
			g.expects(t, 1, "plan", file, words...)
			g.expects(t, 1, "apply", file, words...)
			if module == "ip_tables" { // nothing can be in force
				g.expects(t, 1, "status", nil, "nftables (CONFIG_NF_TABLES): not supported by this kernel")
				g.expects(t, 2, "doctor", file, "broken: the kernel has no nftables")
				return
			}
			g.leaves(t)
		})
	}
	// One that goes while rules are in force is no reason to keep them.
	t.Run("later", func(t *testing.T) {
		g.expects(t, 0, "apply", file, "applied and read back")
		answering(g.Server)
		opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
		lacks(t, "nf_conntrack_netlink")
		const missing = "count and cut flows: not supported by this kernel: the module nf_conntrack_netlink (CONFIG_NF_CT_NETLINK) is missing"
		g.expects(t, 0, "status", nil, "as applied", "ipmasq: warning: flows are not counted by entry: "+missing)
		g.expects(t, 0, "delete", nil, "removed iptables-legacy", "ipmasq: warning: no flow is cut", missing)
		g.leaves(t)
	})
	// Without the programs there is nothing that could work either.
	t.Run("no programs", func(t *testing.T) {
		t.Setenv("PATH", g.dir)
		for command, code := range map[string]int{"plan": 1, "apply": 1} {
			g.expects(t, code, command, file, "nothing works here: nftables (CONFIG_NF_TABLES): not supported by this kernel", "iptables-legacy: there is no such program in PATH", "and the program iptables")
		}
	})
	g.leaves(t)
}
