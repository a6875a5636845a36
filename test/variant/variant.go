// Package variant has tests of the program run on iptables that were written for
// nftables, by one variable of the environment.
//
// The tests go on as they are: they run another program, which finds the variant
// under the name of iptables and reads one more file with each policy.
package variant

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Backend is the variable of the environment that names what all gateways use:
// "iptables-legacy", "iptables-nft", or "nftables", which nothing is too.
const Backend = "IPMASQ_TEST_BACKEND"

// All are the variants of iptables.
func All() []string { return []string{"iptables-legacy", "iptables-nft"} }

// Named is the variant that the environment names, "" is nftables.
func Named(t lab.TB) string {
	t.Helper()
	switch name := os.Getenv(Backend); {
	case name == "" || name == "nftables":
		return ""
	case slices.Contains(All(), name):
		lab.Require(t, lab.Binary(name))
		return name
	default:
		t.Fatalf("%s: there is no %s; there are nftables, %s", Backend, name, strings.Join(All(), ", "))
		return ""
	}
}

// Program makes a program that works on iptables, in a folder of its own below
// dir; the name of the file is ipmasq, as that of the other. It gives the other
// one for nftables.
func Program(t lab.TB, dir, variant, program string) string {
	t.Helper()
	if variant == "" {
		return program
	}
	bin := filepath.Join(dir, "bin")
	Links(t, bin, variant)
	named := filepath.Join(bin, "backend.yaml")
	if err := os.WriteFile(named, []byte("version: 1\ngateway: {backend: iptables}\n"), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	// What the program says to do names both files.
	script := fmt.Sprintf(`#!/bin/sh
PATH=%[1]s:$PATH
export PATH
for word in "$@"; do
	[ "$word" != %[3]s ] || exec %[2]s "$@"
done
for word in "$@"; do
	case $word in *.yaml) exec %[2]s "$@" %[3]s ;; esac
done
exec %[2]s "$@"
`, bin, program, named)
	wrapped := filepath.Join(bin, "ipmasq")
	if err := os.WriteFile(wrapped, []byte(script), 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	return wrapped
}

// Links makes a folder in which a variant is called iptables.
func Links(t lab.TB, bin, variant string) {
	t.Helper()
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	for _, family := range []string{"ip", "ip6"} {
		for _, end := range []string{"", "-save", "-restore"} {
			program, err := exec.LookPath(family + strings.TrimPrefix(variant, "ip") + end)
			if err == nil {
				err = os.Symlink(program, filepath.Join(bin, family+"tables"+end))
			}
			if err != nil && !os.IsExist(err) { // a second gateway of one topology
				t.Fatalf("%v", err)
			}
		}
	}
}

// Saved is what [Tables] has, a line for each rule and chain.
func Saved(t lab.TB, host *lab.Host, variant string) string {
	t.Helper()
	tables := Tables(t, host, variant)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		family, table, _ := strings.Cut(name, " ")
		for line := range strings.Lines(tables[name]) {
			out.WriteString(family + " *" + table + " " + line)
		}
	}
	return out.String()
}

// Tables is what iptables-save prints of both families, by names such as "ip6 nat",
// without counters and built-in chains that have nothing: those stay once they were
// looked at.
func Tables(t lab.TB, host *lab.Host, variant string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, family := range []string{"ip", "ip6"} {
		table := ""
		for line := range strings.Lines(host.Run(t, family+strings.TrimPrefix(variant, "ip")+"-save")) {
			switch {
			case strings.HasPrefix(line, "*"):
				table = family + " " + strings.TrimSpace(line[1:])
			case strings.HasPrefix(line, "-A"):
				out[table] += strings.TrimSpace(line) + "\n"
			case strings.HasPrefix(line, ":") && !strings.Contains(line, " ACCEPT "):
				line, _, _ = strings.Cut(line, " [")
				out[table] += line + "\n"
			}
		}
	}
	return out
}
