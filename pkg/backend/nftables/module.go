//go:build linux

package nftables

import (
	"context"
	"os/exec"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// helperModule is the module of a helper of the kernel.
func helperModule(helper string) string {
	switch helper {
	case "RAS", "Q.931":
		helper = "h323"
	}
	return "nf_conntrack_" + strings.ReplaceAll(helper, "-", "_")
}

// natModule is the module that translates what a helper reads, or "".
func natModule(helper string) string {
	switch helper {
	case "sane", "netbios-ns":
		return ""
	case "snmp":
		return "nf_nat_snmp_basic"
	}
	return strings.Replace(helperModule(helper), "nf_conntrack_", "nf_nat_", 1)
}

// natModules are the modules that the helpers to be made need beside their own.
func natModules(changes *plan.Changes) []string {
	var out []string
	for _, c := range changes.Objects {
		if c.To < 0 || c.Kind == plan.Keep || changes.To.Objects[c.To].Kind != plan.CtHelper {
			continue
		}
		if m := natModule(helperOf(&changes.To.Objects[c.To])); m != "" {
			out = append(out, m)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// loadModules has modprobe load modules. For an object of nftables the kernel
// itself loads the module of its helper and not the one that translates
// (net/netfilter/nft_ct.c; nf_nat_helper_try_module_get has other callers). It
// does not matter where there is no modprobe, or where it may not: the modules
// are built in then, or the host has loaded them, and nobody can tell.
func loadModules(ctx context.Context, names []string) {
	if len(names) == 0 {
		return
	}
	path, err := exec.LookPath("modprobe")
	if err != nil {
		path = "/sbin/modprobe" // of a root without sbin in PATH
	}
	_ = exec.CommandContext(ctx, path, append([]string{"-q", "-a", "--"}, names...)...).Run()
}
