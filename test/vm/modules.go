package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that go into every machine, by the beginning of their path; what they depend on goes with
// them. The kernel asks for a module when it first needs it, as on any machine. No test loads one.
var wanted = [...]string{
	"kernel/net/netfilter/nf", "kernel/net/ipv4/netfilter/nf", "kernel/net/ipv6/netfilter/nf",
	"kernel/net/bridge/", "kernel/net/8021q/", "kernel/net/packet/", "kernel/net/sched/sch_netem",
	"kernel/drivers/net/veth", "kernel/drivers/net/dummy", "kernel/drivers/net/wireguard/",
	"kernel/drivers/net/vxlan",
	"kernel/drivers/net/ppp/ppp_async", "kernel/crypto/crc32c_generic",
}

// xtables are the modules of iptables.
func xtables() []string {
	return []string{"kernel/net/netfilter/x", "kernel/net/netfilter/ipset/", "kernel/net/ipv4/netfilter/ip", "kernel/net/ipv6/netfilter/ip"}
}

// modules adds the kernel's modules, with those that a machine has beside the wanted, and without those whose names
// begin with one of some words, and all that need one of these; and the lists by which modprobe finds them.
func (a *archive) modules(kernel string, with, without []string) error {
	found, err := filepath.Glob(filepath.Join(kernel, "lib/modules/*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("modules of %s: %v, %w", kernel, found, err)
	}
	from, to := found[0], "lib/modules/"+filepath.Base(found[0])
	dep, err := os.ReadFile(filepath.Join(from, "modules.dep"))
	if err != nil {
		return err
	}
	needs := map[string][]string{} // all that a module needs, the nearest first
	var files []string
	for line := range strings.Lines(string(dep)) {
		module, rest, _ := strings.Cut(line, ":")
		needs[module] = strings.Fields(rest)
		begins := func(with string) bool { return strings.HasPrefix(module, with) }
		if !slices.ContainsFunc(wanted[:], begins) && !slices.ContainsFunc(with, begins) {
			continue
		}
		all := append([]string{module}, needs[module]...)
		if !slices.ContainsFunc(all, func(file string) bool { return named(file, without) }) {
			files = append(files, all...)
		}
	}
	slices.Sort(files)
	var deps strings.Builder
	have := map[string]bool{} // by the name that the kernel gives it
	for _, file := range slices.Compact(files) {
		data, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			return err
		}
		a.file(to+"/"+file, 0o644, data)
		fmt.Fprintf(&deps, "%s: %s\n", file, strings.Join(needs[file], " "))
		have[moduleName(file)] = true
	}
	a.file(to+"/modules.dep", 0o644, []byte(deps.String()))
	return a.aliases(from, to, have)
}

// named says whether the name of a module begins with one of some words.
func named(file string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(moduleName(file), word) })
}

// aliases are what modules are asked for by: "alias nft-expr-masq nft_masq".
func (a *archive) aliases(from, to string, have map[string]bool) error {
	all, err := os.ReadFile(filepath.Join(from, "modules.alias"))
	if err != nil {
		return err
	}
	var ours strings.Builder
	for line := range strings.Lines(string(all)) {
		if words := strings.Fields(line); len(words) == 3 && have[words[2]] {
			ours.WriteString(line)
		}
	}
	a.file(to+"/modules.alias", 0o644, []byte(ours.String()))
	return nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}
