package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// lackingModules finds the modules that translate for a policy's helpers and are
// neither loaded nor built in. A kernel that has no modules, or a host that does
// not say what is built in, has nothing to tell.
func lackingModules(p *policy.Policy) []string {
	needed := natModules(p)
	if len(needed) == 0 {
		return nil
	}
	loaded, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil
	}
	builtin, err := os.ReadFile(filepath.Join("/lib/modules", string(bytes.TrimSpace(release)), "modules.builtin"))
	if err != nil {
		return nil
	}
	return lacking(needed, loaded, builtin)
}

// lacking takes the formats of proc(5) and kmod: "NAME SIZE ...", and
// "kernel/net/netfilter/NAME.ko".
func lacking(needed []string, loaded, builtin []byte) (out []string) {
	have := map[string]bool{}
	for line := range bytes.Lines(loaded) {
		if fields := bytes.Fields(line); len(fields) > 0 {
			have[string(fields[0])] = true
		}
	}
	for line := range bytes.Lines(builtin) {
		have[strings.TrimSuffix(filepath.Base(string(bytes.TrimSpace(line))), ".ko")] = true
	}
	for _, m := range needed {
		if !have[m] {
			out = append(out, m)
		}
	}
	return out
}

// natModules are the modules that translate for the helpers of a policy.
func natModules(p *policy.Policy) (out []string) {
	if p == nil {
		return nil
	}
	add := func(list []policy.Helper) {
		for _, x := range list {
			switch x.Name {
			case "sane", "netbios-ns":
			case "snmp":
				out = append(out, "nf_nat_snmp_basic")
			default:
				out = append(out, "nf_nat_"+strings.ReplaceAll(x.Name, "-", "_"))
			}
		}
	}
	for i := range p.Masquerade {
		add(p.Masquerade[i].Helpers)
	}
	for i := range p.SNAT {
		add(p.SNAT[i].Helpers)
	}
	for i := range p.PortForward {
		add(p.PortForward[i].Helpers)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
