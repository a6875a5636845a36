//go:build vm

package packet

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What the kernel lacks is named, and nothing has changed then. This kernel
// lacks what is taken out of it: it does not find its loader of modules.
func TestVMKernelLacks(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	const loader = "/proc/sys/kernel/modprobe"
	before, err := os.ReadFile(loader)
	if err != nil {
		t.Fatal(err)
	}
	load := func(with string) {
		if err := os.WriteFile(loader, []byte(with), 0); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ module, want string }{
		{"nft_masq", "the module nft_masq (CONFIG_NFT_MASQ) is missing"},
		{"nft_fib_inet", "the module nft_fib_inet (CONFIG_NFT_FIB_INET) is missing"},
		{"nft_reject_inet", "the module nft_reject_inet (CONFIG_NFT_REJECT_INET) is missing"},
		{"nft_chain_nat", "the module nft_chain_nat (CONFIG_NFT_NAT) is missing"},
		{"nf_tables", "nftables (CONFIG_NF_TABLES): not supported by this kernel"},
	} {
		// With all of it once, so that the kernel has loaded the rest.
		load(string(before))
		policy := onlyUplink("eth0") + "forward: {default: reject}\n"
		g.apply(t, policy)
		g.delete(t)
		load("/none")
		for _, name := range withUsers(t, nil, c.module) {
			if out, err := exec.Command("busybox", "rmmod", name).CombinedOutput(); err != nil {
				t.Fatalf("remove %s: %v\n%s", name, err, out)
			}
		}
		out, err := exec.Command(g.program, "apply", "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state", filepath.Join(g.dir, "policy.yaml")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("without %s: %v, want %q\n%s", c.module, err, c.want, out)
		}
		if forwards := g.GW.GetSysctl("net.ipv4.ip_forward"); forwards != "0" {
			t.Errorf("without %s the gateway forwards", c.module)
		}
	}
	load(string(before))
	g.apply(t, onlyUplink("eth0"))
	answering(g.Server)
	opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
}

// withUsers appends a module and the loaded ones that use it to a list, users
// first.
func withUsers(t *testing.T, list []string, module string) []string {
	t.Helper()
	for _, user := range holders(t, module) {
		list = withUsers(t, list, user)
	}
	if slices.Contains(list, module) {
		return list
	}
	return append(list, module)
}

// holders reads /proc/modules: name, size, references, who refers, state.
func holders(t *testing.T, module string) []string {
	t.Helper()
	all, err := os.ReadFile("/proc/modules")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == module && f[3] != "-" {
			return strings.Split(strings.TrimSuffix(f[3], ","), ",")
		}
	}
	return nil
}

// With nf_tables alone, and neither what iptables-nft needs of it nor
// iptables-legacy, `backend: iptables` is refused, and nothing has changed then.
func TestVMKernelLacksIPTables(t *testing.T) {
	g := untouched(t, lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest()))
	file := []string{g.file(t, "policy.yaml", "version: 1\ngateway: {backend: iptables}\n"+onlyUplink("eth0"))}
	for _, lacking := range []bool{false, true} {
		if lacking {
			lacks(t, "nft_compat")
		}
		g.expects(t, 1, "plan", file, "not supported by this kernel")
		g.expects(t, 1, "apply", file, "not supported by this kernel")
		g.expects(t, 0, "status", nil, "none was applied")
		if left := g.sysctls(t); left != g.sysctl {
			t.Errorf("sysctls have changed\n%s", difference(g.sysctl, left))
		}
	}
	g.apply(t, onlyUplink("eth0"))
	g.delete(t)
}
