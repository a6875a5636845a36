package backend

import (
	"context"
	"os/exec"
	"slices"
	"strings"
)

// HelperModule is the module of a helper of the kernel.
func HelperModule(helper string) string {
	switch helper {
	case "RAS", "Q.931":
		helper = "h323"
	}
	return "nf_conntrack_" + strings.ReplaceAll(helper, "-", "_")
}

// NATModules are the modules that translate what helpers read, each once. The
// kernel itself loads the module of a helper that rules assign, and not the one
// that translates (nf_nat_helper_try_module_get has other callers).
func NATModules(helpers []string) []string {
	var out []string
	for _, h := range helpers {
		switch h {
		case "sane", "netbios-ns":
		case "snmp":
			out = append(out, "nf_nat_snmp_basic")
		default:
			out = append(out, strings.Replace(HelperModule(h), "nf_conntrack_", "nf_nat_", 1))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LoadModules has modprobe load modules. It does not matter where there is no
// modprobe, or where it may not: the modules are built in then, or the host has
// loaded them, and nobody can tell.
func LoadModules(ctx context.Context, names []string) {
	if len(names) == 0 {
		return
	}
	path, err := exec.LookPath("modprobe")
	if err != nil {
		path = "/sbin/modprobe" // of a root without sbin in PATH
	}
	_ = exec.CommandContext(ctx, path, append([]string{"-q", "-a", "--"}, names...)...).Run()
}
